"""Simulated round schedules: real state machines, virtual time, seeded faults.

``run(seed)`` builds a swarm of 2 to 12 peers, draws a schedule of faults from the seed, lets
it run to the last round and checks what must hold. To see the story of a seed:

    python tests/protocol/rounds/simulation.py SEED [LINES [mixed]]
"""

import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any
from unittest import mock

from simulated_compute import SHARD, SHARDS, STEPS, TOKENS_PER_BATCH, Item, Payload
from simulated_node import SILENCE_S, Node

from skerry.protocol.ids import CommitHash, PeerId, RunId, content_hash
from skerry.protocol.messages import Offer, ReadmitPeer, RemovePeer, RoleOffer, SetOuterLr, Signed
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import commits
from skerry.protocol.rounds.chain import ChainRules
from skerry.protocol.rounds.settings import admitted, ordered
from skerry.protocol.rounds.state import Phase, Rules

REPLICA_BYTES = 100
MAX_EVENTS = 400_000
DRAIN_S = 3.0
all_decoded = mock.patch.object(commits, "DECODED", sys.maxsize)
"""For long runs: nothing is signed here, so that no commit could be read again from its bytes."""
EMPTY = (Phase.STARTING, Phase.LOADING)
"""Phases in which a peer has no parameters of its own, or not any more."""
OFFERS = (
    Offer(),
    Offer(RoleOffer.AUTO, REPLICA_BYTES),
    Offer(RoleOffer.AUTO, REPLICA_BYTES - 1),
    Offer(RoleOffer.STAGE, REPLICA_BYTES),
)


class Violation(AssertionError):
    """Something that must hold did not."""


@dataclass
class Weather:
    """What the network does to a message."""

    loss: float = 0.0
    duplication: float = 0.0
    max_delay_s: float = 0.2


CALM = Weather()


@dataclass(frozen=True)
class Plan:
    """What a seed decides before anything runs."""

    peers: int
    rounds: int
    replay: int
    faults_until: float
    num_faults: int
    partitions: bool
    orders: int = 0
    """Orders that the owner or a standby gives meanwhile."""


class World:
    """Virtual time, the network, and all nodes."""

    def __init__(self, rng: random.Random, rules: Rules, trace: bool) -> None:
        self.rng, self.rules = rng, rules
        self.now = 0.0
        self.weather = CALM
        self.download_s = 0.0
        """What it takes to get a state from others."""
        self.nodes: dict[PeerId, Node] = {}
        self.started: list[PeerId] = []
        self.groups: dict[PeerId, int] = {}
        self.lag: dict[PeerId, float] = {}
        """By whom messages take how many seconds longer."""
        self.notes: list[tuple[PeerId, act.Note]] = []
        self.strict = False
        """Whether a ring trains nothing while one of its members is away or not in the roster."""
        self.shadows = False
        """Whether plans have origins' stages copied to the last member of their ring."""
        self.renewed = 0
        """How often shards were made anew."""
        self.shards: dict[tuple[CommitHash, str], dict[PeerId, str]] = {}
        self.payloads: dict[Any, Payload] = {}
        self.diverged: list[tuple[PeerId, CommitHash]] = []
        self.changed_at = 0.0
        self.trace = trace
        self.story: list[str] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._seq = 0

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self._seq += 1
        heappush(self._heap, (self.now + seconds, self._seq, call))

    def run_until(self, stop: Callable[[], bool], limit: float) -> bool:
        """Go on until ``stop`` holds; False if virtual time passes ``limit`` first."""
        for _ in range(MAX_EVENTS):
            if stop():
                return True
            if not self._heap or self._heap[0][0] > limit:
                return False
            self.now, _, call = heappop(self._heap)
            call()
        raise Violation(f"more than {MAX_EVENTS} events")

    def log(self, who: PeerId, what: Any, extra: object = "") -> None:
        if self.trace:
            text = what if isinstance(what, str) else describe(what)
            if text:
                self.story.append(f"{self.now:8.3f} {who} {text} {extra}")

    def delay(self) -> float:
        return self.rng.uniform(0.005, self.weather.max_delay_s)

    def connected(self, one: PeerId, other: PeerId) -> bool:
        return self.groups.get(one, 0) == self.groups.get(other, 0)

    def reachable(self, one: PeerId, other: PeerId) -> Node | None:
        """Return another node if it answers now."""
        node = self.nodes[other]
        able = node.up and not node.paused and not node.ending
        ready = able and self.connected(one, other)
        return node if ready else None

    def send(self, source: PeerId, target: PeerId, signed: Signed[Any]) -> None:
        """Carry a message, perhaps late, twice or not at all."""
        copies = 1 + (self.rng.random() < self.weather.duplication)
        for _ in range(copies):
            if self.connected(source, target) and self.rng.random() >= self.weather.loss:
                seconds = self.delay() + self.lag.get(source, 0.0)
                self.after(seconds, lambda: self._arrive(source, target, signed))

    def _arrive(self, source: PeerId, target: PeerId, signed: Signed[Any]) -> None:
        node = self.nodes[target]
        if node.up and self.connected(source, target):
            node._later(0.0, lambda: node.receive(signed, source))

    def launch(self, node: Node) -> None:
        """Start a node, for the first time or again."""
        if node.up or node.gone:
            return
        if node.name not in self.started:
            self.started.append(node.name)
        self.changed_at = self.now
        node.start()

    def restart_later(self, node: Node) -> None:
        self.changed_at = self.now
        self.after(self.rng.uniform(0.3, 9.0), lambda: self.launch(node))

    def applied(self, who: PeerId, commit: CommitHash, theta: dict[str, str], wrong: bool) -> None:
        """Note the outcome of an update: all hosts of a shard must have the same of it."""
        if wrong:
            self.diverged.append((who, commit))
            return
        for shard, value in theta.items():
            known = self.shards.setdefault((commit, shard), {})
            if any(other != value for other in known.values()):
                raise Violation(f"{shard} differs after {commit[:8]}: {known}, {who} {value}")
            known[who] = value

    @property
    def live(self) -> list[Node]:
        return [n for n in self.nodes.values() if n.up]


def describe(what: Any) -> str:
    """Return one line on an event or action; empty for heartbeats and ticks without effect."""
    name = type(what).__name__
    if name in ("HeartbeatReceived", "Evaluate", "Present", "Retain", "StoreStates"):
        return ""
    text = f"{name} "
    for field in getattr(what, "__dataclass_fields__", {}):
        value = getattr(what, field)
        if isinstance(value, Signed):
            value = f"{type(value.message).__name__}({value.hash[:6]} by {value.signer})"
        elif isinstance(value, tuple) and value and isinstance(value[0], Signed):
            value = [
                f"{v.hash[:6]} r{getattr(v.message, 'round', '')} by {v.signer}" for v in value
            ]
        elif isinstance(value, str) and len(value) == 64:
            value = value[:6]
        text += f"{field}={str(value)[:150]} "
    return text


class Monitor:
    """Checks that a connected group moves on: its best head grows within the bound."""

    def __init__(self, world: World) -> None:
        self.world = world
        rules = world.rules
        one_round = rules.deadline_max + rules.grace
        # Two deadlines, and the time it takes to notice who is there and to take in a state.
        self.bound = 2 * one_round + 2 * SILENCE_S + rules.grace
        self.best: dict[int, tuple[Any, float]] = {}
        self.longest = 0.0

    def watch(self) -> None:
        """Look at all groups, and again in a second."""
        world = self.world
        world.after(1.0, self.watch)
        groups: dict[int, list[Node]] = {}
        for node in world.live:
            groups.setdefault(world.groups.get(node.name, 0), []).append(node)
        for group, nodes in groups.items():
            self._watch_group(group, nodes)

    def _watch_group(self, group: int, nodes: list[Node]) -> None:
        world = self.world
        top = max(nodes, key=lambda node: node.s.chain.rank(node.s.at))
        rank = top.s.chain.rank(top.s.at)
        before, since = self.best.get(group, (None, world.now))
        since = max(since, world.changed_at)
        if before is None or rank > before or not self._can_move(top, nodes):
            since = world.now
        self.best[group] = (rank, since)
        self.longest = max(self.longest, world.now - since)
        if world.now - since > self.bound:
            phases = {n.name: (str(n.s.phase), n.s.at[:6], n.s.view) for n in nodes}
            raise Violation(f"no progress for {world.now - since:.1f} s: {phases}")

    def _can_move(self, top: Node, nodes: list[Node]) -> bool:
        if top.s.finished:
            return False
        idle = top.s.settings.removed.keys()
        there = [n for n in nodes if not n.paused and not n.ending]
        names = {n.name for n in there if not n.disk.rests and not n.kept_out}
        names -= idle
        if not any(n.whole for n in nodes if n.name in names):
            return False  # a ring alone may have lost a part of the model
        if not top.s.roster:
            return top.s.rules.chain.owner in names and len(names) >= top.s.rules.min_peers
        return len(names) >= 2


class Faults:
    """Draws what goes wrong and when, and does it."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.plan, self.rng = world, plan, world.rng
        self.fatal_left = max(0, plan.peers - 2)

    def schedule(self) -> None:
        """Put all faults into the queue."""
        kinds: list[Callable[[], None]] = [
            self.crash, self.crash, self.crash_midway, self.crash_midway, self.crash_compute,
            self.crash_compute, self.pause, self.storm, self.kill, self.leave, self.diverge,
            self.rest,
        ]  # fmt: skip
        if self.plan.partitions:
            kinds += [self.partition] * 4
        for _ in range(self.plan.num_faults):
            at = self.rng.uniform(1.0, self.plan.faults_until)
            self.world.after(at, self.rng.choice(kinds))
        for _ in range(self.plan.orders):
            at = self.rng.uniform(1.0, self.plan.faults_until)
            self.world.after(at, self.rng.choice([self.order_lr, self.order_removal]))
        self.world.after(self.plan.faults_until, self.end)

    def end(self) -> None:
        """From now on nothing more goes wrong, and what can come back comes back."""
        world = self.world
        world.weather, world.groups = CALM, {}
        world.changed_at = world.now
        world.log(PeerId("---"), "FAULTS END")
        for node in world.nodes.values():
            node.crash_after = None
            node.diverges = False
            node.resume()
            if node.name in world.started:
                world.launch(node)
            node.rest(False)

    def _anyone(self) -> Node:
        return self.rng.choice(list(self.world.nodes.values()))

    def crash(self) -> None:
        node = self._anyone()
        if node.up:
            node.crash()
            self.world.restart_later(node)

    def crash_midway(self) -> None:
        self._anyone().crash_after = self.rng.randint(0, 12)

    def crash_compute(self) -> None:
        self._anyone().crash_compute()

    def pause(self) -> None:
        node = self._anyone()
        node.pause()
        self.world.changed_at = self.world.now
        seconds = self.rng.uniform(0.5, 9.0)
        self.world.after(seconds, lambda: self._resume(node))

    def _resume(self, node: Node) -> None:
        self.world.changed_at = self.world.now
        node.resume()

    def rest(self) -> None:
        """A user pauses a node, and lets it train again later."""
        node = self._anyone()
        node.rest(True)
        self.world.changed_at = self.world.now
        self.world.after(self.rng.uniform(0.5, 20.0), lambda: self._work(node))

    def _work(self, node: Node) -> None:
        self.world.changed_at = self.world.now
        node.rest(False)

    def storm(self) -> None:
        world = self.world
        world.weather = Weather(self.rng.uniform(0, 0.3), self.rng.uniform(0, 0.3), 3.0)
        self.world.after(self.rng.uniform(2.0, 15.0), self._clear_up)

    def _clear_up(self) -> None:
        self.world.weather = CALM
        self.world.changed_at = self.world.now

    def _may_lose(self, node: Node) -> bool:
        """Without its owner a run cannot begin; two peers must be left to say anything."""
        others = [n for n in self.world.live if n is not node]
        # One that knows the chain may still be getting what only this node has. In any other
        # phase it has the state before a commit, and can go on from there.
        able = any(n.whole and n.s.head is not None and n.s.phase not in EMPTY for n in others)
        return node.up and self.fatal_left > 0 and able

    def kill(self) -> None:
        node = self._anyone()
        if self._may_lose(node):
            self.fatal_left -= 1
            node.crash()
            node.gone = True
            self.world.changed_at = self.world.now

    def leave(self) -> None:
        node = self._anyone()
        if self._may_lose(node):
            self.fatal_left -= 1
            node.say_goodbye()
            self.world.changed_at = self.world.now

    def _issuer(self) -> Node | None:
        """Return the owner or the standby, whoever can give orders now."""
        keys = [self.world.nodes[PeerId(name)] for name in ("p00", "p01")]
        able = [n for n in keys if n.up and not n.paused and n.name not in n.s.settings.removed]
        return self.rng.choice(able) if able else None

    def order_lr(self) -> None:
        issuer, lr = self._issuer(), self.rng.choice([None, 0.5, 0.7, 2.0])
        if issuer is not None:
            issuer.order(SetOuterLr(lr))

    def order_removal(self) -> None:
        """Remove a peer; perhaps let it in again later."""
        issuer, node = self._issuer(), self._anyone()
        keys = self.world.rules.chain.keys
        if issuer is None or node.name in keys or not self._may_lose(node):
            return
        self.fatal_left -= 1
        self.world.changed_at = self.world.now
        issuer.order(RemovePeer(node.name, "too slow"))
        if self.rng.random() < 0.6:
            seconds = self.rng.uniform(0.0, 15.0)
            self.world.after(seconds, lambda: self._readmit(node))

    def _readmit(self, node: Node) -> None:
        issuer = self._issuer()
        if issuer is not None:
            issuer.order(ReadmitPeer(node.name))

    def diverge(self) -> None:
        self._anyone().diverges = True

    def partition(self) -> None:
        world = self.world
        world.groups = {name: self.rng.randint(0, 1) for name in world.nodes}
        world.changed_at = world.now
        world.log(PeerId("---"), f"PARTITION {world.groups}")
        world.after(self.rng.uniform(2.0, 20.0), self._heal)

    def _heal(self) -> None:
        self.world.groups = {}
        self.world.changed_at = self.world.now
        self.world.log(PeerId("---"), "HEAL")


def rules_for(plan: Plan, min_peers: int) -> Rules:
    """Return short rounds for a small model."""
    chain = ChainRules(
        run_id=RunId(content_hash(b"run")),
        owner=PeerId("p00"),
        max_peers=16,
        rounds=plan.rounds,
        steps=STEPS,
        max_round_tokens=STEPS * TOKENS_PER_BATCH,
        payload_limits=tuple((shard, 100) for shard in SHARDS),
        replica_bytes=REPLICA_BYTES,
        standby=(PeerId("p01"),),
    )
    return Rules(
        chain=chain,
        min_peers=min_peers,
        rounds=plan.rounds,
        deadline_min=2.0,
        deadline_max=8.0,
        deadline_factor=2.0,
        grace=2.0,
        replay=plan.replay,
        validation_every=2,
    )


def draw_plan(rng: random.Random) -> Plan:
    """Draw the size and the roughness of a schedule: many small ones, some large."""
    peers = rng.choice([2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 8, 12])
    rounds = rng.randint(5, 9)
    # What a fork left out can come back for 2 x replay rounds: partitions get enough of them.
    partitions = rng.random() < 0.6
    replay = rounds if partitions else rng.choice([1, 2, 6])
    return Plan(
        peers=peers,
        rounds=rounds,
        replay=replay,
        faults_until=rng.uniform(10.0, 30.0),
        num_faults=rng.choice([0, 1, 2, 3, 4, 6, 8]),
        partitions=partitions,
        orders=rng.choice([0, 0, 1, 2, 4]),
    )


def build(seed: int, trace: bool, mixed: bool = False) -> tuple[World, Monitor, Plan]:
    """Return a swarm whose schedule is drawn but has not begun.

    ``mixed``: only some peers can host the whole model; the others form rings.
    """
    rng = random.Random(seed)
    plan = draw_plan(rng)
    first = rng.randint(1, plan.peers)
    world = World(rng, rules_for(plan, rng.randint(1, first)), trace)
    for number in range(plan.peers):
        step_s = rng.uniform(0.2, 0.6) * (6.0 if rng.random() < 0.08 else 1.0)
        offer = rng.choice(OFFERS) if mixed and number else Offer()
        node = Node(world, PeerId(f"p{number:02}"), step_s, offer)
        world.nodes[node.name] = node
        late = number >= first
        at = rng.uniform(3.0, plan.faults_until) if late else rng.uniform(0.0, 1.0)
        world.after(at, lambda node=node: world.launch(node))
    if plan.peers > 3 and rng.random() < 0.3:
        world.nodes[PeerId(f"p{plan.peers - 1:02}")].corrupt_share = 0.5
    Faults(world, plan).schedule()
    monitor = Monitor(world)
    world.after(0.0, monitor.watch)
    return world, monitor, plan


def run(seed: int, trace: bool = False, mixed: bool = False) -> tuple[World, Monitor]:
    """Run one schedule to its end and check it. Raises: AssertionError."""
    world, monitor, plan = build(seed, trace, mixed)
    try:
        finish(world, monitor, plan)
    except AssertionError as error:
        error.world = world  # type: ignore[attr-defined]
        raise
    return world, monitor


def finish(world: World, monitor: Monitor, plan: Plan) -> None:
    """Run a drawn schedule to its end and check it."""
    world.run_until(lambda: False, plan.faults_until + 0.001)
    limit = world.now + monitor.bound * (plan.rounds + 4)

    def over() -> bool:
        done = [n for n in world.live if n.done]
        rest = [n for n in world.live if not n.done]
        removed = done[0].s.settings.removed if done else {}
        agreed = all(n.kept_out and n.name in removed for n in rest)
        return agreed and len({n.s.at for n in done}) == 1

    if not world.run_until(over, limit):
        raise Violation(
            f"no common end: {[(n.name, str(n.s.phase), n.s.at[:6]) for n in world.live]}"
        )
    world.run_until(lambda: False, world.now + DRAIN_S)
    if not over():
        raise Violation("the end was left again")
    check_end(world)


def check_end(world: World) -> None:
    """Check one head, equal digests, no text token twice, nothing lost."""
    there = [n for n in world.live if n.done]
    assert len(there) >= 2, "the schedule left too few peers to say anything"
    if len({n.s.at for n in there}) != 1 or any(n.compute.digest != n.s.loaded for n in there):
        raise Violation(f"the peers do not agree: {[(n.name, n.s.at[:6]) for n in there]}")
    check_shards(there)
    included = check_chain(world, there[0])
    check_orders(world, there[0])
    for node in there:
        check_feedback(node, included)


def check_shards(nodes: list[Node]) -> None:
    """Check that all hosts of a shard hold the same parameters of it."""
    held: dict[str, set[str]] = {}
    for node in nodes:
        for entry in node.s.held or ():
            held.setdefault(entry.shard, set()).add(entry.address)
    if any(len(values) != 1 for values in held.values()):
        raise Violation(f"the hosts of a shard do not agree: {held}")


def check_orders(world: World, node: Node) -> None:
    """Check that what is in force follows from the chain, and that removed peers train nothing."""
    settings = world.rules.chain.settings
    for name in reversed(list(node.s.chain.path(node.s.at))):
        commit = node.s.chain[name].message
        gone = settings.removed.keys() & {a.signer for a in commit.announces}
        settings = ordered(settings, commit.orders, world.rules.chain.keys)
        settings = admitted(settings, commit.admissions)
        if gone or settings.removed.keys() & set(commit.roster):
            raise Violation(f"{gone or commit.roster} of round {commit.round} was removed")
        settings = admitted(settings, commit.admissions)
        if commit.plan is not None:
            settings = replace(settings, hosts=settings.hosts.following(commit.plan))
        if settings != node.s.chain.settings(name):
            raise Violation(f"round {commit.round} has other settings: {settings}")


def check_chain(world: World, node: Node) -> Counter[Item]:
    """Return the inner steps on the final chain; each may be there once."""
    path = list(node.s.chain.path(node.s.at))
    payloads = world.payloads
    included: Counter[Item] = Counter()
    on_time: Counter[int] = Counter()
    weight = 0
    for name in path:
        commit = node.s.chain[name].message
        for announce in commit.announces:
            for shard in announce.message.shards:
                work = payloads[shard.address].work
                included.update((one, shard.shard) for one in work)
                if shard.shard == SHARD:
                    # What a lighter, longer chain brought beyond the limit is not counted.
                    weight += min(len(work), STEPS * commit.round) * TOKENS_PER_BATCH
    if any(count > 1 for count in included.values()):
        raise Violation(f"counted twice: {[w for w, c in included.items() if c > 1][:5]}")
    if weight != node.s.chain.weight_of(node.s.at):
        raise Violation(f"weight {node.s.chain.weight_of(node.s.at)}, trained {weight}")
    # Upon one chain, no two peers train the same text.
    read = [work for work, shard in included if shard == SHARD]
    on_time.update(batch for _, parent, batch in read if parent in path)
    if any(count > 1 for count in on_time.values()):
        raise Violation("two peers trained the same batch upon one chain")
    return included


def check_feedback(node: Node, included: Counter[Item]) -> None:
    """Every durable inner step is in the error feedback, on the way, or in the chain: once."""
    assert node.compute is not None
    feedback = node.compute.feedback
    where = Counter(feedback.pending)
    for entry in feedback.ledger.values():
        if entry.state == "open":
            where.update(entry.items)
    where.update(item for item in included if item[0][0] == node.name)
    kept = node.disk.durable - node.disk.dropped
    wrong = {item: where[item] for item in kept if where[item] != 1}
    if wrong:
        raise Violation(f"{node.name}: not exactly once: {list(wrong.items())[:5]}")
    extra = [item for item, count in where.items() if count and item not in node.disk.durable]
    if extra:
        raise Violation(f"{node.name}: never trained: {extra[:5]}")


def main() -> int:
    """Tell the story of one seed."""
    seed = int(sys.argv[1])
    lines = int(sys.argv[2]) if len(sys.argv) > 2 else 80
    try:
        world, _ = run(seed, trace=True, mixed="mixed" in sys.argv)
        failure = None
    except AssertionError as error:
        world, failure = error.world, error  # type: ignore[attr-defined]
    print("\n".join(world.story[-lines:]))
    print(f"seed {seed}: {failure or 'holds'}")
    return failure is not None


if __name__ == "__main__":
    sys.exit(main())
