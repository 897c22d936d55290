"""A simulated ring: real state machines, virtual time, seeded faults, and what must hold.

Payloads are lists of what was computed ("member:stage"), so that every result can be followed to
where it came from. To see the story of a seed:

    python tests/protocol/rings/ring_world.py SEED [LINES]
"""

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.rings import actions as act
from skerry.protocol.rings import events as ev
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.bypass import Bypass
from skerry.protocol.rings.detours import LIES, UNANNOUNCED
from skerry.protocol.rings.machine import RingPeer, apply, new_ring_peer, next_deadline
from skerry.protocol.rings.plan import EMBEDDING, HEAD, Hop, Member, Path, Plan, Ring, Stage
from skerry.protocol.rings.state import Rules
from skerry.protocol.rings.tasks import DropGradients, Kind, TakeStep, Task

RUN = RunId("ab" * 32)
TOKENS = 10
MAX_EVENTS = 100_000
COMPUTE_S = {
    Kind.FORWARD: 1.0,
    Kind.INPUT_GRADIENT: 1.5,
    Kind.WEIGHT_GRADIENT: 0.7,
    Kind.LOSS: 0.5,
    Kind.MEASURE: 0.2,
}


class Violation(AssertionError):
    """Something that must hold did not."""


@dataclass
class Scenario:
    """What a seed decides before anything runs."""

    plan: Plan
    rules: Rules
    steps: int = 3
    measured: frozenset[int] = frozenset()
    """Steps that are forward only."""
    microbatches: int = 6
    faults: int = 0
    faults_until: float = 60.0
    kinds: tuple[str, ...] = ()
    calm: bool = True
    """Whether nothing goes wrong, so that everything must be as planned."""
    rebuilt: frozenset[int] = frozenset()
    """Stages that were made of others before the first step; again where their host comes back."""


def plan_of(
    stages: int,
    *,
    members: tuple[tuple[int, ...], ...] | None = None,
    paths: tuple[tuple[tuple[Hop, ...], int], ...] | None = None,
    slots: int = 4,
    in_flight: int = 3,
) -> Plan:
    """Return a plan of one ring: stage 0 at the origin, one member for each other stage."""
    hosted = members or tuple((stage,) for stage in range(stages))
    crew = tuple(Member(PeerId(f"p{i}"), own, slots) for i, own in enumerate(hosted))
    whole = tuple(Hop(hosted.index((stage,)), (stage,)) for stage in range(stages))
    ways = tuple(Path(hops, quota) for hops, quota in paths or ((whole, 1),))
    shards = tuple(Stage((f"block.{stage}",)) for stage in range(stages))
    return Plan(1, TOKENS, shards, (Ring(crew, ways, in_flight),))


def rules_of(most_skipped: int = 0, hop_min_s: float = 0.5, bypass_steps: int = 0) -> Rules:
    return Rules(
        RUN,
        most_skipped,
        hop_min_s=hop_min_s,
        hop_max_s=5.0,
        attempt_min_s=1.0,
        attempt_max_s=20.0,
        ban_s=4.0,
        retry_s=0.1,
        bypass_steps=bypass_steps,
    )


@dataclass
class Node:
    """One simulated peer: its state machine, and arithmetic instead of tensors."""

    world: "World"
    index: int
    machine: RingPeer
    pace: float
    """Seconds of one forward pass."""
    life: int = 0
    up: bool = True
    frozen_until: float = 0.0
    backlog: list[ev.Event] = field(default_factory=list)
    """What happened while it was frozen."""
    sums: Counter[tuple[int, int]] = field(default_factory=Counter)
    """How often each (stage, microbatch) is in the gradients."""
    kept: dict[tuple[tuple[int, int], fr.Place], bytes] = field(default_factory=dict)
    wakes: set[float] = field(default_factory=set)

    @property
    def peer(self) -> PeerId:
        return PeerId(f"p{self.index}")

    def handle(self, event: ev.Event) -> None:
        """Let the machine take in an event, now or when this peer is no longer frozen."""
        world = self.world
        if world.now < self.frozen_until:
            self.backlog.append(event)
            return
        world.log(self.index, event)
        actions = apply(self.machine, event, world.now)
        world.check_bounds(self)
        for action in actions:
            world.log(self.index, action)
            self._do(action)
        self._wake()

    def freeze(self, seconds: float) -> None:
        """Let nothing be noticed for a while, like a process that is stopped."""
        self.frozen_until = max(self.frozen_until, self.world.now + seconds)
        self.world.at(self.frozen_until, self._thaw)

    def _thaw(self) -> None:
        while self.backlog and self.world.now >= self.frozen_until:
            self.handle(self.backlog.pop(0))

    def _do(self, action: act.Action) -> None:
        match action:
            case act.Send(peer, frame, payload):
                self.world.send(self.index, int(peer[1:]), frame, payload)
            case act.Compute(work):
                self._compute(work)
            case act.Forget(at, place):
                self.kept.pop((at, place), None)
            case act.StepDone():
                self.world.step_done(action)
            case act.MemberStepped():
                self.world.stepped.append(action)
            case act.Refused(peer, reason):
                self.world.refused[reason] += 1
            case act.Note(text):
                self.world.left_out += "is left out" in text

    def _compute(self, work: object) -> None:
        life, seconds = self.life, self.pace / 2
        if isinstance(work, Task):
            seconds = self.pace * COMPUTE_S[work.kind] * max(1, len(work.stages))
            needs_input = work.kind in (Kind.INPUT_GRADIENT, Kind.WEIGHT_GRADIENT)
            if needs_input and (work.at, work.place) not in self.kept:
                raise Violation(f"p{self.index} has no input for {work}")
        world = self.world
        world.after(seconds, lambda: self.life == life and self.handle(self._result(work, seconds)))

    def _result(self, work: object, seconds: float) -> ev.Event:
        if isinstance(work, DropGradients):
            self.world.dropped += 1
            self.sums.clear()
            return ev.Computed(work, b"", seconds)
        if isinstance(work, TakeStep):
            self._step(work)
            return ev.Computed(work, b"", seconds)
        assert isinstance(work, Task)
        if self.world.rng.random() < self.world.compute_failures:
            return self.world.rng.choice(
                [
                    ev.ComputeFailed(work, "SK-CMP-001"),
                    ev.ComputeFailed(work, "bad-value", of_input=True),
                    ev.ComputeFailed(work, "outlier", of_input=True),
                ]
            )
        return ev.Computed(work, self._output(work), seconds, loss=2.0)

    def _output(self, task: Task) -> bytes:
        trace = json.loads(task.payload) if task.payload else []
        key = (task.at, task.place)
        for stage in task.counts if task.kind in (Kind.WEIGHT_GRADIENT, Kind.LOSS) else ():
            self.sums[stage, task.place.microbatch] += 1
        match task.kind:
            case Kind.FORWARD:
                self.kept[key] = task.payload
                return json.dumps([*trace, [self.index, *task.stages]]).encode()
            case Kind.LOSS:
                return json.dumps([trace, "gradient"]).encode()
            case Kind.INPUT_GRADIENT:
                return json.dumps([*trace, [self.index, *task.stages]]).encode()
            case Kind.WEIGHT_GRADIENT:
                return b""
            case Kind.MEASURE:
                return b""

    def _step(self, work: TakeStep) -> None:
        told = {(v.stage, number): 1 for v in work.visits for number in v.microbatches}
        if dict(self.sums) != told:
            raise Violation(f"p{self.index} steps with {dict(self.sums)}, told {told}")
        self.world.took_step(self.index, work)
        self.sums.clear()

    def _wake(self) -> None:
        due = next_deadline(self.machine)
        if due is None or due in self.wakes:
            return
        self.wakes.add(due)
        life = self.life

        def tick() -> None:
            self.wakes.discard(due)
            if self.life == life and self.up:
                self.handle(ev.Tick())

        self.world.at(max(due, self.world.now), tick)


class World:
    """Virtual time, the links, and all peers of one ring."""

    def __init__(self, seed: int, scenario: Scenario, trace: bool = False) -> None:
        self.rng, self.scenario, self.trace = random.Random(seed), scenario, trace
        self.now = 0.0
        self.compute_failures = 0.0
        self.replay = 0.0
        self.liars: dict[int, Callable[[fr.Frame], fr.Frame]] = {}
        """By member, what it makes of the frames that it sends."""
        self.story: list[str] = []
        self.refused: Counter[str] = Counter()
        self.stepped: list[act.MemberStepped] = []
        self.done: list[act.StepDone] = []
        self.taken: dict[tuple[int, int], dict[int, TakeStep]] = {}
        self.dropped = 0
        self.left_out = 0
        self.max_jitter = 0.05
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._serial = 0
        self._links: dict[tuple[int, int], int] = {}
        self._arrival: dict[tuple[int, int, fr.Lane], float] = {}
        self._old: list[tuple[int, int, fr.Frame, bytes]] = []
        ring = scenario.plan.rings[0]
        self.nodes = [
            Node(self, i, self._machine(i), self.rng.uniform(0.02, 0.08))
            for i in range(len(ring.members))
        ]

    def _machine(self, index: int) -> RingPeer:
        return new_ring_peer(PeerId(f"p{index}"), self.scenario.plan, 0, self.scenario.rules)

    def at(self, time: float, call: Callable[[], object]) -> None:
        self._serial += 1
        heappush(self._heap, (time, self._serial, call))

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        self.at(self.now + seconds, call)

    def run_until(self, stop: Callable[[], bool], limit: float) -> bool:
        """Go on until ``stop`` holds; False if nothing is left or time passes ``limit`` first."""
        for _ in range(MAX_EVENTS):
            if stop():
                return True
            if not self._heap or self._heap[0][0] > limit:
                return False
            self.now, _, call = heappop(self._heap)
            call()
        raise Violation(f"more than {MAX_EVENTS} events")

    def log(self, who: int, what: object) -> None:
        if self.trace:
            self.story.append(f"{self.now:8.3f} p{who} {what}")

    def connect_all(self) -> None:
        for one in range(len(self.nodes)):
            for other in range(one + 1, len(self.nodes)):
                self.connect(one, other)

    def connect(self, one: int, other: int) -> None:
        """Join two peers that are there and not joined."""
        pair = (min(one, other), max(one, other))
        if pair in self._links or not (self.nodes[one].up and self.nodes[other].up):
            return
        self._serial += 1
        self._links[pair] = self._serial
        for lane in fr.Lane:
            self._arrival[one, other, lane] = self._arrival[other, one, lane] = 0.0
        self.nodes[one].handle(ev.PeerUp(self.nodes[other].peer))
        self.nodes[other].handle(ev.PeerUp(self.nodes[one].peer))

    def cut(self, one: int, other: int) -> None:
        """Reset the stream of two peers; what is on its way is lost."""
        if self._links.pop((min(one, other), max(one, other)), None) is None:
            return
        for near, far in ((one, other), (other, one)):
            if self.nodes[near].up:
                self.after(0.02, lambda n=near, f=far: self._note_down(n, f))
        self.after(self.rng.uniform(0.1, 2.0), lambda: self.connect(one, other))

    def _note_down(self, near: int, far: int) -> None:
        if (min(near, far), max(near, far)) not in self._links and self.nodes[near].up:
            self.nodes[near].handle(ev.PeerDown(self.nodes[far].peer))

    def send(self, source: int, target: int, frame: fr.Frame, payload: bytes) -> None:
        """Carry a frame: in order within its lane, unless the stream is reset."""
        link = self._links.get((min(source, target), max(source, target)))
        if link is None:
            return
        frame = self.liars[source](frame) if source in self.liars else frame
        took = 0.01 + (0.03 if payload else 0.0) + self.rng.uniform(0.0, self.max_jitter)
        key = (source, target, frame.lane)
        self._arrival[key] = max(self._arrival[key], self.now + took)
        self.at(self._arrival[key], lambda: self._arrive(link, source, target, frame, payload))
        if payload:
            self.nodes[source].world.after(
                0.005, lambda: self.nodes[source].handle(ev.FrameSent(frame, 0.005))
            )
        self._old.append((source, target, frame, payload))
        if self.rng.random() < self.replay:
            old = self.rng.choice(self._old[-200:])
            again = self._links.get((min(old[0], old[1]), max(old[0], old[1])))
            if again is not None:
                self.after(0.1, lambda: self._arrive(again, *old))

    def _arrive(self, link: int, source: int, target: int, frame: fr.Frame, payload: bytes) -> None:
        pair = (min(source, target), max(source, target))
        if self._links.get(pair) == link:
            received = ev.FrameReceived(self.nodes[source].peer, frame, payload)
            self.nodes[target].handle(received)

    def kill(self, index: int, back_after: float | None) -> None:
        """End a peer with all that it knows; perhaps it comes back with nothing."""
        node = self.nodes[index]
        if not node.up:
            return
        node.up = False
        node.life += 1
        for other in range(len(self.nodes)):
            if other != index:
                self.cut(index, other)
        node.sums.clear()
        node.kept.clear()
        node.wakes.clear()
        node.backlog.clear()
        if back_after is not None:
            self.after(back_after, lambda: self._revive(node))

    def _revive(self, node: Node) -> None:
        node.machine, node.up, node.frozen_until = self._machine(node.index), True, 0.0
        self.rebuild(node)
        for other in range(len(self.nodes)):
            if other != node.index:
                self.connect(node.index, other)

    def rebuild(self, node: Node) -> None:
        """Tell a peer which of its stages were made of others."""
        hosted = node.machine.s.member.stages
        made = tuple(fr.StageAge(x, 0) for x in sorted(self.scenario.rebuilt) if x in hosted)
        if made:
            node.handle(ev.StagesRebuilt(made))

    def begin(self, step: int) -> None:
        tokens = (TOKENS,) * self.scenario.microbatches
        forward_only = step in self.scenario.measured
        doubled = None if forward_only or self.rng.random() < 0.5 else 0
        self.nodes[0].handle(ev.BeginStep(1, step, tokens, forward_only, doubled))

    def step_done(self, done: act.StepDone) -> None:
        self.done.append(done)
        self._check_routes()
        if len(self.done) < self.scenario.steps:
            self.after(0.0, lambda: self.begin(len(self.done)))

    def _check_routes(self) -> None:
        """No microbatch misses the first stage, or more stages than it may."""
        drive, stages = self.nodes[0].machine.d, len(self.scenario.plan.stages)
        for microbatch in drive.microbatches if drive else ():
            visited = [x for hop in microbatch.trained or () for x in hop.stages]
            missed = stages - len(visited)
            if visited and (0 not in visited or missed > self.scenario.rules.most_skipped):
                raise Violation(f"microbatch {microbatch.number} has missed {missed} stages")

    def took_step(self, index: int, work: TakeStep) -> None:
        """No stage may count a microbatch twice, over all members that step."""
        if work.at[1] in self.scenario.measured:
            raise Violation(f"p{index} steps at {work.at}, which only measures")
        others = self.taken.setdefault(work.at, {})
        mine = {(v.stage, number) for v in work.visits for number in v.microbatches}
        for other, theirs in others.items():
            both = mine & {(v.stage, n) for v in theirs.visits for n in v.microbatches}
            if both:
                raise Violation(f"step {work.at}: p{index} and p{other} both count {both}")
        others[index] = work

    def check_bounds(self, node: Node) -> None:
        """Slots, queues and books are bounded whatever happens."""
        s = node.machine.s
        slots = s.member.slots
        if len(s.visits) > slots or len(s.waiting) > slots:
            raise Violation(f"p{node.index}: {len(s.visits)} visits, {len(s.waiting)} waiting")
        if len(s.queue) > 2 * slots or len(s.books) > 4:
            raise Violation(f"p{node.index}: {len(s.queue)} tasks, {len(s.books)} books")
        if len(node.kept) > slots + 1:
            raise Violation(f"p{node.index} keeps {len(node.kept)} inputs")
        d = node.machine.d
        if d is not None and len(d.active) > slots:
            raise Violation(f"{len(d.active)} attempts")


def hurt(world: World) -> None:
    """Draw what goes wrong and when."""
    scenario, rng = world.scenario, world.rng
    bodies = list(range(1, len(world.nodes)))
    for _ in range(scenario.faults):
        kind, at = rng.choice(scenario.kinds), rng.uniform(0.2, scenario.faults_until)
        body = rng.choice(bodies)
        match kind:
            case "kill":
                back = rng.uniform(0.5, 8.0)
                world.at(at, lambda b=body, t=back: world.kill(b, t))
            case "cut":
                other = rng.choice([n for n in range(len(world.nodes)) if n != body])
                world.at(at, lambda b=body, o=other: world.cut(b, o))
            case "freeze":
                took = rng.uniform(0.5, 10.0)
                world.at(at, lambda b=body, t=took: world.nodes[b].freeze(t))
            case "slow":
                factor = rng.uniform(3.0, 30.0)
                world.at(at, lambda b=body, f=factor: _slow(world, b, f))
            case "jitter":
                jitter = rng.uniform(0.1, 1.0)
                world.at(at, lambda j=jitter: _jitter(world, j))
            case "replay":
                share = rng.uniform(0.0, 0.3)
                world.at(at, lambda r=share: setattr(world, "replay", r))
            case "compute":
                world.at(at, lambda: setattr(world, "compute_failures", 0.05))
    world.at(scenario.faults_until, lambda: _calm(world))


def _slow(world: World, body: int, factor: float) -> None:
    world.nodes[body].pace = min(world.nodes[body].pace * factor, 2.0)


def _jitter(world: World, seconds: float) -> None:
    world.max_jitter = seconds


def _calm(world: World) -> None:
    world.max_jitter, world.replay, world.compute_failures = 0.05, 0.0, 0.0
    for node in world.nodes:
        node.pace = min(node.pace, 0.1)


def scenario_of(seed: int) -> Scenario:
    """Draw a ring, its paths and its faults."""
    rng = random.Random(f"scenario {seed}")
    stages = rng.randint(2, 6)
    hosted = [(stage,) for stage in range(stages)]
    hosted += [(rng.randint(1, stages - 1),) for _ in range(rng.choice([0, 0, 1, 2]))]
    most_skipped = rng.choice([0, 0, 1, 2]) if stages > 2 else 0
    paths: list[tuple[tuple[Hop, ...], int]] = []
    whole = tuple(Hop(stage, (stage,)) for stage in range(stages))
    if most_skipped and rng.random() < 0.5:
        for left_out in range(1, stages):
            paths.append((tuple(h for h in whole if h.stages != (left_out,)), 1))
    elif stages > 3 and rng.random() < 0.3:
        turned = (Hop(0, ()), whole[1], whole[0], *whole[2:-2], whole[-1], whole[-2])
        paths = [(whole, 1), (turned, 1)]
    else:
        paths = [(whole, 1)]
    plan = plan_of(
        stages,
        members=tuple(hosted),
        paths=tuple(paths),
        slots=rng.randint(2, 6),
        in_flight=rng.randint(1, 6),
    )
    kinds = ("kill", "kill", "cut", "cut", "freeze", "slow", "jitter", "replay", "compute")
    faults = rng.choice([0, 1, 2, 4, 8])
    made = random.Random(f"rebuilt {seed}")
    rebuilt = made.sample(range(1, stages), made.randint(0, stages - 1))
    return Scenario(
        plan,
        rules_of(most_skipped, 0.5 if faults else 5.0, made.choice([0, 1, 5])),
        steps=rng.randint(2, 3),
        measured=frozenset({0} if seed % 3 == 1 else ()),
        microbatches=rng.randint(1, 6 if len(paths) == 1 else 2) * len(paths),
        faults=faults,
        faults_until=rng.uniform(2.0, 15.0),
        kinds=kinds,
        calm=not faults,
        rebuilt=frozenset(rebuilt),
    )


PATIENCE_S = 400.0
"""Far above what the steps of a scenario may take once nothing goes wrong any more."""


def build(seed: int, scenario: Scenario | None = None, trace: bool = False) -> World:
    world = World(seed, scenario or scenario_of(seed), trace)
    for node in world.nodes:
        world.rebuild(node)
    world.connect_all()
    if world.scenario.calm:
        world.run_until(lambda: False, 1.0)  # what is told before the first step has arrived
    hurt(world)
    world.begin(0)
    return world


def finish(world: World) -> None:
    """Run to the end and check what must hold then."""
    steps = world.scenario.steps
    limit = world.scenario.faults_until + PATIENCE_S
    if not world.run_until(lambda: len(world.done) == steps, limit):
        states = [n.machine.s.visits.keys() for n in world.nodes]
        raise Violation(f"the ring stands still after {len(world.done)} steps: {states}")
    world.run_until(lambda: False, world.now + 60.0)
    check_end(world)


def check_end(world: World) -> None:
    everything = tuple(range(world.scenario.microbatches))
    for done in world.done:
        if done.loss != 2.0 or (done.trained != everything and not world.left_out):
            raise Violation(f"step {done.at} has trained {done.trained}, loss {done.loss}")
    if world.refused.keys() & (LIES | {UNANNOUNCED}) and not world.liars:
        raise Violation(f"honest detours were taken for lies: {world.refused}")
    for node in world.nodes:
        s = node.machine.s
        if node.up and (s.visits or s.waiting or len(s.queue) or s.books or node.kept):
            raise Violation(f"p{node.index} keeps {s.visits} {s.waiting} {s.books} {node.kept}")
    if world.scenario.calm:
        check_calm(world)


def check_calm(world: World) -> None:
    """Without faults nothing is refused or redone, and visits are as planned."""
    if world.refused or world.dropped or any(done.redone for done in world.done):
        raise Violation(f"{world.refused} refused, {[d.redone for d in world.done]} redone")
    ring = world.scenario.plan.rings[0]
    total = sum(path.quota for path in ring.paths)
    ages = dict.fromkeys(world.scenario.rebuilt - {0}, 0)
    for at, members in world.taken.items():
        counts: Counter[int] = Counter()
        for work in members.values():
            for visits in work.visits:
                counts[visits.stage] += len(visits.microbatches)
        share = world.scenario.microbatches // total
        planned: Counter[int] = Counter({HEAD: world.scenario.microbatches})
        for path in ring.paths:
            for hop, here in enumerate(path.hops):
                stages = here.stages or ((EMBEDDING,) if hop == 0 else ())
                planned.update(dict.fromkeys(stages, path.quota * share))
        if len(ring.paths) == 1:
            planned -= passed_over(world.scenario, ages)
        elif ages:  # which microbatch takes which path, and so may miss how many, is not said
            planned = Counter({x: min(planned[x], counts[x] or 1) for x in planned})
        if counts != planned:
            raise Violation(f"step {at}: visits {counts}, planned {planned}")
        ages = {stage: age + 1 for stage, age in ages.items()}


def passed_over(scenario: Scenario, ages: dict[int, int]) -> Counter[int]:
    """Return how many microbatches of a step pass over each stage that trains back in."""
    bypass = Bypass(steps=scenario.rules.bypass_steps)
    found: Counter[int] = Counter()
    for number in range(scenario.microbatches):
        due = [
            stage
            for stage, age in sorted(ages.items())
            if number in bypass.passing(age, scenario.microbatches, turn=stage)
        ]
        found.update(due[: scenario.rules.most_skipped])
    return found


def run(seed: int) -> World:
    world = build(seed)
    finish(world)
    return world


if __name__ == "__main__":
    told = build(int(sys.argv[1]), trace=True)
    try:
        finish(told)
    finally:
        print("\n".join(told.story[-int(sys.argv[2]) if len(sys.argv) > 2 else 0 :]))
