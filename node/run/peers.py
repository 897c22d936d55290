"""Calls to the other peers of a run: greeting, heartbeats, messages, chains, states."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from skerry.node.net.call_deadlines import LateAnswer
from skerry.node.net.rpc import RpcClient
from skerry.node.net.rpc_errors import translate
from skerry.node.run.calls import Call
from skerry.node.run.context import RunContext
from skerry.node.run.state import LEAVING, Unreachable
from skerry.proto import peer_pb2 as pb
from skerry.protocol.codec import (
    MAX_ADDRESSES,
    envelope_from_pb,
    envelope_to_pb,
    open_commit,
    open_member,
    sign_message,
)
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId, RunId, short
from skerry.protocol.messages import (
    MAX_DOUBTS,
    PROTOCOL_VERSION,
    Envelope,
    Heartbeat,
    Kind,
    MemberRecord,
    Offer,
    Signed,
    SignedCommit,
    SignedMember,
)
from skerry.protocol.quota import REMOVED
from skerry.protocol.rounds.events import CommitsReceived, MemberLearned
from skerry.protocol.signing import Signer
from skerry.protocol.transport import BULK_PROTOCOL, CONTROL_PROTOCOL

_LOG = logging.getLogger(__name__)
AGENT = "skerry/0.1"
RECORD_SECONDS = 3600
MAX_RECORD_SECONDS = 7 * 86400
"""Records that claim to be valid for longer are refused: the newest of a peer replaces others."""
_CHAIN_SECONDS = 300.0
"""For all commits of one answer; the next one alone is waited for by its own deadline."""
MAX_COMMITS = 256
"""Commits taken from one answer; a longer chain is asked for in parts."""
NOT_ADMITTED = "not-admitted"
_LINKS_GAP = 8
"""Heartbeats from one that tells of links to the next."""
_KNOCKING_GAPS = 10
"""Heartbeats between two questions of a removed peer whether it may come back."""
_GREETING_GAPS = 2
"""Heartbeats between two greetings of a peer that does not answer."""
_LONG_GONE_TRIES, _LONG_GONE_GAPS = 60, 20
"""After so many of them it has long been evicted, and is greeted so much more rarely."""


@dataclass(frozen=True, slots=True)
class _Newest:
    """What our newest record says."""

    addresses: tuple[str, ...]
    until: int


class Peers:
    """This node's view of the others as things to call."""

    def __init__(self, context: RunContext) -> None:
        """Know nobody yet but those in the state's member list."""
        self._context = context
        self._greeted: set[PeerId] = set()
        # The record that we joined with may be as young.
        self._newest = _Newest((), int(time.time()) + RECORD_SECONDS)

    @property
    def greeted(self) -> frozenset[PeerId]:
        """Members that have taken in our record, and take part."""
        return frozenset(self._greeted - self._context.state.rounds.settings.removed.keys())

    def addresses(self) -> dict[PeerId, tuple[str, ...]]:
        """Return the other members with the addresses that they announce."""
        members = self._context.state.rounds.members.values()
        return {m.signer: m.message.addresses for m in members if m.signer != self._context.me}

    def own_record(self) -> SignedMember:
        """Return this node's member record, signed now.

        Others replace a record by one that is valid for longer, so new addresses must be.
        """
        context = self._context
        addresses = (*context.announced, *context.transport.addresses)
        until = int(time.time()) + RECORD_SECONDS
        if addresses != self._newest.addresses:
            until = max(until, self._newest.until + 1)
        self._newest = _Newest(addresses, until)
        invite, offer = context.invite, context.offer
        return member_record(context.signer, context.run_id, addresses, invite, offer, until)

    async def greet(self, member: SignedMember) -> None:
        """Connect to a member and introduce ourselves. Raises: PeerUnavailable, ProtocolError."""
        await self.introduce(member.signer, member.message.addresses)

    async def introduce(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Do so with a peer of which only addresses are known.

        Raises: PeerUnavailable, ProtocolError.
        """
        context = self._context
        await context.transport.connect(peer, addresses)
        asking = hello(context.client, context.run_id, peer, self.own_record())
        reply = await context.deadlines.answer(peer, Call.HELLO, asking)
        self._greeted.add(peer)
        for envelope in reply.members:
            self._learn(envelope_from_pb(envelope))

    def forget_greeting(self, peer: PeerId) -> None:
        """Greet a peer again: it was away, or has forgotten us."""
        self._greeted.discard(peer)

    def forget_greetings(self) -> None:
        """Greet everyone again: all connections are gone."""
        self._greeted.clear()

    async def keep_greeting(self) -> None:
        """Greet every member that has not been, again and again."""
        delays: dict[PeerId, float] = {}
        tries: Counter[PeerId] = Counter()
        while True:
            now, rounds = time.monotonic(), self._context.state.rounds
            self._forget_strangers(tries, delays)
            passed_over = {self._context.me, *self._greeted, *rounds.settings.removed}
            due = [
                member
                for peer, member in sorted(rounds.members.items())
                if delays.get(peer, 0.0) <= now and peer not in passed_over
            ]
            least = _KNOCKING_GAPS if rounds.removal else _GREETING_GAPS
            for member in due:
                tries[member.signer] += 1
                gaps = _LONG_GONE_GAPS if tries[member.signer] > _LONG_GONE_TRIES else least
                delays[member.signer] = now + gaps * self._context.heartbeat_s
            async with asyncio.TaskGroup() as group:
                for member in due:
                    group.create_task(self._try_greeting(member))
            for peer in self._greeted:
                del tries[peer]
            await asyncio.sleep(self._context.heartbeat_s / 2)

    def _forget_strangers(self, *more: MutableMapping[PeerId, Any]) -> None:
        """Drop what is known of peers that are no members any more, also from ``more``."""
        members = self._context.state.rounds.members
        self._greeted.intersection_update(members)
        self._context.facts.keep_of(members)
        for known in more:
            for peer in [one for one in known if one not in members]:
                del known[peer]

    async def keep_beating(self) -> None:
        """Send heartbeats to all greeted members."""
        async with asyncio.TaskGroup() as group:
            for number in count():
                envelope = self.heartbeat(links=number % _LINKS_GAP == 0)
                for peer in self.greeted:
                    group.create_task(self.deliver(peer, envelope))
                await asyncio.sleep(self._context.heartbeat_s)

    def heartbeat(self, leaving: bool = False, links: bool = False) -> Envelope:
        """Return a signed sign of life; with ``links``, of what lies between us and others too."""
        context, rounds = self._context, self._context.state.rounds
        facts = context.facts
        beat = Heartbeat(
            run_id=context.run_id,
            head=rounds.at,
            head_round=max(0, rounds.chain.round_of(rounds.at)),
            weight=rounds.chain.weight_of(rounds.at),
            phase=LEAVING if leaving else str(rounds.told_phase),
            step=facts.step,
            steps=facts.steps,
            tokens_per_second=0.0 if rounds.paused else facts.tokens_per_second,
            loss=facts.loss,
            block_rate=facts.block_rate,
            links=facts.links.figures(rounds.alive & rounds.members.keys()) if links else (),
            doubts=context.state.register.doubts(context.me)[:MAX_DOUBTS],
        )
        return sign_message(context.signer, beat).envelope

    async def broadcast(self, envelope: Envelope, peers: Iterable[PeerId]) -> None:
        """Send a message to several peers at once; failures are only noted."""
        async with asyncio.TaskGroup() as group:
            for peer in peers:
                group.create_task(self.deliver(peer, envelope))

    async def deliver(self, peer: PeerId, envelope: Envelope) -> None:
        """Send one signed message; what goes wrong becomes an event."""
        message = envelope_to_pb(envelope)
        stub = self._context.client.stub(peer, CONTROL_PROTOCOL)
        call = Call.BEAT if envelope.kind is Kind.HEARTBEAT else Call.TELL
        deadlines, began = self._context.deadlines, time.monotonic()
        try:
            with translate(peer):
                reply: pb.DeliverReply = await deadlines.answer(peer, call, stub.Deliver(message))
        except PeerUnavailable as error:
            self._context.post(Unreachable(peer, refused=not isinstance(error, LateAnswer)))
            return
        except ProtocolError as error:
            self.forget_greeting(peer)  # it is in another run by now, or has lost our record
            _LOG.info("%s does not take our %s: %s", short(peer), envelope.kind.name, error)
            return
        self._context.facts.sent_bytes["control"] += message.ByteSize()
        self._context.facts.traffic[peer].sent += message.ByteSize()
        if envelope.kind is Kind.HEARTBEAT:
            self._context.facts.answered(peer, time.monotonic() - began)
        if reply.refused in (NOT_ADMITTED, REMOVED):
            self.forget_greeting(peer)
        elif reply.refused:
            text = f"{short(peer)} refused our {envelope.kind.name.lower()}: {reply.refused[:80]}"
            _LOG.info("%s", text)

    async def chain(self, peer: PeerId, from_round: int) -> tuple[SignedCommit, ...]:
        """Ask for commits. Raises: PeerUnavailable, ProtocolError."""
        request = pb.ChainRequest(
            run_id=bytes.fromhex(self._context.run_id), from_round=from_round, limit=MAX_COMMITS
        )
        commits: list[SignedCommit] = []
        with translate(peer):
            stub = self._context.client.stub(peer, BULK_PROTOCOL)
            stream = aiter(stub.Chain(request, timeout=_CHAIN_SECONDS))
            async for envelope in self._context.deadlines.answers(peer, Call.CHAIN, stream):
                commits.append(open_commit(envelope_from_pb(envelope)))
                if len(commits) >= MAX_COMMITS:
                    break
        return tuple(commits)

    def _learn(self, envelope: Envelope) -> None:
        """Take in a member that another peer told us of; a bad one says nothing of the teller."""
        try:
            member = open_member(envelope)
            if member.message.expires_at > time.time() + MAX_RECORD_SECONDS:
                raise ProtocolError("expired", "it is said to be valid for too long")
            self._context.check_admission(member)
        except ProtocolError as error:
            _LOG.info("a member record that was passed on is not valid: %s", error)
            return
        if member.signer != self._context.me:
            self._context.post(MemberLearned(member, hearsay=True))

    async def _try_greeting(self, member: SignedMember) -> None:
        try:
            await self.greet(member)
        except (PeerUnavailable, ProtocolError) as error:
            if error.code == "SK-PRO-005":
                await self._learn_removal(member.signer)
            # Not a fault of its own: a peer that is still joining is in no run yet.
            _LOG.info("member %s cannot be greeted: %s", short(member.signer), error)

    async def _learn_removal(self, peer: PeerId) -> None:
        """A peer says that we were removed: only the chain itself can convince us of that."""
        rounds = self._context.state.rounds
        newest = rounds.chain.round_of(rounds.goal or rounds.at)
        try:
            commits = await self.chain(peer, max(0, newest - rounds.rules.replay))
        except (PeerUnavailable, ProtocolError) as error:
            _LOG.info("the chain of %s, which refuses us: %s", short(peer), error)
        else:
            self._context.post(CommitsReceived(commits, peer))


async def hello(
    client: RpcClient, run_id: RunId, peer: PeerId, record: SignedMember
) -> pb.HelloReply:
    """Introduce ourselves to a connected peer; the caller says for how long.

    Raises: PeerUnavailable, ProtocolError.
    """
    request = pb.HelloRequest(
        protocol=PROTOCOL_VERSION,
        run_id=bytes.fromhex(run_id),
        member=envelope_to_pb(record.envelope),
    )
    with translate(peer):
        stub = client.stub(peer, CONTROL_PROTOCOL)
        reply: pb.HelloReply = await stub.Hello(request)
    if reply.protocol != PROTOCOL_VERSION:
        detail = f"{peer} speaks protocol {reply.protocol}, this peer {PROTOCOL_VERSION}"
        raise ProtocolError("version", detail, "SK-PRO-001")
    return reply


def member_record(
    signer: Signer,
    run_id: RunId,
    addresses: tuple[str, ...],
    invite: Envelope | None,
    offer: Offer = Offer(),  # noqa: B008 - frozen
    until: int | None = None,
) -> SignedMember:
    """Return the record of a peer, signed now, valid ``until`` a Unix time or the usual time."""
    record = MemberRecord(
        run_id=run_id,
        addresses=tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES],
        invite=invite,
        expires_at=int(time.time()) + RECORD_SECONDS if until is None else until,
        agent=AGENT,
        offer=offer,
    )
    return Signed(record, sign_message(signer, record).envelope)
