"""The service manager of this machine: which one there is, and how it is asked."""

import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Protocol

from skerry.node.environment import environment_errors
from skerry.node.home import Home
from skerry.node.service.definition import Service
from skerry.protocol.blobs import write_atomic
from skerry.protocol.errors import DaemonError

_COMMAND_SECONDS = 240.0
"""A start is waited for until the daemon answers, or the manager gives up."""


class Manager(Protocol):
    """Installs services for this user; systemd.py and launchd.py."""

    def install(self, home: Home, service: Service) -> list[str]:
        """Have it run now and from now on; return what was done, in lines.

        Doing it again changes what differs and nothing else. Raises: DaemonError, StateError.
        """

    def uninstall(self, service: Service) -> list[str]:
        """Stop it and forget it; return what was done. Raises: DaemonError, StateError."""


def find_manager() -> Manager:
    """Return the manager of this machine. Raises: DaemonError("SK-DMN-007") if there is none."""
    from skerry.node.service.launchd import Launchd
    from skerry.node.service.systemd import Systemd

    return Launchd() if sys.platform == "darwin" else Systemd()


def ask(*command: str, code: str = "SK-DMN-008") -> str:
    """Run a manager's command and return its output.

    Raises: DaemonError ``code`` with what it said, SK-DMN-007 if there is no such command.
    """
    if which(command[0]) is None:
        raise DaemonError("SK-DMN-007", f"there is no {command[0]} on this machine")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        detail = f"{' '.join(command)} took longer than {_COMMAND_SECONDS:.0f} s"
        raise DaemonError(code, detail) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise DaemonError(code, f"{' '.join(command)}: {said[:300]}")
    return done.stdout


def put_file(path: Path, content: bytes) -> bool:
    """Write a file of a manager; return whether it changed. Raises: StateError."""
    with environment_errors():
        if path.exists() and path.read_bytes() == content:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    return True


def check_home_free(home: Home, runs: bool) -> None:
    """Refuse a home that a daemon outside of the service uses. Raises: SK-DMN-002."""
    if home.in_use and not runs:
        detail = f"a daemon that is no service uses {home.path}; end it with skerry stop first"
        raise DaemonError("SK-DMN-002", detail)
