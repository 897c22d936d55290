"""What this node answers to one other peer; the transport has proven who that peer is.

Everything here is hostile until checked: sizes by the codec, signatures before effects, and
membership before anything but Hello.
"""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from skerry.node.net.fetch import blob_chunks, in_pieces
from skerry.node.net.rpc_errors import refuse
from skerry.node.run.context import RunContext
from skerry.node.run.peers import MAX_COMMITS, MAX_RECORD_SECONDS, NOT_ADMITTED
from skerry.node.run.probing import check_probe, probe_chunks
from skerry.node.run.shadow_taking import ShadowTaker
from skerry.proto import peer_pb2 as pb
from skerry.proto.peer_pb2_grpc import PeerServicer
from skerry.protocol.codec import (
    envelope_from_pb,
    envelope_to_pb,
    open_envelope,
    open_member,
    payload_to_pb,
)
from skerry.protocol.errors import ProtocolError, SkerryError, StateError
from skerry.protocol.ids import Address, PeerId
from skerry.protocol.messages import (
    PROTOCOL_VERSION,
    Announce,
    Commit,
    Finding,
    Heartbeat,
    Message,
    Order,
    Signed,
)
from skerry.protocol.quota import QUOTA
from skerry.protocol.rounds.events import (
    AnnounceReceived,
    CommitsReceived,
    FindingReceived,
    HeartbeatReceived,
    MemberLearned,
    OrderReceived,
)
from skerry.protocol.rounds.membership import MAX_MEMBERS, has_room

Grpc = Any
"""A grpc.aio.ServicerContext; grpc has no types."""


class RunServicer(PeerServicer):
    """The run's door for one peer. ``current`` gives the run, or None between two runs."""

    def __init__(self, peer: PeerId, current: Callable[[], RunContext | None]) -> None:
        """Answer ``peer``."""
        self._peer, self._current = peer, current
        self._shadows = ShadowTaker(peer)

    async def Hello(self, request: pb.HelloRequest, grpc: Grpc) -> pb.HelloReply:
        """Take in a member record; give the manifest and the members."""
        try:
            context = self._context(request.run_id)
            context.check_not_removed(self._peer)
            self._check_quota(context)
            self._admit(context, request)
        except SkerryError as error:
            await self._refuse(error, grpc)
        await context.events.join()  # what the peer sends next must find it admitted
        members = context.state.rounds.members.values()
        return pb.HelloReply(
            protocol=PROTOCOL_VERSION,
            manifest=envelope_to_pb(context.manifest_envelope),
            members=[envelope_to_pb(member.envelope) for member in members],
        )

    async def Deliver(self, request: pb.Envelope, grpc: Grpc) -> pb.DeliverReply:
        """Take a signed message into the event queue, or say why not."""
        context = self._current()
        if context is None:
            return pb.DeliverReply(refused=NOT_ADMITTED)
        try:
            self._check_known(context)
            context.facts.received_bytes["control"] += request.ByteSize()
            context.facts.traffic[self._peer].received += request.ByteSize()
            self._take(context, open_envelope(envelope_from_pb(request)))
        except ProtocolError as error:
            context.refuse(self._peer, error.reason, error.detail)
            return pb.DeliverReply(refused=error.reason)
        return pb.DeliverReply()

    async def Chain(self, request: pb.ChainRequest, grpc: Grpc) -> AsyncIterator[pb.Envelope]:
        """Give the own chain from a round on, oldest first.

        A removed peer may ask, too: it learns from the chain why, and when it may come back.
        """
        context = await self._member_context(request.run_id, grpc, or_removed=True)
        rounds = context.state.rounds
        wanted = [c for c in rounds.chain.path(rounds.at)]
        wanted = [c for c in reversed(wanted) if rounds.chain.round_of(c) >= request.from_round]
        for commit in wanted[: min(request.limit, MAX_COMMITS)]:
            yield envelope_to_pb(rounds.chain.envelope(commit))

    async def Blob(self, request: pb.BlobRequest, grpc: Grpc) -> AsyncIterator[pb.BlobChunk]:
        """Give a blob's bytes from an offset on, in chunks."""
        context = await self._member_context(request.run_id, grpc)
        address = Address(request.address.hex())
        blob = context.served.get(address)
        count = context.facts.sent_to(self._peer, blob)

        def sent(num_bytes: int) -> None:
            count(num_bytes)
            context.leases.asked(address, time.monotonic())

        try:
            held = context.blobs.size(address) is None
            store = context.store.shadows.blobs if held else context.blobs
            async for chunk in blob_chunks(store, request, sent):
                for piece in in_pieces(chunk):
                    yield piece
        except SkerryError as error:
            await self._refuse(error, grpc)

    async def Probe(self, request: pb.ProbeRequest, grpc: Grpc) -> AsyncIterator[pb.BlobChunk]:
        """Give bytes that mean nothing, to a member and seldom: it measures how fast they come."""
        context = await self._member_context(request.run_id, grpc)
        try:
            check_probe(context.probes_given, self._peer, request.size, time.monotonic())
        except ProtocolError as error:
            await self._refuse(error, grpc)
        for chunk in probe_chunks(request.size):
            context.facts.traffic[self._peer].sent += len(chunk.data)
            yield chunk

    async def Shadow(self, chunks: AsyncIterator[pb.ShadowChunk], grpc: Grpc) -> pb.ShadowReply:
        """Keep a stale copy of a shard, or say why not."""
        context = self._current()
        if context is None:
            return pb.ShadowReply(refused=NOT_ADMITTED)
        try:
            self._check_known(context)
            await self._shadows.take(context, chunks)
        except ProtocolError as error:
            context.refuse(self._peer, error.reason, error.detail)
            return pb.ShadowReply(refused=error.reason)
        except StateError as error:
            await self._refuse(error, grpc)
        return pb.ShadowReply()

    async def Shadows(self, request: pb.ShadowsRequest, grpc: Grpc) -> AsyncIterator[pb.Envelope]:
        """Give the signed words on those stale copies that are kept here."""
        context = await self._member_context(request.run_id, grpc)
        copies = context.store.shadows.copies
        for shard in dict.fromkeys(request.shards):
            if shard in copies:
                yield envelope_to_pb(copies[shard].envelope)

    async def Moments(self, request: pb.MomentsRequest, grpc: Grpc) -> pb.MomentsReply:
        """Store the optimizer's moments for a member, and say where they lie."""
        context = await self._member_context(request.run_id, grpc)
        try:
            given = await context.give_moments()
        except SkerryError as error:
            await self._refuse(error, grpc)
        return pb.MomentsReply(
            moments=[payload_to_pb(one.payload) for one in given],
            steps=[one.steps for one in given],
        )

    def _context(self, run_id: bytes) -> RunContext:
        context = self._current()
        if context is None or bytes.fromhex(context.run_id) != run_id:
            detail = f"this peer is not in run {run_id.hex()[:8]}"
            raise ProtocolError("run", detail, "SK-PRO-002")
        return context

    async def _member_context(
        self, run_id: bytes, grpc: Grpc, or_removed: bool = False
    ) -> RunContext:
        """Return the run for a peer that has been admitted; anyone else is refused."""
        try:
            context = self._context(run_id)
            if or_removed and self._peer in context.state.rounds.settings.removed:
                self._check_quota(context)
            else:
                self._check_known(context)
        except ProtocolError as error:
            await self._refuse(error, grpc)
        return context

    def _check_quota(self, context: RunContext) -> None:
        if context.shuts_out(self._peer):
            raise ProtocolError(QUOTA, "too much of what this peer sent was refused")

    def _check_known(self, context: RunContext) -> None:
        """Raises: ProtocolError for a peer that is removed, shut out, or was never admitted."""
        context.check_not_removed(self._peer)
        self._check_quota(context)
        if self._peer not in context.state.rounds.members:
            raise ProtocolError(NOT_ADMITTED, "say hello first", "SK-PRO-003")

    def _admit(self, context: RunContext, request: pb.HelloRequest) -> None:
        if request.protocol != PROTOCOL_VERSION:
            detail = f"protocol {request.protocol}, this peer speaks {PROTOCOL_VERSION}"
            raise ProtocolError("version", detail, "SK-PRO-001")
        member = open_member(envelope_from_pb(request.member))
        if member.signer != self._peer:
            raise ProtocolError("signature", "the record is of another peer", "SK-PRO-003")
        now = time.time()
        if not now < member.message.expires_at < now + MAX_RECORD_SECONDS:
            raise ProtocolError("expired", "the member record has expired", "SK-PRO-003")
        context.check_admission(member)
        rounds = context.state.rounds
        if self._peer not in rounds.members and not has_room(rounds):
            raise ProtocolError("full", f"there are {MAX_MEMBERS} members already", "SK-PRO-003")
        context.post(MemberLearned(member))

    def _take(self, context: RunContext, signed: Signed[Message]) -> None:
        message, envelope = signed.message, signed.envelope
        if not isinstance(message, Commit | Order) and envelope.signer != self._peer:
            raise ProtocolError("signature", "signed by another peer than the one that sent it")
        if message.run_id != context.run_id:
            raise ProtocolError("run", "of another run")
        match message:
            case Announce():
                context.post(AnnounceReceived(Signed(message, envelope)))
            case Commit():
                context.post(CommitsReceived((Signed(message, envelope),), self._peer))
            case Order():
                context.post(OrderReceived(Signed(message, envelope), self._peer))
            case Finding():
                context.post(FindingReceived(Signed(message, envelope)))
            case Heartbeat():
                context.saw(self._peer, message)
                context.post(HeartbeatReceived(Signed(message, envelope)))
            case _:
                raise ProtocolError("kind", f"{envelope.kind.name} is not delivered")

    async def _refuse(self, error: SkerryError, grpc: Grpc) -> None:
        context = self._current()
        if context is not None and isinstance(error, ProtocolError):
            context.refuse(self._peer, error.reason, error.detail)
        await refuse(grpc, error)
