"""Fault plans against real daemons: processes, streams and disks.

How many rounds pass while a daemon starts is up to the machine, so that the run goes on until all
faults have struck: a plan's rounds are those from which on they may.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import small_disk
from course import Course
from fault_plan import Fault, FaultPlan, Kind
from faulty_swarm import FaultySwarm, change, part
from real_victim import RealVictim
from swarm import Peer, Swarm
from tally import Tally, told

PATIENCE_S = 300.0
"""For all to come to one state when all faults are over; a quarter of it for each fault."""
REPLAY = 2
"""Rounds of which payloads are kept: whoever was away for longer downloads a state."""
STEP_TOKENS = 2 * 32
"""Text tokens of an inner step: batch size times context (tiny_run.py)."""
SLOWEST = 4096.0
"""Bytes per second and per second of a plan's amount that a slow uplink carries."""
STATE_WAIT_S = 1.5
"""Before a daemon gets a state, so that there is time in which it does; replaying takes no longer
than otherwise, or nobody would come up with a peer that trains alone."""
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run under a plan came to."""

    tally: Tally
    rounds: int
    text_tokens: int
    seconds: float


def run_plan(
    plan: FaultPlan, folder: Path, say: Callable[[str], None] = lambda line: None
) -> Outcome:
    """Run daemons until a plan is through, and check all that must hold.

    Raises: AssertionError if they do not come to one state, or a text token counts twice.
    """
    began = time.monotonic()
    names = [f"p{number:02}" for number in range(plan.peers)]
    with Swarm(folder, FaultySwarm(folder)) as swarm, _disks(plan, folder, names) as why_not:
        peers = swarm.start(*names)
        change(peers, state_wait_s=STATE_WAIT_S)
        swarm.begin(peers, 0, replay=REPLAY)
        with ThreadPoolExecutor(len(peers)) as pool:
            tally = _Run(plan, swarm, pool, why_not, say).run()
        rounds = together(peers)
        left = swarm.stop()
        text_tokens = check(swarm, peers, _full(plan))  # of what lies on disk
    assert not left, f"left behind: {left}"
    return Outcome(tally, rounds, text_tokens, time.monotonic() - began)


def together(peers: list[Peer]) -> int:
    """Wait until one commit holds a contribution of each and all have applied it; return its round.

    Raises: AssertionError if they do not come to that, or to different states.
    """
    first, *others = peers
    applied = first.wait_for("applied", first.mark(), PATIENCE_S, contributions=len(peers))
    same = {key: applied[key] for key in ("round", "digest")}
    for peer in others:
        peer.wait_for("applied", 0, PATIENCE_S, **same)
    return int(applied["round"])


def check(swarm: Swarm, peers: list[Peer], gaps: set[int]) -> int:
    """Check that the chain counts what its contributions say, and nothing that was not trained.

    In the logs of the peers of ``gaps`` lines are missing: their disk was full.
    Returns: the text tokens of the chain that all have.
    """
    chains = [peer.chain(swarm.run_id) for peer in peers]
    shortest = min(chains, key=len)
    # The newest may be one of several with which the others have not compared theirs.
    assert all(chain[: len(shortest) - 1] == shortest[:-1] for chain in chains)
    included = [announce for commit in shortest for announce in commit.announces]
    assert sum(one.message.text_tokens for one in included) == shortest[-1].weight
    for number, peer in enumerate(peers):
        trained = sum(e["steps"] for e in peer.recorded() if e["event"] == "trained")
        own = sum(a.message.text_tokens for a in included if a.signer == peer.peer_id)
        is_logged = number not in gaps
        assert own <= trained * STEP_TOKENS or not is_logged, f"{peer.name}: {own} of {trained}"
    return shortest[-1].weight


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


class _Run:
    """Daemons under a plan."""

    def __init__(
        self,
        plan: FaultPlan,
        swarm: Swarm,
        pool: ThreadPoolExecutor,
        no_disks: str,
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._peers, self._say = plan, swarm.peers, say
        self._victims = [RealVictim(peer, pool, swarm.token) for peer in swarm.peers]
        self._reached = 0

        def unable(fault: Fault) -> str:
            return no_disks if fault.kind is Kind.DISK else ""

        # Rounds say nothing of how long a daemon takes to be there again: ``run`` has a deadline.
        self._course = Course(plan, self._victims, self._bring_about, REPLAY, sys.maxsize, unable)

    def run(self) -> Tally:
        """Return when nothing more goes wrong and everybody is in the run again."""
        deadline = time.monotonic() + PATIENCE_S * (1 + len(self._plan.faults) / 4)
        while not (self._course.is_over and all(one.is_settled for one in self._victims)):
            assert time.monotonic() < deadline, f"still waiting: {self._left()}"
            tails = [victim.tail for victim in self._victims]
            self._reached = max(self._reached, *(tail.round for tail in tails))
            self._course.step(max(1, self._reached), time.monotonic())
            time.sleep(_LOOK_S)
        for victim in self._victims:
            if victim.restarted:
                victim.peer.ready()
        return self._course.tally

    def _left(self) -> str:
        doing = [f"{victim.peer.name} is {victim.doing}" for victim in self._victims]
        return f"{self._course.left} {doing}"

    def _bring_about(self, fault: Fault, victims: list[RealVictim]) -> Callable[[], None] | None:
        """Do it; returns what ends it, if it lasts."""
        doing = " ".join(f"{one.peer.name} ({one.doing})" for one in victims)
        self._say(f"round {self._reached}: {told(fault)}: {doing}")
        peers = [victim.peer for victim in victims]
        match fault.kind:
            case Kind.KILL:
                _each(victims, RealVictim.take_away)
                return partial(_each, victims, RealVictim.bring_back)
            case Kind.RESTART:
                _each(victims, RealVictim.kill)
            case Kind.COMPUTE | Kind.NETWORK:
                _each(victims, lambda one: one.kill_child(fault.kind))
            case Kind.STOP:
                _each(victims, RealVictim.freeze)
                return partial(_each, victims, RealVictim.thaw)
            case Kind.PARTITION:
                part([peer for peer in self._peers if peer not in peers], peers)
                return partial(change, self._peers, unreachable=[])
            case Kind.DISK:
                _each(victims, _fill)
                return partial(_each, victims, _empty)
            case _:
                return _disturb(fault, peers)
        return None


def _disturb(fault: Fault, peers: list[Peer]) -> Callable[[], None]:
    wrong: dict[Kind, tuple[str, float]] = {
        Kind.DELAY: ("delay_s", fault.amount / 10),
        Kind.LOSS: ("loss", fault.amount / 10),
        Kind.CORRUPT: ("corrupt", fault.amount),
        Kind.SLOW: ("bytes_per_s", SLOWEST / max(fault.amount, 0.1)),
        Kind.CLOCK: ("clock_s", fault.amount),
    }
    name, value = wrong[fault.kind]
    change(peers, **{name: value})
    return partial(change, peers, **{name: 0.0})


def _fill(victim: RealVictim) -> None:
    small_disk.fill(_ballast(victim))
    victim.full = True


def _empty(victim: RealVictim) -> None:
    _ballast(victim).unlink(missing_ok=True)
    victim.full = False


def _ballast(victim: RealVictim) -> Path:
    return victim.peer.home.path / "ballast"


def _each(victims: list[RealVictim], work: Callable[[RealVictim], object]) -> None:
    for one in victims:
        work(one)


def summary(seed: int, outcome: Outcome) -> str:
    """Return a line of JSON."""
    fields = {
        **outcome.tally.fields(),
        "rounds": outcome.rounds,
        "text_tokens": outcome.text_tokens,
        "seconds": round(outcome.seconds, 1),
    }
    return json.dumps({"seed": seed, **fields})
