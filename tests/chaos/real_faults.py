"""Fault plans against real daemons: processes, streams and disks."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import small_disk
from fault_plan import Fault, FaultPlan, Kind, Phase
from faulty_swarm import FaultySwarm, change, part
from swarm import Peer, Swarm

from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import SkerryError

LIVING = 2
"""Peers that are spared: without any there is nobody to go on."""
PATIENCE_S = 300.0
"""For the last of them to come to the end, when all faults are over."""
STEP_TOKENS = 2 * 32
"""Text tokens of an inner step: batch size times context (tiny_run.py)."""
SLOWEST = 4096.0
"""Bytes per second and per second of a plan's amount that a slow uplink carries."""
_LOOK_S = 0.05
_PHASES = {
    Phase.JOIN: {"starting", "loading", "waiting", "observing"},
    Phase.INNER: {"training", "encoding"},
    Phase.EXCHANGE: {"collecting", "fetching"},
    Phase.APPLY: {"applying"},
    Phase.TRANSFER: {"loading"},
    Phase.CHECKPOINT: {"applying"},
    Phase.SHUTDOWN: {"starting", "loading"},
}
_BY_RESTART = {Phase.JOIN, Phase.TRANSFER, Phase.SHUTDOWN}
"""Phases that are entered by starting the victim again."""


@dataclass(slots=True)
class Outcome:
    """What a run under a plan came to."""

    failures: int = 0
    """Peers that a fault has hit, counted each time."""
    kinds: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    """What could not be brought about here, and why."""
    rounds: int = 0
    text_tokens: int = 0
    seconds: float = 0.0


def run_plan(
    plan: FaultPlan, folder: Path, say: Callable[[str], None] = lambda line: None
) -> Outcome:
    """Run daemons under a plan to its last round, and check all that must hold.

    Raises: AssertionError if they do not end with one state, or a text token counts twice.
    """
    began = time.monotonic()
    names = [f"p{number:02}" for number in range(plan.peers)]
    with Swarm(folder, FaultySwarm(folder)) as swarm, _disks(plan, folder, names) as why_not:
        peers = swarm.start(*names)
        swarm.begin(peers, plan.rounds)
        outcome = Outcome(rounds=plan.rounds)
        _Executor(plan, peers, outcome, why_not, say).run()
        end = swarm.finish(peers, plan.rounds, PATIENCE_S)
        outcome.text_tokens = end.text_tokens
        left = swarm.stop()
        check(swarm, peers, end, _full(plan))  # of what lies on disk
    assert not left, f"left behind: {left}"
    outcome.seconds = time.monotonic() - began
    return outcome


def check(swarm: Swarm, peers: list[Peer], end: pb.RunStatus, gaps: set[int]) -> None:
    """Check that the chain counts what its contributions say, and nothing that was not trained.

    In the logs of the peers of ``gaps`` lines are missing: their disk was full.
    """
    for number, peer in enumerate(peers):
        chain = peer.chain(swarm.run_id)
        included = [announce for commit in chain for announce in commit.announces]
        assert sum(one.message.text_tokens for one in included) == end.text_tokens
        trained = sum(e["steps"] for e in peer.recorded() if e["event"] == "trained")
        own = sum(a.message.text_tokens for a in included if a.signer == peer.peer_id)
        is_logged = number not in gaps
        assert own <= trained * STEP_TOKENS or not is_logged, f"{peer.name}: {own} of {trained}"


def _full(plan: FaultPlan) -> set[int]:
    """Return whose disk is to be full."""
    return {v for fault in plan.faults for v in fault.victims if fault.kind is Kind.DISK}


@contextlib.contextmanager
def _disks(plan: FaultPlan, folder: Path, names: list[str]) -> Iterator[str]:
    """Give those whose disk is to be full a small one; yields why there is none."""
    victims = {names[number] for number in _full(plan)}
    why, mounted = "", []
    try:
        for name in sorted(victims):
            why = why or small_disk.mount(folder / name, "32m")
            if not why:
                mounted.append(folder / name)
        yield why
    finally:
        for place in mounted:
            small_disk.unmount(place)


class _Executor:
    """Does what a plan says when the first victim is in the phase, and ends it in time."""

    def __init__(
        self,
        plan: FaultPlan,
        peers: list[Peer],
        outcome: Outcome,
        no_disks: str,
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._peers, self._outcome = plan, peers, outcome
        self._no_disks, self._say = no_disks, say
        self._waiting = list(plan.faults)
        self._ends: list[tuple[int, Callable[[], None]]] = []
        self._brought: set[int] = set()
        self._frozen: set[str] = set()
        self._down: set[str] = set()
        self._starting: set[str] = set()
        """Started again without waiting for it."""

    def run(self) -> None:
        """Return when nothing more goes wrong and all that went wrong has ended."""
        deadline = time.monotonic() + PATIENCE_S * (1 + len(self._plan.faults) / 10)
        while self._waiting or self._ends:
            assert time.monotonic() < deadline, f"still waiting for {self._waiting} {self._ends}"
            reached, finished = self._reached()
            for due, end in [one for one in self._ends if finished or one[0] <= reached]:
                self._ends.remove((due, end))
                end()
            for fault in [one for one in self._waiting if finished or one.round <= reached]:
                if finished or self._is_time(fault, reached):
                    self._waiting.remove(fault)
                    self._begin(fault, reached)
            time.sleep(_LOOK_S)
        for peer in self._peers:
            if peer.name in self._starting:
                peer.ready()

    def _there(self) -> list[Peer]:
        away = self._frozen | self._down
        return [peer for peer in self._peers if peer.name not in away]

    def _reached(self) -> tuple[int, bool]:
        runs = [run for peer in self._there() if (run := _status(peer)) is not None]
        finished = any(run.finished for run in runs)
        return max((run.round.round for run in runs), default=0), finished

    def _is_time(self, fault: Fault, reached: int) -> bool:
        first = self._peers[fault.victims[0]]
        if first.name in self._frozen | self._down or reached > fault.round + 2:
            return True
        if fault.phase in _BY_RESTART and id(fault) not in self._brought:
            self._brought.add(id(fault))
            if fault.phase is Phase.SHUTDOWN:
                first.daemon.process.send_signal(signal.SIGTERM)
            first.kill()
            first.restart()
            self._starting.add(first.name)
            return False
        run = _status(first)
        return run is not None and run.round.phase in _PHASES[fault.phase]

    def _begin(self, fault: Fault, reached: int) -> None:
        victims = self._spared(fault)
        why = self._no_disks if fault.kind is Kind.DISK else ""
        if not victims or why:
            self._outcome.skipped.append(
                f"{fault.kind}: {why or 'away already, or too few would be left'}"
            )
            return
        told = " ".join(peer.name for peer in victims)
        self._say(f"round {reached}: {fault.kind} in {fault.phase}: {told}")
        self._outcome.failures += len(victims)
        kinds = self._outcome.kinds
        kinds[fault.kind] = kinds.get(fault.kind, 0) + len(victims)
        end = self._bring_about(fault, victims)
        if end is not None:
            self._ends.append((reached + fault.rounds, end))

    def _spared(self, fault: Fault) -> list[Peer]:
        there = self._there()
        victims = [self._peers[v] for v in fault.victims if self._peers[v] in there]
        harmless = (Kind.COMPUTE, Kind.NETWORK, Kind.DELAY, Kind.LOSS, Kind.SLOW, Kind.CLOCK)
        return victims if fault.kind in harmless else victims[: max(0, len(there) - LIVING)]

    def _bring_about(self, fault: Fault, victims: list[Peer]) -> Callable[[], None] | None:
        """Do it; returns what ends it, if it lasts."""
        match fault.kind:
            case Kind.KILL:
                self._kill(victims)
                return partial(self._start, victims)
            case Kind.RESTART:
                self._kill(victims)
                self._start(victims)
            case Kind.COMPUTE | Kind.NETWORK:
                what = "compute" if fault.kind is Kind.COMPUTE else "p2pd"
                for peer in victims:
                    _kill_child(peer, what)
            case Kind.STOP:
                self._freeze(victims)
                return partial(self._thaw, victims)
            case Kind.PARTITION:
                others = [peer for peer in self._peers if peer not in victims]
                part(others, victims)
                return partial(change, self._peers, unreachable=[])
            case Kind.DISK:
                places = [peer.home.path / "ballast" for peer in victims]
                for place in places:
                    small_disk.fill(place)
                return partial(_remove, places)
            case _:
                return self._disturb(fault, victims)
        return None

    def _disturb(self, fault: Fault, victims: list[Peer]) -> Callable[[], None]:
        wrong: dict[Kind, tuple[str, float]] = {
            Kind.DELAY: ("delay_s", fault.amount / 10),
            Kind.LOSS: ("loss", fault.amount / 10),
            Kind.CORRUPT: ("corrupt", fault.amount),
            Kind.SLOW: ("bytes_per_s", SLOWEST / max(fault.amount, 0.1)),
            Kind.CLOCK: ("clock_s", fault.amount),
        }
        name, value = wrong[fault.kind]
        change(victims, **{name: value})
        return partial(change, victims, **{name: 0.0})

    def _kill(self, victims: list[Peer]) -> None:
        for peer in victims:
            self._down.add(peer.name)
            self._starting.discard(peer.name)
            peer.kill()

    def _start(self, victims: list[Peer]) -> None:
        for peer in victims:
            peer.restart()
        for peer in victims:
            peer.ready()
            self._down.discard(peer.name)

    def _freeze(self, victims: list[Peer]) -> None:
        for peer in victims:
            os.kill(peer.daemon.process.pid, signal.SIGSTOP)
            self._frozen.add(peer.name)

    def _thaw(self, victims: list[Peer]) -> None:
        for peer in victims:
            os.kill(peer.daemon.process.pid, signal.SIGCONT)
            self._frozen.discard(peer.name)


def _status(peer: Peer) -> pb.RunStatus | None:
    """Return what a daemon says; None while it starts, or has not opened its run again."""
    try:
        reply = peer.client.status(deadline=5.0)
    except SkerryError:
        return None
    return reply.run if reply.HasField("run") else None


def _kill_child(peer: Peer, what: str) -> None:
    child = peer.children.get(what)  # it may be on its way up: then there is nothing to kill
    if child is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)


def _remove(places: list[Path]) -> None:
    for place in places:
        place.unlink(missing_ok=True)


def summary(seed: int, outcome: Outcome) -> str:
    """Return a line of JSON."""
    fields = {name: getattr(outcome, name) for name in Outcome.__dataclass_fields__}
    return json.dumps({"seed": seed, **fields, "seconds": round(outcome.seconds, 1)})
