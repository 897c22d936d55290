"""Daemons as separate processes with their own homes, and the certainty that none is left.

Every process started here, and whatever it starts in turn, carries a mark in its environment,
so that leftovers are found even when their parent is gone.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from skerry.node.control_client import ControlClient
from skerry.node.home import Home
from skerry.protocol.errors import DaemonError, SkerryError

START_SECONDS = 300.0
"""A cold start imports torch and hivemind from disk, several daemons at once."""
STOP_SECONDS = 60.0
"""A daemon that was told to stop leaves its run, stops p2pd and the compute process, all within
10 s if it gets to run."""
HASTY_SECONDS = 5.0
"""What a demo that is broken off or has failed leaves to its daemons."""
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, and a closed terminal."""
_POLL_SECONDS = 0.1
_MARK = "_SKERRY_DEMO"


@dataclass(frozen=True, slots=True)
class LocalDaemon:
    """One daemon of this machine."""

    name: str
    home: Home
    process: subprocess.Popen[bytes]
    client: ControlClient

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def check_running(self) -> None:
        """Raises: DaemonError("SK-DMN-005") if the process has ended by itself."""
        if not self.running:
            detail = f"{self.name} ended with exit code {self.process.returncode}"
            raise DaemonError("SK-DMN-005", f"{detail}; see {self.home.log_file}")

    def is_ready(self) -> bool:
        """Say whether the daemon takes commands yet. Raises: DaemonError if it has ended."""
        self.check_running()
        if not self.home.control_socket.exists():
            return False
        # Not self.client: a connection refused once waits ever longer before it tries again.
        with ControlClient(self.home.control_socket) as client, suppress(DaemonError):
            return client.status().pid == self.process.pid
        return False

    def wait_until_ready(self) -> None:
        """Wait until the daemon takes commands. Raises: DaemonError("SK-DMN-005")."""
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if time.monotonic() > deadline:
                detail = f"{self.name} did not answer within {START_SECONDS:.0f} s"
                raise DaemonError("SK-DMN-005", f"{detail}; see {self.home.log_file}")
            time.sleep(_POLL_SECONDS)


class LocalSwarm:
    """The daemons that one demo started. Use as a context: leaving it leaves no process."""

    def __init__(self, folder: Path) -> None:
        """Keep the homes in ``folder``."""
        self._folder = folder
        self._mark = secrets.token_hex(16)
        self.daemons: list[LocalDaemon] = []

    def __enter__(self) -> Self:
        """Begin; nothing is started yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End everything; a second Ctrl-C does not get in the way of that."""
        previous = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS}
        try:
            self._terminate()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def start(self, name: str, *flags: str) -> LocalDaemon:
        """Start a daemon with a fresh home and further flags; does not wait for it."""
        home = Home(self._folder / name)
        home.create()
        with home.log_file.open("ab") as log:
            process = subprocess.Popen(
                [*self.command(name, home), *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, _MARK: self._mark},
                start_new_session=True,  # Ctrl-C is for the demo, which stops them in order
            )
        daemon = LocalDaemon(name, home, process, ControlClient(home.control_socket))
        self.daemons.append(daemon)
        return daemon

    def command(self, name: str, home: Home) -> list[str]:
        """Return what starts the daemon ``name``."""
        # -P: a file called like a module in the user's current folder must not be imported.
        command = [sys.executable, "-P", "-m", "skerry.node.cli.main", "daemon"]
        return [*command, f"--home={home.path}", "--host=127.0.0.1", "--port=0", "--threads=1"]

    def kill(self, daemon: LocalDaemon) -> None:
        """End a daemon as a power cut would: SIGKILL, without a word to anyone."""
        daemon.process.kill()
        daemon.process.wait()
        daemon.client.close()

    def child(self, daemon: LocalDaemon, module: str) -> int:
        """Return the process id of what a daemon runs as ``python -m module``.

        Raises: DaemonError("SK-DMN-005") if there is no such process.
        """
        for pid, command in marked_processes(f"{_MARK}={self._mark}").items():
            with suppress(OSError):  # ended meanwhile
                parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
                if module in command and parent == str(daemon.process.pid):
                    return pid
        raise DaemonError("SK-DMN-005", f"{daemon.name} runs no {module}")

    def stop(self) -> tuple[str, ...]:
        """Stop all daemons in good order and name the processes that are there nonetheless."""
        for daemon in self.daemons:
            if daemon.running:
                _ask_to_stop(daemon)
        deadline = time.monotonic() + STOP_SECONDS
        while self._processes() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return tuple(f"{pid} {command}" for pid, command in sorted(self._processes().items()))

    def _terminate(self) -> None:
        """SIGTERM to the daemons, soon after SIGKILL to whatever is left."""
        for daemon in self.daemons:
            if daemon.running:
                daemon.process.terminate()
        deadline = time.monotonic() + HASTY_SECONDS
        while self._processes() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for pid in self._processes():
            with suppress(ProcessLookupError):  # ended meanwhile
                os.kill(pid, signal.SIGKILL)
        for daemon in self.daemons:
            daemon.process.wait()
            daemon.client.close()

    def _processes(self) -> dict[int, str]:
        """Processes that belong to this swarm: id and command."""
        found = {d.process.pid: f"skerry daemon ({d.name})" for d in self.daemons if d.running}
        return marked_processes(f"{_MARK}={self._mark}") | found


def marked_processes(variable: str) -> dict[int, str]:
    """Find the processes whose environment holds ``NAME=value``: process id → command.

    Reads /proc, so it finds nothing where there is none; only one's own processes are seen.
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            continue
        if variable.encode() in environment.split(b"\0"):
            found[int(folder.name)] = command.replace(b"\0", b" ").decode(errors="replace")[:200]
    return found


def _ask_to_stop(daemon: LocalDaemon) -> None:
    try:
        daemon.client.stop()
    except SkerryError:  # too busy or half dead: the signal is not to be overheard
        daemon.process.terminate()
