"""The loop behind ``--watch``: ask the daemon, show the answer, until the run is finished.

A daemon that goes away while it is watched is waited for: it may be started anew.
"""

import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Self

import typer
from rich.console import Console
from rich.live import Live

from skerry.node.cli.events import event_text
from skerry.node.cli.figures import Figures, figures_of
from skerry.node.cli.options import Format
from skerry.node.cli.output import message_to_dict, print_json
from skerry.node.cli.plain import plain_lines, summary_line
from skerry.node.cli.view import Moment, Screen
from skerry.node.cli.wording import duration
from skerry.node.control_client import ControlClient
from skerry.node.home import Home
from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import DaemonError

VIEW_SECONDS = 0.5
LINE_SECONDS = 2.0
_FIRST_LINES = 2000
_NEW_LINES = 100
"""Asked for each time: more than a daemon writes between two looks."""
_NO_DAEMON = "SK-DMN-001"


class Watched:
    """The daemon of a home as it is watched: also while it is gone, and after it came back."""

    def __init__(self, home: Home) -> None:
        """Watch the daemon that answers for ``home``."""
        self._socket: Path = home.control_socket
        self._client: ControlClient | None = None
        self._lines: deque[str] = deque(maxlen=_FIRST_LINES)
        self.status = pb.StatusReply()
        """The newest answer."""
        self.gone_since: float | None = None
        """Since when no daemon answers, monotonic seconds; None while one does."""

    def __enter__(self) -> Self:
        """Use as a context manager to close the connection."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the connection."""
        self._close()

    def look(self) -> bool:
        """Ask once; say whether a daemon answered. Raises: SkerryError but SK-DMN-001."""
        # A new connection after each failure: a refused one waits ever longer before it tries.
        self._client = self._client or ControlClient(self._socket)
        try:
            self.status = self._client.status()
            self._read_log(self._client)
        except DaemonError as error:
            if error.code != _NO_DAEMON:
                raise
            self._close()
            self.gone_since = self.gone_since or time.monotonic()
            return False
        self.gone_since = None
        return True

    @property
    def figures(self) -> Figures:
        """What the event log adds."""
        return figures_of(self._lines, self.status.run.run_id)

    def moment(self) -> Moment:
        """Return what there is to draw."""
        notice = ""
        if self.gone_since is not None:
            ago = duration(time.monotonic() - self.gone_since)
            notice = (
                f"daemon not running, waiting for it to come back ({ago}); Ctrl-C ends the view"
            )
        events = [event_text(line) for line in list(self._lines)[-_NEW_LINES:]]
        return Moment(self.status, self.figures, events, time.time(), notice)

    def _read_log(self, client: ControlClient) -> None:
        newest = list(client.logs(_NEW_LINES if self._lines else _FIRST_LINES))
        self._lines.extend(newest[_seen(self._lines, newest) :])

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def watch(home: Home, output: Format = Format.TEXT) -> None:
    """Show the status until the run is finished. Raises: SK-DMN-001 if no daemon runs at first.

    On a terminal one screen is drawn over and over; elsewhere each change is one line.
    """
    with Watched(home) as watched:
        if not watched.look():
            raise DaemonError(_NO_DAEMON, f"nothing listens at {home.control_socket}")
        if output is Format.TEXT and _is_terminal():
            _watch_terminal(watched)
        else:
            _watch_lines(watched, output)


def show(home: Home) -> None:
    """Print one status: the view on a terminal, plain lines elsewhere. Raises: SkerryError."""
    with Watched(home) as watched:
        if not watched.look():
            raise DaemonError(_NO_DAEMON, f"nothing listens at {home.control_socket}")
        if _is_terminal():
            moment = watched.moment()
            Console().print(Screen(Moment(moment.status, moment.figures, (), moment.now)))
            return
        for line in plain_lines(watched.status, watched.figures):
            typer.echo(line)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _watch_terminal(watched: Watched) -> None:
    console = Console()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(Screen(watched.moment()), refresh=True)
                if watched.gone_since is None and watched.status.run.finished:
                    return
                time.sleep(VIEW_SECONDS)
                watched.look()
    finally:  # the screen of before is back; what was seen last stays below it
        last = watched.moment()
        console.print(Screen(Moment(last.status, last.figures, (), last.now, last.notice)))


def _watch_lines(watched: Watched, output: Format) -> None:
    last = ""
    while True:
        if watched.gone_since is not None:
            last = _say_once("daemon not running, waiting for it to come back", last, output)
        elif output is Format.JSON:
            print_json(message_to_dict(watched.status))
            last = ""
        else:
            last = _say_once(summary_line(watched.status, watched.figures), last, output)
        sys.stdout.flush()
        if watched.gone_since is None and watched.status.run.finished:
            return
        time.sleep(LINE_SECONDS)
        watched.look()


def _say_once(line: str, last: str, output: Format) -> str:
    """Print a line that differs from the last one; beside JSON, on stderr."""
    if line != last:
        typer.echo(line, err=output is Format.JSON)
    return line


def _seen(known: deque[str], newest: list[str]) -> int:
    """Return how many of the newest lines are known: all up to the last one known."""
    if known:
        for index in range(len(newest) - 1, -1, -1):
            if newest[index] == known[-1]:
                return index + 1
    return 0
