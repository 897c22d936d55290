"""The processes that a test has started."""

import psutil

# Python's own helper of multiprocessing lives as long as the interpreter does.
_LASTING = "multiprocessing.resource_tracker"


def children() -> dict[psutil.Process, str]:
    """Return this process' descendants with their command lines."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline()) or process.name()
        except psutil.NoSuchProcess:
            continue
        except psutil.ZombieProcess:  # pragma: no cover - ended and not waited for
            command = "ended, not waited for"
        if _LASTING not in command:
            found[process] = command
    return found
