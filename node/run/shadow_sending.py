"""Sending stale copies of the stages that are hosted here to the peers that the plan names.

What is due is encoded by the compute process and sent, one shard after the other, at the pace of
the spare uplink (recovery/shadowing.py). First come the parameters of a round's start, which all
agree upon. What the round's inner steps have made of them follows as a difference, in the place of
the one before it: whoever heals uses it, unless the commit to build upon counts the same steps.

A copy that could not be brought to its end is due again with the next step; one whose base the
holder has lost goes whole.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from skerry.node.net.rpc_errors import translate
from skerry.node.net.tasks import OwnedTasks
from skerry.node.net.upload_watch import UploadWatch
from skerry.node.run.calls import Call
from skerry.node.run.context import RunContext
from skerry.node.run.shadow_pace import SpareUpload
from skerry.proto import peer_pb2 as pb
from skerry.protocol import compute as cp
from skerry.protocol.blobs import BlobStore, remove_files
from skerry.protocol.codec import envelope_to_pb, sign_message
from skerry.protocol.errors import ProtocolError, SkerryError
from skerry.protocol.ids import Address, PeerId, short
from skerry.protocol.layout import layout_of
from skerry.protocol.messages import Envelope, ShadowCopy, ShardPayload
from skerry.protocol.rings.plan import Plan
from skerry.protocol.shading import Shade, Shaded
from skerry.protocol.shadows import NO_BASE, NOT_NOW, has_room
from skerry.protocol.transport import SHADOW_PROTOCOL
from skerry.recovery.healing_words import named
from skerry.recovery.shadowing import ShadowRules, ShadowSchedule

_LOG = logging.getLogger(__name__)
Ask = Callable[[Callable[[int], cp.Request]], Awaitable[cp.Reply]]


@dataclass(frozen=True, slots=True)
class _Held:
    """What a holder has confirmed of one shard, as of a round's start."""

    round: int
    parts: tuple[ShardPayload, ...]
    bits: Address
    """Of the bf16 parameters that they make, which lie here."""


@dataclass(slots=True)
class _Lane:
    """One stage on its way to its holder."""

    shards: tuple[str, ...]
    holder: PeerId
    schedule: ShadowSchedule
    held: dict[str, _Held] = field(default_factory=dict)
    told: bool = False
    """Whether the event log says that the holder has all of it."""
    rests_until: int = 0
    """Inner step of the run before which nothing is tried again after a failure."""


class ShadowSender:
    """Sends what is due while a ring trains."""

    def __init__(self, context: RunContext, ask: Ask) -> None:
        """Encode by ``ask``; nothing is sent before a round begins."""
        self._context, self._ask = context, ask
        every = context.manifest.recovery.shadow_every
        self._rules = ShadowRules(every=every) if every else None
        self._numels = {spec.name: spec.numel for spec in layout_of(context.manifest.model)}
        links = context.facts.links
        self._pace = SpareUpload(
            context.upload, self._rules or ShadowRules(), lambda: links.uplink_of(context.me)
        )
        self._lanes: list[_Lane] = []
        self._tasks = OwnedTasks()
        self._sending: asyncio.Task[None] | None = None
        self._round = self._step = 0
        """The round that is open, and the inner steps of it that are over."""

    def begin_round(self, plan: Plan, number: int) -> None:
        """The compute process holds the parameters of a round's start: send what is due."""
        self._round, self._step = number, 0
        self._follow(plan)
        for lane in self._lanes:
            lane.schedule.begin_round()
            lane.rests_until = 0
        self._begin_sending()

    def stepped(self, number: int, step: int) -> None:
        """So many inner steps of a round are over here: send what has become due."""
        if number == self._round and step > self._step:
            self._step = step
            self._begin_sending()

    async def close(self) -> None:
        """End what is under way; never raises."""
        await self._tasks.cancel()

    @property
    def _now(self) -> int:
        """The inner steps of the run that are over."""
        return self._first_step + self._step

    @property
    def _first_step(self) -> int:
        return self._round * self._context.manifest.inner.steps

    def _begin_sending(self) -> None:
        idle = self._sending is None or self._sending.done()
        if self._lanes and idle:
            self._sending = self._tasks.start(self._send_due(), "shadows")

    def _follow(self, plan: Plan) -> None:
        """Keep the lanes that the plan still has, and begin those that are new."""
        if self._rules is None:
            return
        known = {(lane.shards, lane.holder): lane for lane in self._lanes}
        wanted = [
            (plan.stages[shadow.stage].shards, shadow.holder)
            for shadow in plan.shadows
            if shadow.source == self._context.me
        ]
        self._lanes = [
            known.get((shards, holder))
            or _Lane(shards, holder, ShadowSchedule(shards, self._rules))
            for shards, holder in wanted
        ]

    async def _send_due(self) -> None:
        """Send what is due, and what has become due meanwhile."""
        now = -1
        while now != self._now:
            now, encoded = self._now, False
            for lane in list(self._lanes):
                encoded |= await self._send_lane(lane)
                self._tell(lane)
            if encoded:
                await self._tidy()

    async def _send_lane(self, lane: _Lane) -> bool:
        """Send what is due of one stage, until that fails; say whether anything was encoded.

        After a failure it rests for a while: each try costs the compute process an encoding.
        """
        encoded = False
        while self._now >= lane.rests_until and (shard := lane.schedule.next(self._now)):
            encoded = True
            try:
                if await self._send(lane, shard):
                    continue
            except SkerryError as error:
                lane.schedule.given_up()
                _LOG.info("%s was not copied to %s: %s", shard, short(lane.holder), error)
            lane.rests_until = self._now + lane.schedule.every
        return encoded

    async def _send(self, lane: _Lane, shard: str) -> bool:
        """Encode and send one shard; say whether to go on. Raises: SkerryError."""
        held = lane.held.get(shard)
        if held is not None and not has_room(held.parts, self._numels[shard]):
            held = None
        base = held.bits if held else None
        step = self._step if held and held.round == self._round else 0
        at = self._first_step + step
        shaded = await self._ask(lambda n: Shade(request=n, shard=shard, base=base, step=step))
        assert isinstance(shaded, Shaded)
        if held and step and shaded.round != held.round:
            raise ProtocolError("stale-round", f"round {held.round} has ended meanwhile")
        before = held.parts if held and (step or not shaded.whole) else ()
        parts = (*before, shaded.payload)
        copy = ShadowCopy(self._context.run_id, shard, shaded.round, parts, step)
        envelope = sign_message(self._context.signer, copy).envelope
        refused = await self._push(lane.holder, envelope, shaded.payload)
        if refused and refused not in NOT_NOW:
            lane.schedule.refused(shard)
            lane.held.pop(shard, None)
            return refused == NO_BASE and bool(before)
        if refused:
            raise ProtocolError(refused, f"{short(lane.holder)} does not take it now")
        if not step:
            lane.schedule.confirmed(shard, at)
            lane.held[shard] = _Held(shaded.round, parts, shaded.bits.address)
        elif shaded.round == self._round:
            lane.schedule.confirmed_within(shard, at)
        else:
            lane.schedule.given_up()  # the round has ended meanwhile: its steps count no more
        return True

    async def _push(self, holder: PeerId, envelope: Envelope, payload: ShardPayload) -> str:
        """Send one part; return why it was refused, empty if it was not. Raises: SkerryError."""
        watch = UploadWatch(self._context.deadlines, holder, Call.PIECE, Call.KEPT)
        chunks = watch.pieces(self._chunks(holder, envelope, payload))
        with translate(holder), self._context.client.lane(holder, SHADOW_PROTOCOL) as stub:
            reply: pb.ShadowReply = await watch.answer(stub.Shadow(chunks))
        return reply.refused

    async def _chunks(
        self, holder: PeerId, envelope: Envelope, payload: ShardPayload
    ) -> AsyncIterator[pb.ShadowChunk]:
        yield pb.ShadowChunk(copy=envelope_to_pb(envelope))
        store = BlobStore(self._context.store.own_shadows)
        data = memoryview(await asyncio.to_thread(store.read, payload.address))
        start, facts = 0, self._context.facts
        while start < len(data):
            piece = bytes(data[start : start + self._pace.piece_bytes])
            await self._pace.take(len(piece))
            facts.sent_bytes["shadow"] += len(piece)
            facts.traffic[holder].sent += len(piece)
            start += len(piece)
            yield pb.ShadowChunk(data=piece)

    def _tell(self, lane: _Lane) -> None:
        """Say once that a holder has all of a stage."""
        if lane.told or lane.schedule.age(self._now) is None:
            return
        lane.told = True
        size = sum(part.size for held in lane.held.values() for part in held.parts)
        text = f"{short(lane.holder)} keeps a copy of {named(lane.shards)} ({size} bytes)"
        self._context.journal.write("note", text=text)

    async def _tidy(self) -> None:
        """Drop payloads that were sent and bases of copies that nobody has."""
        store = BlobStore(self._context.store.own_shadows)
        kept = [held.bits for lane in self._lanes for held in lane.held.values()]
        await asyncio.to_thread(lambda: remove_files(store.set_aside(kept)))
