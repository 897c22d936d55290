"""A compute process without torch: parameters are a digest, text tokens are numbered batches.

It follows protocol/compute.py: requests in order, error feedback and ledger written together
when something is encoded, settled in memory only. Equal inputs give equal digests.
"""

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Any

from skerry.protocol.compute import Hosting
from skerry.protocol.ids import Address, CommitHash, Digest, PeerId, content_hash
from skerry.protocol.layout import state_digest
from skerry.protocol.messages import Judgement, ShardPayload
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.events import LocalState
from skerry.protocol.rounds.renewing import told

TOKENS_PER_BATCH = 10
STEPS = 3
SHARDS = ("embed", "block.0", "block.1", "head")
SHARD = SHARDS[0]
"""The first one: whoever hosts it reads text."""

Work = tuple[PeerId, CommitHash, int]
"""One inner step somebody did: who, upon which commit, on which global batch."""
Item = tuple[Work, str]
"""What an inner step did to one shard."""


class BrokenRule(AssertionError):
    """The machine asked for something that the real compute process or edge would refuse."""


@dataclass(frozen=True)
class Payload:
    """What stands for an encoded pseudo-gradient of a shard: the inner steps inside it."""

    author: PeerId
    parent: CommitHash
    shard: str
    work: tuple[Work, ...]
    corrupt: bool


@dataclass(frozen=True)
class Entry:
    """One line of the ledger."""

    shards: tuple[ShardPayload, ...]
    items: tuple[Item, ...]
    text_tokens: int
    round: int
    round_tokens: int
    state: str  # open, included, returned, lost, unsent

    @property
    def may_change(self) -> bool:
        return self.state in ("open", "included", "returned")


@dataclass
class Feedback:
    """Error feedback and ledger; what is on disk is a copy of it."""

    pending: Counter[Item] = field(default_factory=Counter)
    ledger: dict[CommitHash, Entry] = field(default_factory=dict)

    def copy(self) -> "Feedback":
        return Feedback(Counter(self.pending), dict(self.ledger))

    def restrict(self, shards: tuple[str, ...]) -> set[Item]:
        """Forget what is of other shards, and return it."""
        gone = {item for item in self.pending if item[1] not in shards}
        gone |= {i for e in self.ledger.values() for i in e.items if i[1] not in shards}
        self.pending = Counter({i: n for i, n in self.pending.items() if i[1] in shards})
        for parent, entry in self.ledger.items():
            self.ledger[parent] = replace(
                entry,
                shards=tuple(s for s in entry.shards if s.shard in shards),
                items=tuple(i for i in entry.items if i[1] in shards),
            )
        return gone


def state_of(text: str, shards: tuple[str, ...] = (SHARD,)) -> LocalState:
    """Return a made-up state."""
    return stored({shard: content_hash(f"{shard} of {text}".encode()) for shard in shards})


def stored(theta: dict[str, str]) -> LocalState:
    """Return a state whose shards have these contents."""
    shards = tuple(ShardPayload(shard, Address(value), 4) for shard, value in theta.items())
    return LocalState(state_digest(shards), shards)


INITIAL = state_of("seed")


def payload_address(payload: Payload) -> Address:
    return Address(content_hash(repr(payload).encode()))


def outcome(value: str, used: list[Any], outer_lr: float | None, wrong: bool) -> str:
    return content_hash(repr((value, used, outer_lr, wrong)).encode())


def shards_in(hosting: Hosting | None) -> tuple[str, ...]:
    """Return the shards that a compute process hosts, in layout order."""
    if hosting is None:
        return SHARDS
    hosted = {shard for stage in hosting.stages for shard in stage.shards}
    return tuple(shard for shard in SHARDS if shard in hosted)


class Compute:
    """The requests of one node's compute process, done one after another."""

    def __init__(self, node: Any, hosting: Hosting | None) -> None:
        self.node, self.world = node, node.world
        self.alive = True
        self.queue: deque[Any] = deque()
        self.current: Any = None
        self.token = 0
        self.hosting, self.hosted = hosting, shards_in(hosting)
        self.theta: dict[str, str] | None = None if self.hosted else {}
        self.feedback: Feedback = node.disk.feedback.copy()
        node.disk.dropped |= self.feedback.restrict(self.hosted)
        self.work: tuple[CommitHash, int, tuple[Work, ...]] | None = None
        self.train_started = 0.0
        self.steps = 0

    @property
    def digest(self) -> Digest | None:
        return None if self.theta is None else stored(self.theta).digest

    @property
    def open_contributions(self) -> tuple[CommitHash, ...]:
        return tuple(p for p, e in self.feedback.ledger.items() if e.may_change)

    def request(self, request: Any) -> None:
        if isinstance(request, act.FinishTraining):
            self._finish()
            return
        self.queue.append(request)
        if self.current is None:
            self._next()

    def _next(self) -> None:
        if not self.queue:
            self.current = None
            return
        self.current = self.queue.popleft()
        if isinstance(self.current, act.Train):
            self.train_started, self.steps = self.world.now, STEPS
            if "finish" in self.queue:
                self.queue.remove("finish")
                self.steps = 1
            duration = self.steps * self.node.step_s
        else:
            duration = self.world.rng.uniform(0.0, 0.1)
        self._complete_in(duration)

    def _complete_in(self, seconds: float) -> None:
        self.token += 1
        token = self.token
        self.world.after(seconds, lambda: self._complete(token))

    def _complete(self, token: int) -> None:
        if not self.alive or token != self.token:
            return
        request = self.current
        if self.node.disk.full and isinstance(request, act.Encode | act.Apply | LocalState):
            self.node.crash_compute()  # what it must write does not fit; it is started again
            return
        event = self._perform(request)
        if event is not None:
            self.node.post(event, self)
        self._next()

    def _finish(self) -> None:
        if isinstance(self.current, act.Train):
            elapsed = self.world.now - self.train_started
            done = min(self.steps, int(elapsed / self.node.step_s) + 1)
            if done < self.steps:
                self.steps = done
                end = self.train_started + done * self.node.step_s
                self._complete_in(max(0.0, end - self.world.now))
        elif any(isinstance(r, act.Train) for r in self.queue):
            self.queue.append("finish")

    def _perform(self, request: Any) -> Any:
        match request:
            case LocalState():
                self._need(self.work is None, "new parameters drop progress")
                names = tuple(shard.shard for shard in request.shards)
                self._need(names == self.hosted, f"{names} where {self.hosted} are hosted")
                self.theta = {shard.shard: shard.address for shard in request.shards}
                self._store()
                return ev.StateLoaded(request)
            case act.Host():
                self._need(self.work is None, "a new process drops progress")
                self.node.host(request.hosting)
                return None
            case act.Train():
                return self._train(request)
            case act.Encode():
                return self._encode(request)
            case act.Apply():
                return self._apply(request)
            case act.Settle():
                self._settle(request)
                return None
            case "finish":
                return None
        raise BrokenRule(f"unknown request {request}")

    def _train(self, request: act.Train) -> ev.Trained:
        self._need(self.theta is not None, "training without parameters")
        self._need(self.work is None, "training although progress is not encoded")
        me = self.node.name
        slots = [request.cursor + i * request.num_slots + request.slot for i in range(self.steps)]
        if SHARD not in self.hosted:
            slots = [-1 - i for i in range(self.steps)]  # the text is its origin's
        work = tuple((me, request.parent, batch) for batch in slots)
        if self._is_in_a_whole_ring() or not self.world.strict:
            self.work = (request.parent, request.round, work)
        return ev.Trained(request.parent, self.node.rate)

    def _is_in_a_whole_ring(self) -> bool:
        s, up = self.node.s, {node.name for node in self.world.live}
        ring = s.hosts.plan.ring_of(s.me) if s.hosts.plan is not None else None
        if s.hosts.plan is None or ring is None:
            return True
        return {m.peer for m in s.hosts.plan.rings[ring].members} <= up & set(s.roster)

    def _encode(self, request: act.Encode) -> ev.Encoded:
        self._need(self.theta is not None, "encoding without parameters")
        work, self.work = self.work, None
        self._need(work is None or work[0] == request.parent, "encoding upon another parent")
        entry = None
        if request.parent in self.feedback.ledger:
            entry = self._offer_again(request.parent) if request.send else None
        elif work is not None:
            entry = self._fold(*work, request.send)
        sent = entry is not None and entry.state != "unsent"
        return ev.Encoded(
            parent=request.parent,
            text_tokens=entry.text_tokens if entry and sent else 0,
            round_tokens=entry.round_tokens if entry else 0,
            loss=1.0,
            shards=entry.shards if entry else (),
            norms=tuple(1.0 for _ in entry.shards) if entry else (),
        )

    def _fold(self, parent: CommitHash, round_: int, work: tuple[Work, ...], send: bool) -> Entry:
        items = [(one, shard) for one in work for shard in self.hosted]
        pending = self.feedback.pending + Counter(items)
        self.node.disk.durable.update(items)
        return self._take_up(parent, round_, TOKENS_PER_BATCH * len(work), pending, send)

    def _take_up(
        self, parent: CommitHash, round_: int, tokens: int, pending: Counter[Item], send: bool
    ) -> Entry:
        self._need(all(n >= 0 for n in pending.values()), "debt in error feedback")
        shards: tuple[ShardPayload, ...] = ()
        inside: tuple[Item, ...] = ()
        if send:
            inside = tuple(sorted(pending.elements()))
            pending = Counter()
            shards = tuple(self._payload(parent, shard, inside) for shard in self.hosted)
        read = sum(shard == self.hosted[0] for _, shard in inside)
        state = "open" if send else "unsent"
        entry = Entry(shards, inside, TOKENS_PER_BATCH * read, round_, tokens, state)
        keep = round_ - 2 * self.world.rules.replay
        known = {**self.feedback.ledger, parent: entry}
        self.feedback.ledger = {p: e for p, e in known.items() if e.round >= keep}
        self.feedback.pending = pending
        self._persist()
        return entry

    def _payload(self, parent: CommitHash, shard: str, inside: tuple[Item, ...]) -> ShardPayload:
        work = tuple(one for one, where in inside if where == shard)
        payload = Payload(self.node.name, parent, shard, work, self.node.next_is_corrupt())
        address = payload_address(payload)
        self.node.disk.blobs[address] = self.world.payloads[address] = payload
        return ShardPayload(shard, address, 10)

    def _offer_again(self, parent: CommitHash) -> Entry:
        entry = self.feedback.ledger[parent]
        if entry.state == "returned":
            self._move(parent, "open")
        elif entry.may_change and not self._has_payload(entry):
            self._mark(parent, "lost")
        entry = self.feedback.ledger[parent]
        if entry.may_change:
            self._persist()
            return entry
        pending = Counter(self.feedback.pending)
        return self._take_up(parent, entry.round, entry.round_tokens, pending, True)

    def _settle(self, request: act.Settle) -> None:
        for verdict in request.verdicts:
            entry = self.feedback.ledger.get(verdict.parent)
            if entry is None or not entry.may_change:
                continue
            if verdict.included and entry.state == "returned":
                self._move(verdict.parent, "included")
            elif not verdict.included and entry.state != "returned":
                self._move(verdict.parent, "returned")
            elif verdict.included:
                self._mark(verdict.parent, "included")

    def _move(self, parent: CommitHash, state: str) -> None:
        entry = self.feedback.ledger[parent]
        if not self._has_payload(entry):
            self._mark(parent, "lost")
            return
        sign = 1 if state == "returned" else -1
        for item in entry.items:
            self.feedback.pending[item] += sign
        self._mark(parent, state)

    def _has_payload(self, entry: Entry) -> bool:
        return all(shard.address in self.node.disk.blobs for shard in entry.shards)

    def _mark(self, parent: CommitHash, state: str) -> None:
        if state == "lost":
            self.world.log(self.node.name, f"LOST the contribution upon {parent[:6]}")
        self.feedback.ledger[parent] = replace(self.feedback.ledger[parent], state=state)

    def _persist(self) -> None:
        self.node.disk.feedback = self.feedback.copy()

    def _apply(self, request: act.Apply) -> ev.Applied:
        commit = self.node.s.chain[request.commit].message
        assert self.theta is not None
        agreed = {x.shard: x.address for x in told(self.node.s, commit)}
        self._need(agreed.items() <= self.theta.items(), "applying upon another state than agreed")
        blobs = self.node.disk.blobs
        shards = [(c, shard) for c in request.contributions for shard in c.shards]
        self._need(
            all(s.address in blobs for _, s in shards), "applying payloads that are not here"
        )
        bad = {c.author for c, s in shards if blobs[s.address].corrupt}
        wrong = self.node.take_divergence(request.commit)
        self._need(self.work is None, "an update drops progress")
        for name in self.hosted:
            sent = [(c, s) for c, s in shards if s.shard == name]
            used = [(c.author, c.round_tokens, s.address) for c, s in sent if c.author not in bad]
            if sent:
                self.theta[name] = outcome(self.theta[name], used, request.outer_lr, wrong)
        self._store()
        self.world.applied(self.node.name, request.commit, self.theta, wrong)
        judgements = tuple(Judgement(peer, 0, "corrupt") for peer in sorted(bad))
        return ev.Applied(request.commit, stored(self.theta), judgements)

    def _store(self) -> None:
        assert self.theta is not None
        self.node.disk.blobs |= {Address(value): value for value in self.theta.values()}

    def _need(self, condition: bool, text: str) -> None:
        if not condition:
            raise BrokenRule(f"{self.node.name}: {text}")
