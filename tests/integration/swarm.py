"""Real daemons under faults: start, kill, freeze and thaw them, and wait for what they write.

Nothing here sleeps blindly: a wait follows a daemon's event log or asks for its status, and fails
with what every daemon last said. ``no_process_left`` is asked when the swarm is closed.
"""

import contextlib
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from tiny_run import tiny_run_file

from skerry.node.control_client import ControlClient
from skerry.node.demo_swarm import LocalDaemon, LocalSwarm
from skerry.node.home import Home, RunHome
from skerry.node.run.opening import CURRENT_FILE
from skerry.node.run.store import RunStore
from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import SkerryError
from skerry.protocol.ids import PeerId, RunId, short
from skerry.protocol.messages import Commit
from skerry.protocol.rounds.leader import leader_of

Event = dict[str, Any]
Test = Callable[[Event], bool]
PATIENCE_S = 60.0
"""For one thing to happen; far more than it takes, since the machine may be busy."""
_POLL_S = 0.02
_EVERYTHING = 100_000
_SETTINGS = {
    "seed": 1,
    "validation_every": 4,
    "lr": 3e-3,
    "warmup_steps": 2,
    "steps": 100,
    "deadline_min": "1s",
    "deadline_max": "20s",
    "grace": "2s",
    "replay": 6,
}
"""Small, so that a fault costs little time; 100 inner steps of this model take half a second."""
HEARTBEAT_S = 0.5


class EventLog:
    """A daemon's event log, followed over its control socket in a thread of its own."""

    def __init__(self, socket: Path) -> None:
        """Begin with the lines that are there; the thread ends with the daemon."""
        self._changed = threading.Condition()
        self._client = ControlClient(socket)
        self.events: list[Event] = []
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._client.close()
        self._thread.join(PATIENCE_S)

    def find(self, test: Test, since: int) -> Event | None:
        """Return the first event from number ``since`` on that passes ``test``."""
        with self._changed:
            return next((event for event in self.events[since:] if test(event)), None)

    def wait(self, test: Test, since: int, deadline: float) -> Event | None:
        """Wait for such an event; None if it has not come by ``deadline``, in monotonic time."""
        with self._changed:
            while (found := self.find(test, since)) is None:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return None
            return found

    def _follow(self) -> None:
        with contextlib.suppress(SkerryError, ValueError):  # ValueError: closed by close()
            for line in self._client.logs(_EVERYTHING, follow=True):
                with self._changed:
                    self.events.append(json.loads(line))
                    self._changed.notify_all()


class Peer:
    """One home and the daemon that runs in it, which may die and come back."""

    def __init__(self, swarm: LocalSwarm, name: str) -> None:
        """Start the first daemon; ``wait_until_ready`` waits for it."""
        self.name = name
        self._swarm = swarm
        self.daemon: LocalDaemon = swarm.start(name)
        self._log: EventLog | None = None
        self._peer_id = ""
        self.since = 0
        """Number of the first event of the current run."""

    @property
    def home(self) -> Home:
        return self.daemon.home

    @property
    def client(self) -> ControlClient:
        return self.daemon.client

    @property
    def peer_id(self) -> PeerId:
        return PeerId(self._peer_id)

    @property
    def log(self) -> EventLog:
        assert self._log is not None, f"{self.name} is not ready"
        return self._log

    @property
    def children(self) -> dict[str, psutil.Process]:
        """The living child processes: ``compute`` and ``p2pd``."""
        found = {}
        for child in psutil.Process(self.daemon.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                command = child.cmdline()
                if "skerry.pipeline.worker" in command:
                    found["compute"] = child
                elif command and Path(command[0]).name == "p2pd":
                    found["p2pd"] = child
        return found

    def ready(self) -> Self:
        """Wait until the daemon takes commands, and follow its event log from then on."""
        self.daemon.wait_until_ready()
        self._log = EventLog(self.home.control_socket)
        self._peer_id = self.status().peer_id
        return self

    def forget(self) -> None:
        """While it does not run: have it know of no run, as a new machine with the same key."""
        shutil.rmtree(self.home.runs, ignore_errors=True)
        (self.home.path / CURRENT_FILE).unlink(missing_ok=True)

    def free(self) -> None:
        """Have it run and take part in nothing, whatever an earlier test did to it."""
        if not self.daemon.running:
            (self.home.path / CURRENT_FILE).unlink(missing_ok=True)  # or it goes on with its run
            self.restart()
            self.ready()
        if self.status().HasField("run"):
            self.client.leave()

    # -- what it says ----------------------------------------------------------------------

    def status(self) -> pb.StatusReply:
        return self.client.status(deadline=PATIENCE_S)

    def mark(self) -> int:
        """Return a number that stands for now: ``wait_for`` can look at what comes after it."""
        return len(self.log.events)

    def wait_for(
        self, event: str, since: int | None = None, patience: float = PATIENCE_S, **details: object
    ) -> Event:
        """Wait for an event of this name and details in this run, or from number ``since`` on."""

        def test(found: Event) -> bool:
            return found["event"] == event and all(
                found.get(key) == value for key, value in details.items()
            )

        first = self.since if since is None else since
        found = self.log.wait(test, first, time.monotonic() + patience)
        if found is None:
            raise AssertionError(f"{self.name}: no {event} {details}\n{self.story()}")
        return found

    def wait_until(
        self, test: Callable[[pb.RunStatus], bool], what: str, patience: float = PATIENCE_S
    ) -> pb.RunStatus:
        """Ask for the run's status until ``test`` holds."""
        deadline = time.monotonic() + patience
        while not test(run := self.status().run):
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: not {what}\n{run.round}\n{self.story()}")
            time.sleep(_POLL_S)
        return run

    def recorded(self) -> list[Event]:
        """Return the event log as it stands on disk, also of a dead daemon."""
        text = self.home.events_file.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def chain(self, run_id: str) -> list[Commit]:
        """Return the commits on the way to this daemon's head, oldest first, from its disk."""
        known = {}
        with tempfile.TemporaryDirectory() as copy:  # reading cuts off a half-written tail
            shutil.copy(self.home.run(RunId(run_id)).chain_file, Path(copy) / "chain.bin")
            for commit in RunStore(RunHome(Path(copy))).chain.load():
                known[commit.hash] = commit.message
        path = []
        name = max(known, key=lambda name: (known[name].weight, known[name].round), default="")
        while name in known:
            path.insert(0, known[name])
            name = known[name].parent
        return path

    def last_phase(self) -> str:
        """Return the phase in which the daemon was last, from disk."""
        phases = [event for event in self.recorded() if event["event"] == "phase"]
        return str(phases[-1]["phase"]) if phases else ""

    def story(self, lines: int = 25) -> str:
        """Return the end of the event log, for the message of a failed test."""
        try:
            events = self.recorded()[-lines:]
        except OSError as error:
            return f"{self.name}: {error}"
        told = [f"-- {self.name} {short(self._peer_id)}", *map(json.dumps, events)]
        for file in (self.home.log_file, self.home.compute_log):
            if file.exists():
                told += [f"-- {file.name}", *file.read_text(errors="replace").splitlines()[-8:]]
        return "\n".join(told)

    # -- what is done to it ----------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL to the daemon alone; what it started must end by itself."""
        self._swarm.kill(self.daemon)
        if self._log is not None:
            self._log.close()

    def restart(self) -> None:
        """Start a daemon on the same home; ``ready`` waits for it."""
        self.daemon = self._swarm.start(self.name)

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the daemon in good order and return its exit code."""
        self.daemon.process.send_signal(number)
        code = self.daemon.process.wait(PATIENCE_S)
        self.client.close()
        self.log.close()
        return code

    @contextlib.contextmanager
    def frozen(self, what: str = "daemon") -> Iterator[None]:
        """Keep the daemon, its ``compute`` or its ``p2pd`` from running meanwhile."""
        pid = self.pid_of(what)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def kill_child(self, what: str) -> int:
        """SIGKILL to the ``compute`` process or to ``p2pd``; returns its process id."""
        pid = self.pid_of(what)
        os.kill(pid, signal.SIGKILL)
        return pid

    def pid_of(self, what: str) -> int:
        """Return the process id of the ``daemon``, its ``compute`` or its ``p2pd``."""
        if what == "daemon":
            return self.daemon.process.pid
        deadline = time.monotonic() + PATIENCE_S
        while (child := self.children.get(what)) is None:
            assert time.monotonic() < deadline, f"{self.name} has no {what}\n{self.story()}"
            time.sleep(_POLL_S)
        return child.pid


class Swarm:
    """Daemons in one folder. Use as a context: leaving it leaves no process."""

    def __init__(self, folder: Path, local: LocalSwarm | None = None) -> None:
        """Keep the homes and the text in ``folder``; ``local`` starts daemons in its own way."""
        self.folder = folder
        self._local = local or LocalSwarm(folder)
        self.peers: list[Peer] = []
        self.token = ""
        self.run_id = ""
        self._runs = 0
        self.text = folder / "text.txt"
        self.text.write_text(_some_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._local.__exit__(kind, error, traceback)
        for peer in self.peers:
            if peer._log is not None:
                peer._log.close()

    def stop(self) -> tuple[str, ...]:
        """Stop all daemons in good order and name the processes that are there nonetheless."""
        return self._local.stop()

    def start(self, *names: str, config: str = "", heartbeat_s: float = HEARTBEAT_S) -> list[Peer]:
        """Start daemons side by side, with further settings, and wait for all of them."""
        for name in names:
            home = Home(self.folder / name)
            home.create()
            home.config_file.write_text(f"[heartbeat]\ninterval = {heartbeat_s}\n{config}")
        started = [Peer(self._local, name) for name in names]
        self.peers += started
        return [peer.ready() for peer in started]

    def begin(
        self,
        members: list[Peer],
        rounds: int,
        peers: int = 0,
        sections: str = "",
        **changes: object,
    ) -> None:
        """Start a run on the first of ``members`` and let the others join.

        ``sections`` are of the run file, those that ``changes`` knows no key of.
        """
        self._runs += 1  # a name of its own makes it a run of its own
        changes.setdefault("name", f"faults-{self._runs}")
        settings = {**_SETTINGS, "rounds": rounds, "min": peers or len(members), **changes}
        text = tiny_run_file(self.text, **settings) + sections
        for peer in members:
            peer.since = peer.mark()
        try:
            reply = members[0].client.init(text)
            self.token, self.run_id = reply.token, reply.run_id
            with ThreadPoolExecutor() as pool:  # side by side: each starts a compute process
                for _ in pool.map(lambda peer: peer.client.join(self.token), members[1:]):
                    pass  # raises what a join raised
        except SkerryError as error:
            raise AssertionError("\n".join([str(error), *(p.story() for p in members)])) from None

    def finish(self, members: list[Peer], rounds: int, patience: float = 90.0) -> pb.RunStatus:
        """Wait until all stand at one commit of the last round; return a status.

        A peer that was cut off may have come to the end on a chain of its own; it goes over to
        the winning one as soon as it hears of it. One head with two digests is a failure at once.
        """
        deadline = time.monotonic() + patience
        while True:
            runs = [peer.status().run for peer in members]
            if len({run.head for run in runs}) == 1 and all(run.finished for run in runs):
                break
            if time.monotonic() > deadline:
                stories = "\n".join(peer.story() for peer in members)
                raise AssertionError(f"not finished at one head\n{stories}")
            time.sleep(_POLL_S)
        assert [run.digest_round for run in runs] == [rounds] * len(runs)
        assert len({run.state_digest for run in runs}) == 1, [p.story() for p in members]
        return runs[0]

    def leader(self, round_number: int, members: list[Peer]) -> Peer:
        """Return who leads a round first if exactly ``members`` train it."""
        roster = tuple(sorted(peer.peer_id for peer in members))
        name = leader_of(RunId(self.run_id), round_number, 0, roster)
        return next(peer for peer in members if peer.peer_id == name)


def _some_text() -> str:
    """Return text that a tiny model can learn something from, the same everywhere."""
    words = ("tide", "rock", "gull", "salt", "wind", "wave", "kelp", "foam")
    return "".join(f"{words[i * i % 8]} {words[i % 7]} {i % 97}\n" for i in range(6000))
