"""Starting a daemon in the background, and using the one that runs."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import typer
from rich.console import Console

from skerry.node.cli.options import DaemonFlags
from skerry.node.control_client import ControlClient
from skerry.node.home import Home
from skerry.protocol.blobs import disk_errors
from skerry.protocol.errors import DaemonError, SkerryError, StateError, from_code

START_SECONDS = 300.0
"""Only a daemon that hangs takes so long; a cold start with every processor busy took 40 s."""
STOP_SECONDS = 60.0
"""The daemon bounds its end itself, to 10 s if it gets to run."""
_POLL_SECONDS = 0.1
_CODED_LINE = re.compile(r"^error (SK-[A-Z]+-[0-9]{3}): (.*)$", re.MULTILINE)


@contextmanager
def daemon_for(home: Home, flags: DaemonFlags) -> Iterator[ControlClient]:
    """Yield a client of the home's daemon, started first if none runs.

    A daemon that was started for a command that then fails is stopped again.
    """
    started = not answers(home)
    if started:
        start_daemon(home, flags)
    elif flags.arguments():
        ignored = " ".join(flags.arguments())
        typer.echo(f"warning: a daemon already runs, so {ignored} has no effect", err=True)
    succeeded = False
    with ControlClient(home.control_socket) as client:
        try:
            yield client
            succeeded = True
        finally:
            if started and not succeeded:
                with suppress(SkerryError):
                    stop_daemon(home, client)


def answers(home: Home) -> bool:
    """Say whether a daemon answers for this home; a hung one raises SK-DMN-001."""
    if not home.in_use:
        return False
    with ControlClient(home.control_socket) as client:
        client.status()
    return True


def start_daemon(home: Home, flags: DaemonFlags) -> "subprocess.Popen[bytes]":
    """Start a daemon that outlives this process; return when it answers.

    Raises: the error it ended with, DaemonError("SK-DMN-005") if it said nothing or was not
    ready in START_SECONDS (it is then ended).
    """
    home.create()
    try:
        with disk_errors(), home.log_file.open("ab") as log:
            log_start = log.tell()
            child = subprocess.Popen(
                _command(home, flags),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",  # whose folder it was started in may be unmounted
            )
    except OSError as error:
        raise StateError("SK-DSK-003", f"{home.log_file}: {error.strerror}") from None
    with ExitStack() as undo:  # also on Ctrl-C: nothing half-started stays
        undo.callback(child.wait)
        undo.callback(child.terminate)
        with Console(stderr=True).status("Starting the daemon …"):
            _wait_until_ready(home, child, log_start)
        undo.pop_all()
    return child


def stop_daemon(home: Home, client: ControlClient) -> None:
    """Stop a daemon and wait until its home is free again.

    Raises: DaemonError("SK-DMN-001") if none answers, ("SK-DMN-006") if it does not end.
    """
    client.status(deadline=STOP_SECONDS)
    with suppress(DaemonError):  # one that ends fast may be gone before its answer is sent
        client.stop()
    deadline = time.monotonic() + STOP_SECONDS
    while home.in_use:
        if time.monotonic() > deadline:
            detail = f"the daemon of {home.path} still runs {STOP_SECONDS:.0f} s after the stop"
            raise DaemonError("SK-DMN-006", detail)
        time.sleep(_POLL_SECONDS)


def _command(home: Home, flags: DaemonFlags) -> list[str]:
    # -P: a file called like a module in the user's current folder must not be imported.
    module = [sys.executable, "-P", "-m", "skerry.node.cli.main"]
    return [*module, "daemon", f"--home={home.path}", *flags.arguments()]


def _wait_until_ready(home: Home, child: "subprocess.Popen[bytes]", log_start: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise _last_error(home, child.returncode, log_start)
        if _is_ready(home, child.pid):
            return
        time.sleep(_POLL_SECONDS)
    detail = f"no answer after {START_SECONDS:.0f} s; its log is {home.log_file}"
    raise DaemonError("SK-DMN-005", detail)


def _is_ready(home: Home, pid: int) -> bool:
    if not home.control_socket.exists():
        return False
    # A new connection each time: a refused one would wait ever longer before it tries again.
    with ControlClient(home.control_socket) as client, suppress(DaemonError):
        return client.status().pid == pid
    return False


def _last_error(home: Home, exit_code: int, log_start: int) -> SkerryError:
    """Return the coded error in what this daemon wrote, or one that points to the log."""
    with home.log_file.open("rb") as log:
        log.seek(log_start)
        text = log.read().decode("utf-8", "replace")
    found = _CODED_LINE.findall(text)
    if found:
        return from_code(*found[-1])
    lines = text.strip().splitlines()
    last = f": {lines[-1][:200]}" if lines else ""
    return DaemonError("SK-DMN-005", f"it ended with exit code {exit_code}{last}")
