import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from skerry.node import demo_swarm
from skerry.node.demo_swarm import LocalSwarm, marked_processes
from skerry.protocol.errors import DaemonError

# A daemon that cannot be talked to; its own child ignores polite signals and outlives it.
STUBBORN = """
import signal, subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
child += "; print('up', flush=True); time.sleep(600)"
process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
process.stdout.readline()
open(sys.argv[1], "w").write("ready")
time.sleep(600)
"""


@pytest.fixture
def fake_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the swarm start STUBBORN instead of a daemon; returns the pipe that says it is up."""
    script, ready = tmp_path / "stubborn.py", tmp_path / "ready"
    os.mkfifo(ready)
    script.write_text(STUBBORN)
    monkeypatch.setattr(demo_swarm, "STOP_SECONDS", 1.0)
    monkeypatch.setattr(demo_swarm, "HASTY_SECONDS", 0.25)
    original = subprocess.Popen

    def popen(command: list[str], **options: object) -> object:
        assert command[3] == "skerry.node.cli.main"
        return original([sys.executable, str(script), str(ready)], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(demo_swarm.subprocess, "Popen", popen)
    return ready


def test_leaving_the_context_leaves_no_process(tmp_path: Path, fake_daemon: Path) -> None:
    with LocalSwarm(tmp_path) as swarm:
        daemon = swarm.start("peer-1")
        assert fake_daemon.read_text() == "ready"
        family = [psutil.Process(daemon.process.pid)]
        family += family[0].children(recursive=True)
        assert len(family) == 2
        assert not daemon.is_ready()
    assert not daemon.running
    assert psutil.wait_procs(family, timeout=60)[1] == []


def test_orphans_of_a_killed_daemon_are_named(tmp_path: Path, fake_daemon: Path) -> None:
    with LocalSwarm(tmp_path) as swarm:
        daemon = swarm.start("peer-1")
        assert fake_daemon.read_text() == "ready"
        swarm.kill(daemon)
        assert daemon.process.returncode == -signal.SIGKILL
        left = swarm.stop()
        assert len(left) == 1
        assert "time.sleep(600)" in left[0]
        orphan = psutil.Process(int(left[0].split()[0]))
    assert psutil.wait_procs([orphan], timeout=60)[1] == []


def test_daemon_that_ended_is_reported_with_its_log(tmp_path: Path, fake_daemon: Path) -> None:
    with LocalSwarm(tmp_path) as swarm:
        daemon = swarm.start("peer-1")
        daemon.process.kill()
        daemon.process.wait()
        with pytest.raises(DaemonError, match=r"SK-DMN-005: peer-1 ended .*daemon\.log"):
            daemon.wait_until_ready()


def test_interrupt_handlers_are_restored(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in demo_swarm.INTERRUPTS]
    with LocalSwarm(tmp_path):
        pass
    assert [signal.getsignal(number) for number in demo_swarm.INTERRUPTS] == before


def test_marked_processes_compares_whole_variables() -> None:
    environment = {**os.environ, "SOME_MARK": "abc"}
    command = [sys.executable, "-c", "print('up', flush=True); input()"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.pid in marked_processes("SOME_MARK=abc")
        assert process.pid not in marked_processes("SOME_MARK=ab")
        process.communicate(b"\n")
    assert marked_processes("SOME_MARK=abc") == {}
