"""Fault plans against the simulated swarm: real state machines, virtual time.

A CLOCK that is wrong changes nothing here: there is no time of day.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import simulation
from fault_plan import Fault, FaultPlan, Kind, Phase
from simulated_compute import STEPS
from simulated_node import Node
from simulation import CALM, Monitor, Plan, Weather, World, rules_for

from skerry.protocol.ids import PeerId
from skerry.protocol.rounds.state import Phase as At

ROUND_S = 10.0
"""Of virtual time that the inner steps of a round take; ten heartbeats."""
_LOOK_S = 0.05
"""Between two looks at who is in which phase."""
_SLICE_S = 20.0
_DRAWN_OUT = 40
"""A run of so many times its undisturbed duration has failed."""
_LIVING = 2
"""Peers that are spared: without any there is nobody to go on."""
_PHASES = {
    Phase.JOIN: {At.STARTING, At.LOADING, At.WAITING, At.OBSERVING},
    Phase.INNER: {At.TRAINING, At.ENCODING},
    Phase.EXCHANGE: {At.COLLECTING, At.FETCHING},
    Phase.APPLY: {At.APPLYING},
    Phase.TRANSFER: {At.LOADING},
    Phase.CHECKPOINT: {At.APPLYING},
    Phase.SHUTDOWN: {At.STARTING, At.LOADING},
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run under a plan came to."""

    failures: int
    """Peers that a fault has hit, counted each time."""
    text_tokens: int
    seconds: float
    """Virtual."""

    @property
    def rate(self) -> float:
        """Committed text tokens per virtual second."""
        return self.text_tokens / self.seconds


@simulation.all_decoded
def run_plan(plan: FaultPlan) -> Outcome:
    """Run a swarm under a plan to its last round, and check all that must hold.

    Raises: AssertionError if a schedule does not keep the invariants.
    """
    world = _world(plan)
    executor = _Executor(world, plan)
    executor.watch()
    monitor = Monitor(world)
    world.after(0.0, monitor.watch)
    limit = _DRAWN_OUT * ROUND_S * plan.rounds

    def over() -> bool:
        if not executor.is_over:
            return False
        there = world.live
        return (
            len(there) == plan.peers
            and all(node.done for node in there)
            and len({node.s.at for node in there}) == 1
        )

    while not over():
        # In slices: the simulator bounds the events of one call, not those of a run.
        world.run_until(over, world.now + _SLICE_S)
        assert world.now < limit, f"not over after {world.now:.0f} s: {plan}"
    world.run_until(lambda: False, world.now + simulation.DRAIN_S)
    simulation.check_end(world)
    head = world.live[0]
    weight = head.s.chain.weight_of(head.s.at)
    return Outcome(executor.failures, weight, executor.finished_at)


def _world(plan: FaultPlan) -> World:
    dice = random.Random(plan.seed)
    frame = Plan(plan.peers, plan.rounds, plan.rounds, 0.0, 0, True)
    rules = replace(
        rules_for(frame, plan.peers),
        deadline_min=ROUND_S,
        deadline_max=3 * ROUND_S,
        deadline_factor=1.5,
    )
    world = World(dice, rules, trace=False)
    for number in range(plan.peers):
        node = Node(world, PeerId(f"p{number:02}"), ROUND_S / STEPS * dice.uniform(0.9, 1.1))
        world.nodes[node.name] = node
        world.after(dice.uniform(0.0, 1.0), lambda node=node: world.launch(node))
    return world


class _Executor:
    """Does what a plan says when the first victim is in the phase, and ends it in time."""

    def __init__(self, world: World, plan: FaultPlan) -> None:
        self._world, self._plan = world, plan
        self._waiting = list(plan.faults)
        self._brought: set[int] = set()
        self._ends: list[tuple[int, Callable[[], None]]] = []
        self.failures = 0
        self.finished_at = 0.0
        """When the first peer had trained all rounds."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more goes wrong and all that went wrong has ended."""
        return not self._waiting and not self._ends

    def watch(self) -> None:
        """Look who is in which phase, and again in a moment."""
        self._world.after(_LOOK_S, self.watch)
        reached = max((node.s.round for node in self._world.live), default=0)
        finished = any(node.done for node in self._world.live)
        if finished and not self.finished_at:
            self.finished_at = self._world.now
        for due, end in [one for one in self._ends if finished or one[0] <= reached]:
            self._ends.remove((due, end))
            self._world.changed_at = self._world.now
            end()
        for fault in [one for one in self._waiting if finished or one.round <= reached]:
            if finished:
                self._waiting.remove(fault)  # the run is over: there is nothing left to disturb
            elif self._is_time(fault, reached):
                self._waiting.remove(fault)
                self._begin(fault, reached)

    def _is_time(self, fault: Fault, reached: int) -> bool:
        node = self._node(fault.victims[0])
        fresh = fault.phase in (Phase.JOIN, Phase.TRANSFER, Phase.SHUTDOWN)
        if fresh and id(fault) not in self._brought:
            self._brought.add(id(fault))
            if fault.phase is Phase.SHUTDOWN and not node.paused:
                node.say_farewell()
            self._restart(node)  # it joins again, or takes in what it missed
        return not node.up or node.s.phase in _PHASES[fault.phase] or reached > fault.round

    def _begin(self, fault: Fault, reached: int) -> None:
        world = self._world
        world.changed_at = world.now
        nodes = self._spared([self._node(number) for number in fault.victims], fault.kind)
        self.failures += len(nodes)
        end = self._bring_about(fault, nodes)
        if end is not None:
            self._ends.append((reached + fault.rounds, end))

    def _bring_about(self, fault: Fault, nodes: list[Node]) -> Callable[[], None] | None:
        """Do it; returns what ends it, if it lasts."""
        world = self._world
        match fault.kind:
            case Kind.KILL:
                for node in nodes:
                    self._crash(node, fault.phase)
                return partial(_each, nodes, world.launch)
            case Kind.RESTART:
                _each(nodes, self._restart)
            case Kind.COMPUTE:
                _each(nodes, Node.crash_compute)
            case Kind.STOP:
                _each(nodes, Node.pause)
                return partial(_each, nodes, Node.resume)
            case Kind.PARTITION | Kind.NETWORK:
                apart = {node.name for node in nodes}
                world.groups = {name: int(name in apart) for name in world.nodes}
                return world.groups.clear
            case Kind.DELAY | Kind.LOSS:
                loss = fault.amount if fault.kind is Kind.LOSS else 0.0
                delay_s = fault.amount if fault.kind is Kind.DELAY else CALM.max_delay_s
                world.weather = Weather(loss, 0.0, delay_s)
                return partial(setattr, world, "weather", CALM)
            case Kind.CORRUPT:
                _each(nodes, lambda node: setattr(node, "corrupt_share", fault.amount))
                return partial(_each, nodes, lambda node: setattr(node, "corrupt_share", 0.0))
            case Kind.SLOW:
                world.lag.update({node.name: fault.amount for node in nodes})
                return world.lag.clear
            case Kind.DISK:
                _each(nodes, lambda node: node.fill_disk(True))
                return partial(_each, nodes, lambda node: node.fill_disk(False))
            case Kind.CLOCK:
                return None
        return None

    def _spared(self, nodes: list[Node], kind: Kind) -> list[Node]:
        """Return those that may be hit: they are up, and some are left."""
        there = [node for node in nodes if node.up and not node.paused]
        if kind in (Kind.DELAY, Kind.LOSS, Kind.CORRUPT, Kind.COMPUTE, Kind.SLOW):
            return there
        working = [n for n in self._world.live if not n.paused and n.s.head is not None]
        return there[: max(0, len(working) - _LIVING)]

    def _crash(self, node: Node, phase: Phase) -> None:
        """Let it die now or, while it writes, between two of the things it has decided to do."""
        if phase is Phase.CHECKPOINT:
            node.crash_after = self._world.rng.randint(0, 3)
        else:
            node.crash()

    def _restart(self, node: Node) -> None:
        if node.up and not node.paused:
            node.crash()
            self._world.launch(node)

    def _node(self, number: int) -> Node:
        return self._world.nodes[PeerId(f"p{number:02}")]


def _each(nodes: list[Node], work: Callable[[Node], object]) -> None:
    for node in nodes:
        work(node)
