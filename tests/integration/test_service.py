"""A real daemon as a service manager has it: readiness, signs of life, reload, and its end."""

import os
import signal
import socket
import uuid
from collections.abc import Iterator

import psutil
import pytest
from swarm import PATIENCE_S, Peer, Swarm

from skerry.node.home import Home

pytestmark = pytest.mark.integration


class Manager:
    """Where the daemon's notifications arrive."""

    def __init__(self) -> None:
        name = f"skerry-{uuid.uuid4()}"
        self.address = f"@{name}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{name}")
        self._socket.settimeout(PATIENCE_S)

    def hear(self, line: str) -> None:
        """Wait for a datagram that holds a line, or a line that begins so."""
        while not any(
            said.startswith(line) for said in self._socket.recv(4096).decode().splitlines()
        ):
            pass

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def manager() -> Iterator[Manager]:
    manager = Manager()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTIFY_SOCKET", manager.address)
        patch.setenv("WATCHDOG_USEC", "1000000")
        yield manager
    manager.close()


@pytest.fixture(scope="module")
def peer(swarm: Swarm, manager: Manager) -> Peer:
    """A daemon in a run of its own; before it came up, its home was as after a power cut."""
    home = Home(swarm.folder / "served")
    home.create()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.control_socket))  # nobody listens there any more
    home.lock_file.write_text(f"{os.getpid()}\n")  # a process id that another process has now
    (home.path / "p2pd").mkdir()
    (home.path / "p2pd" / "p2pd.pid").write_text(str(os.getpid()))
    [peer] = swarm.start("served")
    manager.hear("READY=1")
    manager.hear("STATUS=in no run")
    swarm.begin([peer], rounds=0)
    return peer


def processes_of(peer: Peer) -> list[psutil.Process]:
    return [psutil.Process(peer.pid_of(what)) for what in ("compute", "p2pd")]


def configure(peer: Peer, text: str) -> int:
    """Change the settings and have them read again; returns a mark from before."""
    mark = peer.mark()
    peer.home.config_file.write_text(text)
    os.kill(peer.daemon.process.pid, signal.SIGHUP)
    return mark


def test_signs_of_life_come_from_a_daemon_at_work(peer: Peer, manager: Manager) -> None:
    manager.hear("STATUS=run faults-1, round ")
    manager.hear("WATCHDOG=1")
    for child in processes_of(peer):
        assert "NOTIFY_SOCKET" not in child.environ()


def test_settings_read_again_take_effect_or_are_said_to_wait(peer: Peer, manager: Manager) -> None:
    mark = configure(peer, '[heartbeat]\ninterval = "700ms"\n[compute]\nthreads = 2\n')
    manager.hear("RELOADING=1")
    manager.hear("READY=1")
    reloaded = peer.wait_for("reloaded", mark)
    assert reloaded["changed"] == ["heartbeat.interval"]
    assert "compute.threads" not in reloaded["needs_restart"]  # its flag wins over the file
    mark = configure(peer, "[heartbeat]\nintervall = 1\n")
    failed = peer.wait_for("reload-failed", mark)
    assert "did you mean 'interval'" in failed["error"]
    assert "SK-CFG-001" in peer.home.log_file.read_text()
    mark = configure(
        peer, '[log]\nlevel = "debug"\n[listen]\nannounce = ["/ip4/203.0.113.7/tcp/1"]'
    )
    assert set(peer.wait_for("reloaded", mark)["changed"]) == {
        "heartbeat.interval",
        "listen.announce",
        "log.level",
    }


def test_pause_outlives_the_daemon_which_ends_in_good_order(peer: Peer, manager: Manager) -> None:
    peer.client.pause()
    assert peer.status().run.round.phase == "paused"
    children = processes_of(peer)
    assert peer.terminate() == 0
    manager.hear("STOPPING=1")
    assert not any(child.is_running() for child in children)
    before = len(peer.recorded())
    peer.restart()
    peer.ready()
    manager.hear("STATUS=run faults-1, round ")
    peer.wait_for("phase", before, phase="paused")
    assert not [e for e in peer.recorded()[before:] if e.get("phase") == "training"]
    peer.client.resume()
    peer.wait_for("applied", before)


def test_told_twice_it_does_not_wait_for_a_process_that_hangs(peer: Peer, manager: Manager) -> None:
    children = processes_of(peer)
    with peer.frozen("compute"), peer.frozen("p2pd"):
        peer.daemon.process.send_signal(signal.SIGTERM)
        manager.hear("STOPPING=1")  # two signals at once would be one
        assert peer.terminate(signal.SIGINT) == 0
        psutil.wait_procs(children, PATIENCE_S)
    assert not any(child.is_running() for child in children)
    assert "without waiting for its parts" in peer.home.log_file.read_text()


def test_stop_while_it_comes_up_is_heard(peer: Peer, manager: Manager) -> None:
    """It is ready before the compute process is up, and must not wait for that."""
    before = len(peer.recorded())
    peer.restart()
    manager.hear("READY=1")
    peer.daemon.process.send_signal(signal.SIGTERM)
    assert peer.daemon.process.wait(PATIENCE_S) == 0
    told = [event["event"] for event in peer.recorded()[before:]]
    assert "started" in told
    assert told[-1] == "stopped"
    assert "phase" not in told
