"""A real daemon as a service manager has it: readiness, signs of life, reload, and its end."""

import os
import queue
import signal
import socket
import threading
import uuid
from collections.abc import Iterator

import psutil
import pytest
from swarm import PATIENCE_S, Peer, Swarm

from skerry.node.home import Home

pytestmark = pytest.mark.integration


class Manager:
    """Where the daemon's notifications arrive. They are read at once, as a service manager does:
    the kernel keeps but ten of them, and the daemon does not wait for room."""

    def __init__(self) -> None:
        name = f"skerry-{uuid.uuid4()}"
        self.address = f"@{name}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{name}")
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def hear(self, line: str) -> None:
        """Wait for a line that begins so, of those that were not heard yet."""
        while not self._said.get(timeout=PATIENCE_S).startswith(line):
            pass

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", f"\0{self.address[1:]}")
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while datagram := self._socket.recv(4096):
            for line in datagram.decode().splitlines():
                self._said.put(line)


@pytest.fixture(scope="module")
def manager() -> Iterator[Manager]:
    manager = Manager()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTIFY_SOCKET", manager.address)
        patch.setenv("WATCHDOG_USEC", "1000000")
        yield manager
    manager.close()


@pytest.fixture(scope="module")
def served(swarm: Swarm, manager: Manager) -> Peer:
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


@pytest.fixture
def peer(served: Peer) -> Peer:
    """That daemon, started again if an earlier test has ended it."""
    if not served.daemon.running:
        served.restart()
        served.ready()
        served.wait_until(lambda run: run.run_id != "", "back in its run")
    return served


def processes_of(peer: Peer) -> list[psutil.Process]:
    return [psutil.Process(peer.pid_of(what)) for what in ("compute", "p2pd")]


def test_signs_of_life_come_from_a_daemon_at_work(peer: Peer, manager: Manager) -> None:
    manager.hear("STATUS=run faults-1, round ")
    manager.hear("WATCHDOG=1")
    for child in processes_of(peer):
        assert "NOTIFY_SOCKET" not in child.environ()


def test_settings_read_again_take_effect_or_are_said_to_wait(peer: Peer, manager: Manager) -> None:
    mark = peer.configure('[heartbeat]\ninterval = "700ms"\n[compute]\nthreads = 2\n')
    manager.hear("RELOADING=1")
    manager.hear("READY=1")
    reloaded = peer.wait_for("reloaded", mark)
    assert reloaded["changed"] == ["heartbeat.interval"]
    assert "compute.threads" not in reloaded["needs_restart"]  # its flag wins over the file
    mark = peer.configure("[heartbeat]\nintervall = 1\n")
    failed = peer.wait_for("reload-failed", mark)
    assert "did you mean 'interval'" in failed["error"]
    assert "SK-CFG-001" in peer.home.log_file.read_text()
    mark = peer.configure('[log]\nlevel = "debug"\n[listen]\nannounce = ["/ip4/203.0.113.7/tcp/1"]')
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
    assert psutil.wait_procs(children, PATIENCE_S)[1] == []
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
        assert psutil.wait_procs(children, PATIENCE_S)[1] == []
    assert "without waiting for its parts" in peer.home.log_file.read_text()


def test_stop_while_it_comes_up_is_heard(peer: Peer, manager: Manager) -> None:
    """It is ready before the compute process is up, and must not wait for that."""
    peer.terminate()
    manager.hear("STOPPING=1")
    for _ in range(5):  # on a busy machine the compute process may be up before the signal comes
        before = len(peer.recorded())
        peer.restart()
        manager.hear("READY=1")
        peer.daemon.process.send_signal(signal.SIGTERM)
        assert peer.daemon.process.wait(PATIENCE_S) == 0
        manager.hear("STOPPING=1")
        told = [event["event"] for event in peer.recorded()[before:]]
        assert "started" in told
        assert told[-1] == "stopped"
        if "phase" not in told:
            break
    assert "phase" not in told
