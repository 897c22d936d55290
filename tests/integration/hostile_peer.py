"""A peer that was admitted and then misbehaves: a real libp2p peer, speaking the real protocol.

It keeps up with the run as an honest peer would (greets, beats with the newest head, hears
announcements and commits), but never trains: what it announces, commits and serves is up to the
test.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.net.p2pd import P2pdOptions, P2pdTransport
from skerry.node.net.rpc import RpcClient, RpcServer
from skerry.node.net.rpc_errors import translate
from skerry.node.run.peers import hello, member_record
from skerry.pipeline.codecs import payload_limits
from skerry.proto import peer_pb2 as pb
from skerry.proto.peer_pb2_grpc import PeerServicer
from skerry.protocol.codec import (
    envelope_from_pb,
    envelope_to_pb,
    open_commit,
    open_envelope,
    open_member,
    sign_message,
)
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import Address, CommitHash, PeerId, RunId, content_hash
from skerry.protocol.manifest import Manifest, parse_canonical
from skerry.protocol.messages import (
    PROTOCOL_VERSION,
    Announce,
    Commit,
    Envelope,
    Heartbeat,
    MemberRecord,
    Message,
    ShardPayload,
    Signed,
    SignedAnnounce,
    SignedCommit,
    SignedMember,
)
from skerry.protocol.rounds.leader import leader_of
from skerry.protocol.signing import Signer
from skerry.protocol.token import JoinToken, decode_token, split_bootstrap
from skerry.protocol.transport import BULK_PROTOCOL, CONTROL_PROTOCOL

CALL_S = 60.0
PATIENCE_S = 240.0
BEAT_S = 0.3
Serve = Callable[[pb.BlobRequest], AsyncIterator[pb.BlobChunk]]


class HostilePeer:
    """One identity, its p2pd, and what it has heard; make one with ``create``."""

    def __init__(self, transport: P2pdTransport, key: Ed25519PrivateKey, token: str) -> None:
        self.signer, self.transport = Signer(key), transport
        self.token: JoinToken = decode_token(token)
        self.client = RpcClient(transport)
        self._server = RpcServer(transport, lambda peer: _Servicer(self, peer))
        self.manifest_envelope = pb.Envelope()
        self.members: dict[PeerId, SignedMember] = {}
        self.commits: dict[CommitHash, SignedCommit] = {}
        self.announces: dict[CommitHash, dict[PeerId, SignedAnnounce]] = {}
        self.blobs: dict[Address, Serve] = {}
        self.otherwise: Serve = served(b"")
        """What is served in the place of blobs that nobody has laid out."""
        self.changed = asyncio.Condition()
        self.asked: list[Address] = []

    @classmethod
    async def create(cls, folder: Path, token: str) -> Self:
        """Start a peer of its own identity; nobody knows it yet."""
        folder.mkdir()  # noqa: ASYNC240
        key = Ed25519PrivateKey.generate()
        transport = await P2pdTransport.create(P2pdOptions(run_dir=folder), key)
        self = cls(transport, key, token)
        await self._server.start()
        for full in self.token.bootstrap:
            peer, address = split_bootstrap(full)
            await transport.connect(peer, (address,))
        return self

    async def close(self) -> None:
        await self._server.close()
        await self.client.close()
        await self.transport.close()

    # -- who it is -------------------------------------------------------------------------

    @property
    def me(self) -> PeerId:
        return self.signer.peer_id

    @property
    def run_id(self) -> RunId:
        return self.token.run_id

    @property
    def run_bytes(self) -> bytes:
        return bytes.fromhex(self.run_id)

    @property
    def manifest(self) -> Manifest:
        return parse_canonical(self.manifest_envelope.body)

    def record(self, **changes: Any) -> SignedMember:
        """Return the own member record, signed, with ``changes``."""
        honest = member_record(
            self.signer, self.run_id, self.transport.addresses, self.token.invite
        ).message
        return self.sign(replace(honest, **changes))

    def sign(self, message: Message) -> Signed[Any]:
        return sign_message(self.signer, message)

    # -- taking part -----------------------------------------------------------------------

    async def enter(self) -> None:
        """Be admitted by everyone, and catch up with the chain."""
        owner = self.token.owner
        reply = await hello(self.client, self.run_id, owner, self.record())
        self.manifest_envelope = reply.manifest
        for envelope in reply.members:
            member = open_member(envelope_from_pb(envelope))
            if member.signer != self.me:
                self.members[member.signer] = member
        for peer, member in self.members.items():
            if peer != owner:
                await self.transport.connect(peer, member.message.addresses)
                await hello(self.client, self.run_id, peer, self.record())
        request = pb.ChainRequest(run_id=self.run_bytes, from_round=0, limit=256)
        with translate(owner):
            async for envelope in self.client.stub(owner, BULK_PROTOCOL).Chain(request):
                commit = open_commit(envelope_from_pb(envelope))
                self.commits[CommitHash(commit.hash)] = commit

    async def beat(self) -> None:
        """Send heartbeats that say what an honest peer's would, until cancelled."""
        while True:
            with contextlib.suppress(PeerUnavailable):  # after a flood nobody listens
                await self.beat_once()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S), self.changed:
                    await self.changed.wait()

    async def beat_once(self, **changes: Any) -> None:
        head = self.head
        weight = head.message.weight if head else 0
        beat = Heartbeat(
            run_id=self.run_id,
            head=CommitHash(head.hash) if head else CommitHash(self.run_id),
            head_round=head.message.round if head else 0,
            weight=weight,
            phase="training",
            step=1,
            steps=2,
            tokens_per_second=1.0,
            loss=1.0,
        )
        await self.tell(replace(beat, **changes))

    async def tell(self, message: Message) -> dict[PeerId, str]:
        """Sign and deliver to everyone; return why each refused, empty where it did not."""
        return await self.deliver(self.sign(message).envelope)

    async def deliver(self, envelope: Envelope) -> dict[PeerId, str]:
        return {peer: await self.deliver_to(peer, envelope_to_pb(envelope)) for peer in self.others}

    async def deliver_to(self, peer: PeerId, envelope: pb.Envelope) -> str:
        stub = self.client.stub(peer, CONTROL_PROTOCOL)
        with translate(peer):
            reply: pb.DeliverReply = await stub.Deliver(envelope, timeout=CALL_S)
        return reply.refused

    @property
    def others(self) -> tuple[PeerId, ...]:
        return tuple(sorted(self.members))

    # -- what it knows ---------------------------------------------------------------------

    @property
    def head(self) -> SignedCommit | None:
        """The heaviest commit heard of."""
        ranked = sorted(self.commits.values(), key=lambda c: (c.message.weight, c.message.round))
        return ranked[-1] if ranked else None

    async def until(self, test: Callable[[], bool], what: str) -> None:
        """Wait until what was heard satisfies ``test``."""
        try:
            async with asyncio.timeout(PATIENCE_S), self.changed:
                await self.changed.wait_for(test)
        except TimeoutError:
            head = self.head
            raise AssertionError(f"not {what}; head is {head and head.message.round}") from None

    async def next_round(self) -> SignedCommit:
        """Wait for a new round that this peer is to train and an honest one has announced."""
        last = self.head.message.round if self.head else -1

        def ready() -> bool:
            head = self.head
            return (
                head is not None
                and head.message.round > last
                and self.me in head.message.roster
                and bool(self.announces.get(CommitHash(head.hash)))
            )

        await self.until(ready, "in a new round")
        assert self.head is not None
        return self.head

    def sound_announce(self, head: SignedCommit) -> Announce:
        """Return an announcement upon ``head`` that is right in everything that can be checked
        without its payloads: it repeats an honest one's."""
        honest = next(iter(self.announces[CommitHash(head.hash)].values())).message
        return replace(honest, text_tokens=honest.round_tokens)

    def sound_commit(self, head: SignedCommit, **changes: Any) -> Commit:
        """Return a commit upon ``head`` in a view that this peer leads, with honest content."""
        parent = head.message
        announces = self.announces[CommitHash(head.hash)]
        chosen = tuple(announces[author] for author in sorted(announces))
        view = next(
            view
            for view in range(len(parent.roster))
            if leader_of(self.run_id, parent.round + 1, view, parent.roster) == self.me
        )
        commit = Commit(
            run_id=self.run_id,
            round=parent.round + 1,
            view=view,
            parent=CommitHash(head.hash),
            state=chosen[0].message.state,
            announces=chosen,
            roster=parent.roster,
            admissions=(),
            cursor=parent.cursor + self.manifest.inner.steps * len(parent.roster),
            weight=parent.weight + sum(a.message.text_tokens for a in chosen),
        )
        return replace(commit, **changes)

    # -- payloads --------------------------------------------------------------------------

    def offer(self, data: bytes, shard: str, serve: Serve | None = None) -> ShardPayload:
        """Serve ``data``, or what ``serve`` yields in its place; return how it is announced."""
        address = Address(content_hash(data))
        self.blobs[address] = serve or served(data)
        return ShardPayload(shard, address, len(data))

    def offers(self, serve: Callable[[bytes], Serve], mark: bytes) -> tuple[ShardPayload, ...]:
        """Return a payload for each shard of the model; ``mark`` tells them from other tests'."""
        return tuple(
            self.offer(data, name, serve(data))
            for name, _ in payload_limits(self.manifest)
            for data in [mark + name.encode()]
        )


class _Servicer(PeerServicer):
    """Hears everything, and serves what the test has laid out."""

    def __init__(self, hostile: HostilePeer, peer: PeerId) -> None:
        self._hostile, self._peer = hostile, peer

    async def Hello(self, request: pb.HelloRequest, grpc: Any) -> pb.HelloReply:
        return pb.HelloReply(
            protocol=PROTOCOL_VERSION, manifest=self._hostile.manifest_envelope, members=[]
        )

    async def Deliver(self, request: pb.Envelope, grpc: Any) -> pb.DeliverReply:
        opened = open_envelope(envelope_from_pb(request))
        async with self._hostile.changed:
            match opened.message:
                case Announce() as announce:
                    heard = self._hostile.announces.setdefault(announce.parent, {})
                    heard.setdefault(opened.signer, Signed(announce, opened.envelope))
                case Commit() as commit:
                    signed = Signed(commit, opened.envelope)
                    self._hostile.commits[CommitHash(opened.hash)] = signed
                case MemberRecord() | Heartbeat() | _:
                    return pb.DeliverReply()
            self._hostile.changed.notify_all()
        return pb.DeliverReply()

    async def Chain(self, request: pb.ChainRequest, grpc: Any) -> AsyncIterator[pb.Envelope]:
        for commit in sorted(self._hostile.commits.values(), key=lambda c: c.message.round):
            if commit.message.round >= request.from_round:
                yield envelope_to_pb(commit.envelope)

    async def Blob(self, request: pb.BlobRequest, grpc: Any) -> AsyncIterator[pb.BlobChunk]:
        address = Address(request.address.hex())
        self._hostile.asked.append(address)
        serve = self._hostile.blobs.get(address, self._hostile.otherwise)
        async for chunk in serve(request):
            yield chunk


def served(data: bytes, size: int | None = None) -> Serve:
    """Serve ``data``, said to be ``size`` bytes."""

    async def serve(request: pb.BlobRequest) -> AsyncIterator[pb.BlobChunk]:
        yield pb.BlobChunk(size=len(data) if size is None else size)
        yield pb.BlobChunk(data=data)

    return serve


def never(data: bytes) -> Serve:
    """Take the request and say nothing more until the caller gives up."""

    async def serve(request: pb.BlobRequest) -> AsyncIterator[pb.BlobChunk]:
        yield pb.BlobChunk(size=len(data))
        await asyncio.Event().wait()

    return serve


async def refusal(call: Any) -> str:
    """Return the reason with which a call is refused."""
    try:
        with translate(PeerId("")):
            await call
    except ProtocolError as error:
        return error.reason
    except PeerUnavailable as error:
        return f"unavailable: {error.detail}"
    return "accepted"


def in_an_hour() -> int:
    return int(time.time()) + 3600
