"""What holds for every test: nothing that it started or opened outlives it."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # for the modules that many tests share

from own_processes import children

# Hypothesis fails a test whose examples take long or are drawn slowly: on a busy machine any may.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# As the daemon has it (node/cli/main.py): some tests run parts of it in this process.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

_PATIENCE_S = 60.0
"""For what is ending already; far more than it takes, since the machine may be busy."""
_POLL_S = 0.02

# A shell has its background jobs ignore these, and what ignores a signal hands that on to the
# processes it starts. With a handler of its own it hands on the default, so that tests see the
# same behind ``&`` and nohup; this process itself goes on ignoring them.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda number, frame: None)


def _open_files() -> set[str]:
    return {entry.path for entry in psutil.Process().open_files()}


def _left_open(before: set[str]) -> set[str]:
    """Return the files that were not open before and stay so: a thread may be closing one."""
    deadline = time.monotonic() + _PATIENCE_S
    while (left := _open_files() - before) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return left


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a process running or a file open."""
    before, files = set(children()), _open_files()
    yield
    started = {process: text for process, text in children().items() if process not in before}
    _, alive = psutil.wait_procs(started, timeout=_PATIENCE_S)
    for process in alive:  # or it would disturb the tests that follow
        process.kill()
    psutil.wait_procs(alive, timeout=_PATIENCE_S)
    left = [f"process {process.pid}: {started[process]}" for process in alive]
    left += [f"open file: {path}" for path in sorted(_left_open(files))]
    assert not left, "left behind: " + "; ".join(left)
