"""What holds for every test: nothing that it started or opened outlives it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules that many tests share

from own_processes import children

_PATIENCE_S = 10.0


def _open_files() -> set[str]:
    return {entry.path for entry in psutil.Process().open_files()}


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a process running or a file open."""
    before, files = set(children()), _open_files()
    yield
    started = {process: text for process, text in children().items() if process not in before}
    _, alive = psutil.wait_procs(started, timeout=_PATIENCE_S)
    for process in alive:  # or it would disturb the tests that follow
        process.kill()
    left = [f"process {process.pid}: {started[process]}" for process in alive]
    left += [f"open file: {path}" for path in sorted(_open_files() - files)]
    assert not left, "left behind: " + "; ".join(left)
