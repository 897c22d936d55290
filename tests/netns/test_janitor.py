"""A test that is broken off leaves neither networks nor processes, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import janitor
import pytest
from natlab import remove_abandoned

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]

_LAB = """
import subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from natlab import NatLab
with NatLab({"home": "cone"}) as lab:
    inside = subprocess.Popen([*lab.inside("home"), "sleep", "3600"])
    # Until then it is a process of the machine's own network, on its way into the other.
    while open(f"/proc/{inside.pid}/comm").read() != "sleep\\n":
        time.sleep(0.01)
    print(lab._mine, inside.pid, lab._janitor.pid, flush=True)
    time.sleep(3600)
"""
_PATIENCE_S = 120.0


class Lab:
    """A process that has built a network and waits in it."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _LAB, str(Path(__file__).parent)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        self.prefix, *pids = self.process.stdout.readline().split()
        self.inside, self.janitor = map(int, pids)
        assert self.namespaces and janitor.born(self.inside) and janitor.born(self.janitor)

    @property
    def namespaces(self) -> list[Path]:
        return list(janitor.NAMESPACES.glob(f"{self.prefix}*"))

    def end_by(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(_PATIENCE_S)

    def wait_until_nothing_is_left(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while self.namespaces or janitor.alive({self.inside, self.janitor}):
            assert time.monotonic() < deadline, f"left behind: {self.namespaces}"
            time.sleep(0.05)


@pytest.fixture
def lab(networks: None) -> Iterator[Lab]:
    lab = Lab()
    yield lab
    lab.end_by(signal.SIGKILL)
    lab.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_test_that_is_killed_leaves_nothing(lab: Lab, number: signal.Signals) -> None:
    lab.end_by(number)
    lab.wait_until_nothing_is_left()


def test_what_was_killed_together_with_its_janitor_is_removed_by_the_next(lab: Lab) -> None:
    os.kill(lab.janitor, signal.SIGKILL)
    lab.end_by(signal.SIGKILL)
    assert lab.namespaces and janitor.alive({lab.inside})
    remove_abandoned()
    lab.wait_until_nothing_is_left()
