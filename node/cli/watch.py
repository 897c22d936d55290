"""The loop behind ``--watch``: ask the daemon, show the answer, until the run is finished.

A daemon that goes away while it is watched is waited for: it may be started anew.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer
from rich.console import Console
from rich.live import Live

from skerry.node.cli.options import Format
from skerry.node.cli.output import message_to_dict, print_json
from skerry.node.cli.plain import plain_lines, summary_line
from skerry.node.cli.view import Screen
from skerry.node.cli.watched import Watched
from skerry.node.home import Home
from skerry.protocol.errors import DaemonError

VIEW_SECONDS = 0.5
LINE_SECONDS = 2.0
_TERMINATED = 128 + signal.SIGTERM
"""Exit code, as shells have it."""


def watch(home: Home, output: Format = Format.TEXT) -> None:
    """Show the status until the run is finished. Raises: SK-DMN-001 if no daemon runs at first.

    On a terminal one screen is drawn over and over; elsewhere each change is one line.
    """
    with Watched(home) as watched:
        _first_look(watched, home)
        if output is Format.TEXT and _is_terminal():
            _watch_terminal(watched)
        else:
            _watch_lines(watched, output)


def show(home: Home) -> None:
    """Print one status: the view on a terminal, plain lines elsewhere. Raises: SkerryError."""
    with Watched(home) as watched:
        _first_look(watched, home)
        if _is_terminal():
            Console().print(Screen(watched.moment().without_events()))
            return
        for line in plain_lines(watched.moment()):
            typer.echo(line)


def _first_look(watched: Watched, home: Home) -> None:
    if watched.look():
        return
    if home.in_use:
        detail = f"the daemon behind {home.control_socket} did not answer in time"
    else:
        detail = f"nothing listens at {home.control_socket}"
    raise DaemonError("SK-DMN-001", detail)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _watch_terminal(watched: Watched) -> None:
    console = Console()
    try:
        with _terminable(), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                screen = Screen(watched.moment(), console.size.height)
                live.update(screen, refresh=True)
                if watched.over:
                    return
                time.sleep(VIEW_SECONDS)
                watched.look()
    finally:  # the terminal shows what it did before; what was seen last stays below it
        console.print(Screen(watched.moment().without_events()))


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM leave the screen as Ctrl-C does, so that the terminal is given back."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(_TERMINATED)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _watch_lines(watched: Watched, output: Format) -> None:
    last = ""
    while True:
        moment = watched.moment()
        if moment.notice:
            last = _say_once(watched.trouble, last, output)
        elif output is Format.JSON:
            print_json(message_to_dict(moment.status))
            last = ""
        else:
            last = _say_once(summary_line(moment), last, output)
        sys.stdout.flush()
        if watched.over:
            return
        time.sleep(LINE_SECONDS)
        watched.look()


def _say_once(line: str, last: str, output: Format) -> str:
    """Print a line that differs from the last one; beside JSON, on stderr."""
    if line != last:
        typer.echo(line, err=output is Format.JSON)
    return line
