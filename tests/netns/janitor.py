"""Removing a lab's namespaces with all that runs in them, whatever happens to the test.

Run as a program it waits for the end of its input, whose other end the test holds: the kernel
closes that also when the test is killed, by a signal that nobody can handle. Only the standard
library is used, since it is started without any other (``python -I -S``).
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

NAMESPACES = Path("/run/netns")
_PATIENCE_S = 30.0
"""How long processes may take to end in good order."""
_POLL_S = 0.05


def remove(prefix: str) -> None:
    """Remove all namespaces whose names begin with ``prefix``, first what runs in them.

    Raises: RuntimeError naming what is left, and why.
    """
    names = sorted(path.name for path in NAMESPACES.glob(f"{prefix}*"))
    end({pid for name in names for pid in _inside(name)})
    refused = [said for name in names if (said := _run("del", name)) and _exists(name)]
    if refused:
        raise RuntimeError("; ".join(refused))


def end(pids: set[int]) -> None:
    """End processes: politely those that are nobody's child among them, they end their own."""
    for pid in [pid for pid in pids if _parent(pid) not in pids]:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE_S
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for pid in alive(pids):
        _signal(pid, signal.SIGKILL)


def _inside(name: str) -> set[int]:
    told = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    return {int(pid) for pid in told.stdout.split()}


def _run(verb: str, name: str) -> str:
    """Return what ``ip`` complained of, empty if it did not."""
    told = subprocess.run(["ip", "netns", verb, name], capture_output=True, text=True)
    return f"{name}: {told.stderr.strip()}" if told.returncode else ""


def _exists(name: str) -> bool:
    return (NAMESPACES / name).exists()


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def alive(pids: set[int]) -> set[int]:
    """Return those that have not ended; one that nobody has waited for yet has."""
    return {pid for pid in pids if _stat(pid)[:1] not in ([], ["Z"])}


def _parent(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[1]) if stat else 0


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none of a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def born(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; empty if it is gone."""
    stat = _stat(pid)
    return stat[19] if stat else ""


if __name__ == "__main__":
    sys.stdin.buffer.read()
    remove(sys.argv[1])
