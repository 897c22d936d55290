"""One simulated node: the real state machine, and an edge that carries out its actions.

What is on ``Disk`` survives a crash; everything else of the node does not.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from simulated_compute import (
    BrokenRule,
    Compute,
    Feedback,
    Item,
    Payload,
    shards_in,
    state_of,
    stored,
)
from simulated_planner import USUAL_RATE, plan_for

from skerry.node.run.state import (
    LEAVING,
    Closed,
    NodeEvent,
    NodeState,
    Unreachable,
    apply,
    next_deadline,
)
from skerry.protocol import codec
from skerry.protocol.compute import Contribution, Hosting
from skerry.protocol.ids import Address, CommitHash, PeerId, content_hash
from skerry.protocol.leases import Leases
from skerry.protocol.messages import (
    MAX_DOUBTS,
    Change,
    Envelope,
    Heartbeat,
    Kind,
    MemberRecord,
    Message,
    Offer,
    Order,
    Signed,
    SignedAnnounce,
    SignedCommit,
    SignedOrder,
)
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.events import LocalState
from skerry.protocol.rounds.hosting import NOTHING
from skerry.protocol.rounds.ordering import next_sequence
from skerry.protocol.rounds.state import Phase, RoundState, new_state
from skerry.recovery.detector import Detector, DetectorConfig
from skerry.recovery.standing import Register, rules_at

HEARTBEAT_S = 1.0
SILENCE_S = 4.0
"""What the detector's patience is where heartbeats come in time."""
RETRY_S = 0.4
DISK_RETRY_S = 2.0
MAX_IDLE_TICKS = 50


@dataclass
class Disk:
    """What a node has written down."""

    commits: list[SignedCommit] = field(default_factory=list)
    own: dict[CommitHash, SignedAnnounce] = field(default_factory=dict)
    states: tuple[LocalState, ...] = ()
    orders: list[SignedOrder] = field(default_factory=list)
    blobs: dict[Address, Any] = field(default_factory=dict)
    feedback: Feedback = field(default_factory=Feedback)
    full: bool = False
    """Nothing can be written."""
    owed: list[SignedCommit] = field(default_factory=list)
    """Commits to be written before any others, as long as the process lives."""
    rests: bool = False
    """The user has paused this node."""
    durable: set[Item] = field(default_factory=set)
    """Inner steps whose progress has been written; none of them may get lost."""
    dropped: set[Item] = field(default_factory=set)
    """What was of shards that this node no longer hosted: its error feedback is gone."""


def sign(message: Message, signer: PeerId) -> Signed[Any]:
    kind, body = codec.encode(message)
    return Signed(message, Envelope(kind, body, signer, b""))


class Node:
    """A peer of the simulated swarm."""

    def __init__(
        self,
        world: Any,
        name: PeerId,
        step_s: float,
        offer: Offer = Offer(),  # noqa: B008 - frozen
    ) -> None:
        self.world, self.name, self.step_s = world, name, step_s
        self.disk = Disk()
        self.up = False
        self.paused = False
        self.gone = False
        self.ending = False
        """It was told to end: it takes nothing in any more, and is about to be gone."""
        self.life = 0
        self.crash_after: int | None = None
        self.corrupt_share = 0.0
        self.diverges = False
        self.rate = USUAL_RATE
        """What it says of its speed."""
        self.compute: Compute | None = None
        self.offer = offer
        record = MemberRecord(world.rules.chain.run_id, (), None, 1, "test", offer)
        self.member = sign(record, name)
        self.state: NodeState
        self.s: RoundState

    def start(self) -> None:
        """Start the process with what is on disk."""
        self.life += 1
        self.disk.owed = []
        self.up, self.paused, self.ending, self.crash_after = True, False, False, None
        self.receiving: Compute | None = None
        self.inbox: list[Any] = []
        self.tick_at: float | None = None
        self.idle_ticks = 0
        self.leases = Leases()
        self.hosting = None if self.whole else NOTHING
        rules, now = self.world.rules, self.world.now
        self.s = new_state(self.name, rules, lambda member: None, now, whole=self.whole)
        detector = Detector(DetectorConfig(min_s=2 * HEARTBEAT_S, expected_gap_s=HEARTBEAT_S))
        self.state = NodeState(self.s, detector, Register(rules_at(HEARTBEAT_S)))
        self.world.log(self.name, "starts")
        disk = self.disk
        kept = (tuple(disk.commits), tuple(disk.own.values()), disk.states, tuple(disk.orders))
        self.handle(ev.Restored(*kept))
        if disk.rests:
            self.handle(ev.Paused())
        self.handle(ev.MemberLearned(self.member))
        self._start_compute()
        self._later(self.world.rng.uniform(0, HEARTBEAT_S), self._heartbeat)

    def crash(self) -> None:
        """Lose everything that is not on disk."""
        if self.up:
            self.world.log(self.name, "CRASHES")
            self.up, self.life = False, self.life + 1
            self._stop_compute()
            for other in self.world.live:
                if self.world.connected(self.name, other.name):
                    other._later(self.world.delay(), partial(other.handle, Closed(self.name)))

    def crash_compute(self) -> None:
        """The compute process dies and is started again."""
        if self.up and self.compute is not None:
            self.world.log(self.name, "compute process CRASHES")
            self._stop_compute()
            self.post(ev.ComputeLost(), None)
            self._start_compute()

    def end(self, seconds: float) -> None:
        """End in good order: take leave, and be gone after some seconds."""
        self.say_farewell()
        self.ending = True
        self._later(seconds, self.crash)

    def forget(self) -> None:
        """While it does not run: lose all that is on disk, as a new machine with the same key."""
        written = self.disk.durable
        self.disk = Disk(full=self.disk.full, durable=written, dropped=set(written))

    def host(self, hosting: Hosting | None) -> None:
        """Start the compute process anew for other shards; the old one has done its work."""
        self.world.log(self.name, f"HOSTS {shards_in(hosting)}")
        self.hosting = hosting
        self._stop_compute()
        self._start_compute()

    def pause(self) -> None:
        """Stop doing anything, without knowing it."""
        if self.up:
            self.world.log(self.name, "PAUSES")
            self.paused = True

    def resume(self) -> None:
        """Go on with what has piled up."""
        if self.up and self.paused:
            self.world.log(self.name, "RESUMES")
            self.paused = False
            waiting, self.inbox = self.inbox, []
            for call in waiting:
                self._later(0.0, call)

    def rest(self, wanted: bool) -> None:
        """The user pauses this node, or lets it train again."""
        if self.up and not self.paused and self.disk.rests != wanted:
            self.world.log(self.name, "RESTS" if wanted else "WORKS AGAIN")
            self.disk.rests = wanted
            self.handle(ev.Paused() if wanted else ev.Resumed())

    def order(self, change: Change) -> SignedOrder:
        """Give an order by this node's key; it is on disk before anyone hears of it."""
        number = next_sequence(self.s, self.name)
        order = sign(Order(self.world.rules.chain.run_id, number, change), self.name)
        self.world.log(self.name, f"ORDERS {number}: {change}")
        self.disk.orders.append(order)
        self.handle(ev.OrderReceived(order, self.name))
        return order

    def post(self, event: ev.Event, source: Compute | None) -> None:
        """Queue an event; one of a compute process counts only while that one lives."""

        def deliver() -> None:
            if source is None or source is self.compute:
                self.handle(event)

        self._later(0.0, deliver)

    def handle(self, event: NodeEvent) -> None:
        """Let the core decide and carry out what it wants."""
        if self.ending:
            return
        before = self.s.at
        idle = isinstance(event, ev.Tick)
        self.world.log(self.name, event, self.s.phase)
        actions = apply(self.state, event, self.world.now)
        self._check_idle(idle and not actions and self.s.at == before)
        for number, action in enumerate(actions):
            if self.crash_after == number:
                self.crash()
                self.world.restart_later(self)
                return
            self.world.log(self.name, action)
            self._perform(action)
        if self.crash_after is not None:
            self.crash_after -= len(actions)
        self._arm()

    def receive(self, envelope_of: Signed[Any], source: PeerId) -> None:
        """Take in a message of another peer, unless it was removed: then it is told so."""
        if source in self.s.settings.removed:
            self.world.nodes[source].knock(self.name)
        elif isinstance(envelope_of.message, Heartbeat):
            if source not in self.s.members:
                self.handle(ev.MemberLearned(self.world.nodes[source].member))
            self.handle(ev.HeartbeatReceived(envelope_of))
        elif envelope_of.envelope.kind is Kind.ANNOUNCE:
            self.handle(ev.AnnounceReceived(envelope_of))
        elif envelope_of.envelope.kind is Kind.ORDER:
            self.handle(ev.OrderReceived(envelope_of, source))
        else:
            self.handle(ev.CommitsReceived((envelope_of,), source))

    def knock(self, peer: PeerId) -> None:
        """Ask a peer that refuses us for its chain: it says why, and when we may come back."""
        if self.up:
            self._later(self.world.delay(), partial(self._ask, act.AskChain(peer, 0)))

    def say_goodbye(self) -> None:
        """Leave for good."""
        self.say_farewell()
        self.crash()
        self.gone = True

    def say_farewell(self) -> None:
        """Tell the others that this process ends in good order."""
        self.world.log(self.name, "LEAVES")
        for other in self.world.nodes.values():
            if other is not self and other.up and self.world.connected(self.name, other.name):
                farewell = ev.HeartbeatReceived(self._beat(LEAVING))
                other._later(0.05, partial(other.handle, farewell))

    def fill_disk(self, full: bool) -> None:
        """Let nothing more be written, or all again."""
        self.world.log(self.name, "DISK FULL" if full else "DISK HAS ROOM")
        self.disk.full = full

    def chain_from(self, first_round: int) -> tuple[SignedCommit, ...]:
        """Return what this node serves to a peer that asks for its chain."""
        path = [self.s.chain[name] for name in self.s.chain.path(self.s.at)]
        return tuple(c for c in reversed(path) if c.message.round >= first_round)

    def next_is_corrupt(self) -> bool:
        """Say whether the contribution being encoded is to be unsound."""
        return self.corrupt_share > 0 and self.world.rng.random() < self.corrupt_share

    def take_divergence(self, commit: CommitHash) -> bool:
        """Say whether this update is to go wrong; at most once."""
        if self.s.chain.round_of(commit) == self.world.rules.rounds:
            return False  # nobody builds on the last state, so nobody would notice
        wrong, self.diverges = self.diverges, False
        if wrong:
            self.world.log(self.name, f"DIVERGES at {commit[:6]}")
        return wrong

    # The edge: timers, membership and liveness.

    def _later(self, seconds: float, call: Any) -> None:
        life = self.life

        def run() -> None:
            if not self.up or life != self.life:
                return
            if self.paused:
                self.inbox.append(call)
            else:
                call()

        self.world.after(seconds, run)

    def _arm(self) -> None:
        if not self.up:
            return
        due = next_deadline(self.state, self.world.now)
        if due == self.tick_at:
            return
        self.tick_at = due
        if due is not None:
            self._later(max(0.0, due - self.world.now), partial(self._tick, due))

    def _tick(self, due: float) -> None:
        if due == self.tick_at:
            self.tick_at = None
            self.handle(ev.Tick())

    def _check_idle(self, idle: bool) -> None:
        due = next_deadline(self.state, self.world.now)
        self.idle_ticks = self.idle_ticks + 1 if idle and (due or 0) <= self.world.now else 0
        if idle and due is not None and self.idle_ticks > MAX_IDLE_TICKS:
            raise BrokenRule(f"{self.name} spins: its deadline stays in the past")

    def _heartbeat(self) -> None:
        if not self.ending:
            self._later(HEARTBEAT_S, self._heartbeat)
            self._tell_position()

    def _tell_position(self) -> None:
        signed = self._beat(self.s.told_phase.value)
        for other in self.world.started:
            if other != self.name and other not in self.s.settings.removed:
                self.world.send(self.name, other, signed)
                if not self.world.nodes[other].up and self.world.connected(self.name, other):
                    refused = Unreachable(other, refused=True)
                    self._later(self.world.delay(), partial(self.handle, refused))

    def _beat(self, phase: str) -> Signed[Any]:
        s = self.s
        beat = Heartbeat(
            run_id=s.rules.chain.run_id,
            head=s.at,
            head_round=max(0, s.chain.round_of(s.at)),
            weight=s.chain.weight_of(s.at),
            phase=phase,
            step=0,
            steps=0,
            tokens_per_second=0.0,
            loss=0.0,
            block_rate=self.rate,
            doubts=self.state.register.doubts(self.name)[:MAX_DOUBTS],
        )
        return Signed(beat, Envelope(Kind.HEARTBEAT, b"", self.name, b""))

    def _start_compute(self) -> None:
        self.compute = None

        def ready() -> None:
            if self.compute is None:
                self.compute = Compute(self, self.hosting)
                open_ = self.compute.open_contributions
                self.handle(ev.ComputeReady(open_, self.hosting))

        self._later(self.world.rng.uniform(0.1, 1.0), ready)

    def _stop_compute(self) -> None:
        if self.compute is not None:
            self.compute.alive = False
            self.compute = None

    # The edge: actions.

    def _perform(self, action: act.Action) -> None:
        match action:
            case act.PublishAnnounce() if self.disk.full:
                again = partial(self._publish_later, action)
                self._later(DISK_RETRY_S, again)
            case act.PublishAnnounce():
                signed = sign(action.announce, self.name)
                self.disk.own[action.announce.parent] = signed
                self._publish(signed, ev.AnnounceReceived(signed))
            case act.PublishCommit():
                signed = sign(action.commit, self.name)
                self._publish(signed, ev.CommitsReceived((signed,), self.name))
            case act.Broadcast():
                known = [*self.disk.own.values(), *self._orders]
                again = next(signed for signed in known if signed.envelope == action.envelope)
                for peer in action.peers:
                    self.world.send(self.name, peer, again)
            case act.AskChain():
                self._later(self.world.delay(), partial(self._ask, action))
            case act.StoreCommits():
                self.disk.owed += action.commits
                if not self.disk.full:
                    self.disk.commits += self.disk.owed
                    self.disk.owed = []
            case act.StoreOrders() | act.StoreStates() if self.disk.full:
                pass
            case act.StoreOrders():
                self.disk.orders.extend(action.orders)
            case act.Present():
                self._tell_position()
            case act.StoreStates():
                self.disk.states = action.states
                self.leases.offer(frozenset(x.address for x in s.shards) for s in action.states)
            case act.Retain():
                blobs = self.disk.blobs
                kept = self.leases.retain(action.addresses, self.world.now)
                self.disk.blobs = {a: blobs[a] for a in blobs if a in kept}
            case act.Note():
                self.world.notes.append((self.name, action))
            case act.Refuse() | act.Evaluate() | act.GiveUp():
                pass
            case act.Check():
                self._work_on(partial(self._check, action, self.world.now + self._patience))
            case act.Gather():
                self._work_on(partial(self._gather, action, self.world.now + self._patience))
            case act.LoadState():
                self._work_on(partial(self._load, action))
            case act.Renew():
                self._work_on(partial(self._renew, action))
            case act.Host() if self.compute is None:
                self.host(action.hosting)
            case act.MakePlan():
                plan = plan_for(action, self.world)
                event = ev.Planned(action.candidates, plan)
                self._later(self.world.delay(), partial(self.handle, event))
            case _:
                self._ask_compute(action)

    @property
    def _orders(self) -> list[SignedOrder]:
        return [order for known in self.s.orders.values() for order in known.values()]

    @property
    def _patience(self) -> float:
        return self.world.rules.grace

    def _publish_later(self, action: act.PublishAnnounce) -> None:
        """Send an own announcement when it fits on the disk, if it matters still."""
        if self.s.at == action.announce.parent and self.s.own is None:
            self._perform(action)

    def _publish(self, signed: Signed[Any], event: ev.Event) -> None:
        self.post(event, None)
        for peer in self.s.members:
            if peer != self.name:
                self.world.send(self.name, peer, signed)

    def _ask(self, action: act.AskChain) -> None:
        other = self.world.reachable(self.name, action.peer)
        if other is not None:
            commits = other.chain_from(action.from_round)
            event = ev.CommitsReceived(commits, action.peer)
            self._later(self.world.delay(), partial(self.handle, event))

    def _ask_compute(self, request: Any) -> None:
        """Pass on a request; one to a process that has just died is lost (ComputeLost follows)."""
        if self.compute is not None:
            self.compute.request(request)

    def _work_on(self, step: Any) -> None:
        """Do something for the present compute process after a delay; it ends with that one."""
        compute = self.compute

        def run() -> None:
            if compute is not None and self.compute is compute:
                step()

        self._later(self.world.delay(), run)

    def _check(self, action: act.Check, until: float) -> None:
        announce = action.announce
        missing = self._fetch(action.shards, announce.signer)
        if missing and self.world.now < until:
            self._again(partial(self._check, action, until))
            return
        reason = "unavailable" if missing else ""
        if not missing and any(self._payload(s.address).corrupt for s in action.shards):
            reason = "corrupt"
        whole = action.shards == announce.message.shards
        self.post(ev.Checked(announce.hash, reason, whole), self.compute)

    def _gather(self, action: act.Gather, until: float) -> None:
        missing = [c for c in action.contributions if self._fetch_one(c, action.holders)]
        if missing and self.world.now < until:
            self._again(partial(self._gather, action, until))
            return
        self.post(ev.Gathered(action.commit, not missing), self.compute)

    def _fetch_one(self, contribution: Contribution, holders: tuple[PeerId, ...]) -> bool:
        return self._fetch(contribution.shards, contribution.author, *holders)

    def _fetch(self, shards: Any, *sources: PeerId) -> bool:
        """Copy payloads from whoever has them; return whether something is missing."""
        for shard in shards:
            for source in sources:
                if shard.address in self.disk.blobs:
                    break
                other = self.world.reachable(self.name, source)
                if other is not None and shard.address in other.disk.blobs:
                    self.disk.blobs[shard.address] = other.disk.blobs[shard.address]
        return any(shard.address not in self.disk.blobs for shard in shards)

    def _payload(self, address: Address) -> Payload:
        payload = self.disk.blobs[address]
        assert isinstance(payload, Payload)
        return payload

    def _again(self, step: Any) -> None:
        compute = self.compute
        self._later(RETRY_S, lambda: step() if self.compute is compute else None)

    def _load(self, action: act.LoadState) -> None:
        """Load the initial parameters, kept ones, or those of which some holder has each shard."""
        if action.digest is None:
            self._ask_compute(state_of("seed", self.s.hosted))
            return
        wanted = action.local or stored({entry.shard: entry.address for entry in action.wanted})
        missing = [s.address for s in wanted.shards if s.address not in self.disk.blobs]
        if action.local is not None and missing:
            raise BrokenRule(f"{self.name}: a kept state was removed")
        begun = self._download(missing, action.holders)
        if not missing or not begun:
            self._loaded(action, wanted, begun)
            return
        self.receiving = self.compute
        end = partial(self._downloaded, action, wanted, missing, self.compute)
        self._later(self.world.download_s, end)

    def _downloaded(
        self, action: act.LoadState, wanted: LocalState, missing: list[Address], asker: Any
    ) -> None:
        if asker is self.compute:
            self.receiving = None
            self._loaded(action, wanted, self._download(missing, action.holders))

    def _loaded(self, action: act.LoadState, wanted: LocalState, is_here: bool) -> None:
        if is_here:
            self._ask_compute(wanted)
        else:
            self.post(ev.StateFailed(action.digest), self.compute)

    def _renew(self, action: act.Renew) -> None:
        """Make what nobody has any more; get the rest as any other state."""
        self.world.log(self.name, f"RENEWS {action.lost} of {action.renewed}")
        made = {x: content_hash(f"{x} made upon {action.commit}".encode()) for x in action.lost}
        held = {entry.shard: str(entry.address) for entry in action.wanted} | made
        for value in made.values():
            self.disk.blobs[Address(value)] = value
        state = stored({shard: held[shard] for shard in self.s.hosted})
        missing = [s.address for s in state.shards if s.address not in self.disk.blobs]
        holders = [self.world.reachable(self.name, peer) for peer in action.holders]
        if all(any(h is not None and a in h.disk.blobs for h in holders) for a in missing):
            self.world.renewed += bool(action.lost)
            self._ask_compute(state)
        else:
            self.post(ev.StateFailed(None), self.compute)

    def _download(self, addresses: list[Address], peers: tuple[PeerId, ...]) -> bool:
        """Ask holders for shards of a state; say whether each is at one of them."""
        found = set()
        for peer in peers:
            holder = self.world.reachable(self.name, peer)
            for address in addresses if holder is not None else ():
                if address in holder.disk.blobs:
                    holder.leases.asked(address, self.world.now)
                    found.add(address)
        return len(found) == len(set(addresses))

    @property
    def downloads(self) -> bool:
        """Whether a state is on its way here from others."""
        asker = self.receiving
        return self.s.phase is Phase.LOADING and asker is not None and asker is self.compute

    @property
    def whole(self) -> bool:
        """Whether this node can host the whole model."""
        return self.offer.is_whole(self.world.rules.chain.replica_bytes)

    @property
    def done(self) -> bool:
        return self.s.phase is Phase.DONE

    @property
    def kept_out(self) -> bool:
        """Whether the owner has removed this node, and it knows."""
        return self.s.phase is Phase.REMOVED
