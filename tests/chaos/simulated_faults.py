"""Fault plans against the simulated swarm: real state machines, virtual time.

There is no time of day, so that no CLOCK can be wrong.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import simulation
from course import Course
from fault_plan import Fault, FaultPlan, Kind, Phase
from simulated_compute import STEPS
from simulated_node import Node
from simulation import CALM, EMPTY, Monitor, Plan, Weather, World, rules_for
from tally import Tally

from skerry.protocol.ids import PeerId
from skerry.protocol.rounds.state import Phase as At

ROUND_S = 10.0
"""Of virtual time that the inner steps of a round take; ten heartbeats."""
REPLAY = 4
"""Rounds of which payloads are kept: whoever was away for longer downloads a state. Of what a fork
left out, twice as many rounds can come back, which is more than a partition lasts."""
PATIENCE_ROUNDS = 8
DOWNLOAD_S = 2.0
ENDING_S = 1.5
_LOOK_S = 0.05
"""Between two looks at who is in which round."""
_SLICE_S = 20.0
_DRAWN_OUT = 40
"""A run of so many times its undisturbed duration has failed."""
_PHASES = {
    Phase.JOIN: {At.STARTING, At.LOADING, At.WAITING, At.OBSERVING},
    Phase.INNER: {At.TRAINING, At.ENCODING},
    Phase.EXCHANGE: {At.COLLECTING, At.FETCHING},
    Phase.APPLY: {At.APPLYING},
    Phase.CHECKPOINT: {At.APPLYING},
}
_WINDOWS_S = {Phase.JOIN: 6.0, Phase.TRANSFER: DOWNLOAD_S, Phase.SHUTDOWN: ENDING_S}
T = TypeVar("T")
_IN_STEP = {At.TRAINING, At.ENCODING, At.COLLECTING, At.DONE}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run under a plan came to."""

    tally: Tally
    text_tokens: int
    seconds: float
    """Virtual."""

    @property
    def failures(self) -> int:
        """Peers that a fault has hit, counted each time."""
        return self.tally.failures

    @property
    def rate(self) -> float:
        """Committed text tokens per virtual second."""
        return self.text_tokens / self.seconds


@simulation.all_decoded
def run_plan(plan: FaultPlan, replay: int = REPLAY) -> Outcome:
    """Run a swarm under a plan to its last round, and check all that must hold.

    Raises: AssertionError if a schedule does not keep the invariants.
    """
    world = _world(plan, replay)
    run = _Run(world, plan, replay)
    run.watch()
    monitor = Monitor(world)
    world.after(0.0, monitor.watch)
    limit = _DRAWN_OUT * ROUND_S * plan.rounds
    while not run.is_over():
        # In slices: the simulator bounds the events of one call, not those of a run.
        world.run_until(run.is_over, world.now + _SLICE_S)
        assert world.now < limit, f"not over after {world.now:.0f} s: {run.course.left} {plan}"
    world.run_until(lambda: False, world.now + simulation.DRAIN_S)
    simulation.check_end(world)
    head = world.live[0]
    weight = head.s.chain.weight_of(head.s.at)
    return Outcome(run.course.tally, weight, run.finished_at)


def _world(plan: FaultPlan, replay: int) -> World:
    dice = random.Random(plan.seed)
    frame = Plan(plan.peers, plan.rounds, replay, 0.0, 0, True)
    rules = replace(
        rules_for(frame, plan.peers),
        deadline_min=ROUND_S,
        deadline_max=3 * ROUND_S,
        deadline_factor=1.5,
    )
    world = World(dice, rules, trace=False)
    world.download_s = DOWNLOAD_S
    for number in range(plan.peers):
        node = Node(world, PeerId(f"p{number:02}"), ROUND_S / STEPS * dice.uniform(0.9, 1.1))
        world.nodes[node.name] = node
        world.after(dice.uniform(0.0, 1.0), lambda node=node: world.launch(node))
    return world


class SimulatedVictim:
    """A node that things can be done to."""

    def __init__(self, node: Node) -> None:
        """Nothing has been done to it yet."""
        self.node, self._world = node, node.world

    @property
    def is_there(self) -> bool:
        """Whether its process runs and does not stand still or end."""
        node = self.node
        return node.up and not (node.paused or node.ending or node.gone)

    @property
    def is_able(self) -> bool:
        """Whether it is there and has the parameters of the run."""
        s = self.node.s if self.node.up else None
        return self.is_there and s is not None and s.head is not None and s.phase not in EMPTY

    @property
    def doing(self) -> str:
        """The phase it is in, in a word."""
        if not self.node.up:
            return "away"
        return "ending" if self.node.ending else str(self.node.s.phase)

    def is_in(self, phase: Phase) -> bool:
        """Say whether it is in a phase now."""
        if phase is Phase.SHUTDOWN:
            return self.node.up and self.node.ending and not self.node.paused
        if phase is Phase.TRANSFER:
            return self.is_there and self.node.downloads
        return self.is_there and self.node.s.phase in _PHASES[phase]

    def is_past(self, phase: Phase, since: int) -> bool:
        """Say whether it has left a phase behind that it was brought into in round ``since``.

        A peer that goes on from its own disk may train an old round before it hears of the others.
        """
        if phase is Phase.SHUTDOWN:
            return not self.node.ending and self.node.up
        s = self.node.s
        return self.is_there and s.phase in _IN_STEP and s.round >= since

    def can_suffer(self, kind: Kind) -> bool:
        """Say whether there is anything that such a fault could hit."""
        return kind is not Kind.COMPUTE or self.node.compute is not None

    def window_s(self, kind: Kind, phase: Phase) -> float:
        """Return how long it stays in a phase."""
        return _WINDOWS_S[phase]

    def renew(self) -> None:
        """End it, remove what it kept, and let it enter as a newcomer."""
        self.node.crash()
        self.node.forget()

    def take_away(self) -> None:
        """End it and keep it from starting again; it dies by itself if that has been arranged."""
        self.node.gone = True
        if self.node.crash_after is None:
            self.node.crash()

    def bring_back(self) -> None:
        """Let it start again."""
        self.node.gone = False

    def end(self) -> None:
        """Tell it to end."""
        self.node.end(ENDING_S)

    def look_after(self) -> None:
        """Start it again if it has ended."""
        if not self.node.up:
            self._world.launch(self.node)

    def write_then_die(self) -> None:
        """Let it die between two of the things that it decides to do next."""
        self.node.crash_after = self._world.rng.randint(0, 3)


class _Run:
    """A world under a plan."""

    def __init__(self, world: World, plan: FaultPlan, replay: int) -> None:
        self._world, self._plan = world, plan
        self._victims = [SimulatedVictim(node) for node in world.nodes.values()]
        self.course = Course(
            plan, self._victims, self._bring_about, replay, PATIENCE_ROUNDS, _unable
        )
        self._reached = 0
        self.finished_at = 0.0
        """When the first peer had trained all rounds."""

    def is_over(self) -> bool:
        """Look at everybody, after each event, and say whether all is done."""
        self.course.step(self._reached, self._world.now)
        there = self._world.live
        return (
            self.course.is_over
            and len(there) == self._plan.peers
            and all(node.done for node in there)
            and len({node.s.at for node in there}) == 1
        )

    def watch(self) -> None:
        """Look how far the swarm has come, and again in a moment."""
        self._world.after(_LOOK_S, self.watch)
        live = self._world.live
        self._reached = max((node.s.round for node in live), default=0)
        if not self.finished_at and any(node.done for node in live):
            self.finished_at = self._world.now
            self._world.changed_at = self._world.now
            self.course.close()

    def _bring_about(
        self, fault: Fault, victims: list[SimulatedVictim]
    ) -> Callable[[], None] | None:
        """Do it; returns what ends it, if it lasts."""
        self._world.changed_at = self._world.now
        end = self._begin(fault, victims)
        return None if end is None else partial(self._end, end)

    def _end(self, end: Callable[[], None]) -> None:
        self._world.changed_at = self._world.now
        end()

    def _begin(self, fault: Fault, victims: list[SimulatedVictim]) -> Callable[[], None] | None:
        world, nodes = self._world, [victim.node for victim in victims]
        match fault.kind:
            case Kind.KILL:
                for victim in victims:
                    if fault.phase is Phase.CHECKPOINT:
                        victim.write_then_die()
                    victim.take_away()
                return partial(_each, victims, SimulatedVictim.bring_back)
            case Kind.RESTART:
                _each(nodes, Node.crash)
            case Kind.COMPUTE:
                _each(nodes, Node.crash_compute)
            case Kind.STOP:
                _each(nodes, Node.pause)
                return partial(_each, nodes, Node.resume)
            case Kind.PARTITION | Kind.NETWORK:
                apart = {node.name for node in nodes}
                world.groups = {name: int(name in apart) for name in world.nodes}
                return world.groups.clear
            case Kind.DISK:
                _each(nodes, lambda node: node.fill_disk(True))
                return partial(_each, nodes, lambda node: node.fill_disk(False))
            case _:
                return self._disturb(fault, nodes)
        return None

    def _disturb(self, fault: Fault, nodes: list[Node]) -> Callable[[], None]:
        world = self._world
        match fault.kind:
            case Kind.DELAY | Kind.LOSS:
                loss = fault.amount if fault.kind is Kind.LOSS else 0.0
                delay_s = fault.amount if fault.kind is Kind.DELAY else CALM.max_delay_s
                world.weather = Weather(loss, 0.0, delay_s)
                return partial(setattr, world, "weather", CALM)
            case Kind.CORRUPT:
                _each(nodes, lambda node: setattr(node, "corrupt_share", fault.amount))
                return partial(_each, nodes, lambda node: setattr(node, "corrupt_share", 0.0))
            case _:
                world.lag.update({node.name: fault.amount for node in nodes})
                return world.lag.clear


def _unable(fault: Fault) -> str:
    return "there is no time of day" if fault.kind is Kind.CLOCK else ""


def _each(some: list[T], work: Callable[[T], object]) -> None:
    for one in some:
        work(one)
