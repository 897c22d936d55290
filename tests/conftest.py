"""What holds for every test: nothing that it started or opened outlives it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_run

# Python's own helper of multiprocessing lives as long as the interpreter does.
_LASTING = "multiprocessing.resource_tracker"
_PATIENCE_S = 10.0


def _children() -> dict[psutil.Process, str]:
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


def _open_files() -> set[str]:
    return {entry.path for entry in psutil.Process().open_files()}


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a process running or a file open."""
    children, files = set(_children()), _open_files()
    yield
    started = {process: text for process, text in _children().items() if process not in children}
    _, alive = psutil.wait_procs(started, timeout=_PATIENCE_S)
    for process in alive:  # or it would disturb the tests that follow
        process.kill()
    left = [f"process {process.pid}: {started[process]}" for process in alive]
    left += [f"open file: {path}" for path in sorted(_open_files() - files)]
    assert not left, "left behind: " + "; ".join(left)
