"""Bytes to messages and back, with every size limit and range check.

The only user of the generated protobuf classes besides the gRPC edge. Decoding raises nothing
but ProtocolError, whatever the bytes.
"""

from collections.abc import Callable, Sequence

from skerry.proto import peer_pb2 as pb
from skerry.protocol.errors import ProtocolError
from skerry.protocol.fields import (
    bounded,
    finite,
    hash_of,
    nonce,
    parsed,
    peer_id,
    printable,
    serialized,
    speed,
)
from skerry.protocol.heartbeat_codec import MAX_NAME_CHARS, decode_heartbeat, heartbeat_pb
from skerry.protocol.ids import Address, CommitHash, RunId
from skerry.protocol.messages import (
    FULL,
    Announce,
    Commit,
    Envelope,
    Finding,
    Heartbeat,
    Invite,
    Judgement,
    Kind,
    MemberRecord,
    Message,
    Offer,
    Order,
    RoleOffer,
    ShadowCopy,
    ShardPayload,
    ShardState,
    Signed,
    SignedAnnounce,
    SignedCommit,
    SignedFinding,
    SignedMember,
    SignedOrder,
    SignedShadow,
)
from skerry.protocol.order_codec import decode_order, order_to_pb
from skerry.protocol.rings.codec import decode_plan, encode_plan
from skerry.protocol.signing import Signer, verify

MAX_PEERS = 256
MAX_SHARDS = 1024
MAX_ADDRESSES = 16
MAX_ADDRESS_CHARS = 256
MAX_ORDERS, MAX_FINDINGS = 16, 64
"""In one commit."""
MAX_INVITE_USES = 2**20
SIGNATURE_BYTES = 64
# Generous upper bounds by kind, checked before anything is parsed.
MAX_BODY_BYTES = {
    Kind.MEMBER: 4 * 1024,
    Kind.HEARTBEAT: 6 * 1024,
    Kind.ANNOUNCE: 128 * 1024,
    Kind.COMMIT: 4 * 1024 * 1024,
    Kind.MANIFEST: 64 * 1024,
    Kind.INVITE: 256,
    Kind.ORDER: 1024,
    Kind.FINDING: 512,
    Kind.SHADOW: 8 * 1024,
}


def sign_message(signer: Signer, message: Message) -> Signed[Message]:
    """Encode and sign a message."""
    kind, body = encode(message)
    return Signed(message, signer.sign(kind, body))


def open_envelope(envelope: Envelope) -> Signed[Message]:
    """Verify an envelope's signature, then decode its body (nested signatures included).

    Raises: ProtocolError.
    """
    if len(envelope.body) > MAX_BODY_BYTES[envelope.kind]:
        raise ProtocolError("size", f"{envelope.kind.name} of {len(envelope.body)} bytes")
    verify(envelope)
    decoder = _DECODERS.get(envelope.kind)
    if decoder is None:
        raise ProtocolError("kind", f"{envelope.kind.name} is not a message")
    return Signed(decoder(envelope.body), envelope)


def encode(message: Message) -> tuple[Kind, bytes]:
    """Return a message's kind and body; the same message always gives the same bytes."""
    match message:
        case MemberRecord():
            return Kind.MEMBER, encode_member(message)
        case Heartbeat():
            return Kind.HEARTBEAT, serialized(heartbeat_pb(message))
        case Announce():
            return Kind.ANNOUNCE, serialized(_announce_pb(message))
        case Commit():
            return Kind.COMMIT, serialized(_commit_pb(message))
        case Invite():
            return Kind.INVITE, encode_invite(message)
        case Order():
            return Kind.ORDER, serialized(order_to_pb(message))
        case Finding():
            return Kind.FINDING, serialized(_finding_pb(message))
        case ShadowCopy():
            return Kind.SHADOW, serialized(_shadow_pb(message))


def envelope_to_pb(envelope: Envelope) -> pb.Envelope:
    """Return the protobuf form of an envelope."""
    return pb.Envelope(
        kind=envelope.kind.name,
        body=envelope.body,
        signer=envelope.signer,
        signature=envelope.signature,
    )


def envelope_from_pb(message: pb.Envelope) -> Envelope:
    """Check and convert the protobuf form of an envelope. Raises: ProtocolError."""
    try:
        kind = Kind(message.kind)
    except ValueError:
        raise ProtocolError("kind", f"unknown envelope kind {message.kind}") from None
    if len(message.signature) != SIGNATURE_BYTES:
        raise ProtocolError("signature", f"signature of {len(message.signature)} bytes")
    if len(message.body) > MAX_BODY_BYTES[kind]:
        raise ProtocolError("size", f"{kind.name} of {len(message.body)} bytes")
    return Envelope(kind, message.body, peer_id(message.signer), message.signature)


def encode_envelope(envelope: Envelope) -> bytes:
    """Return an envelope as bytes, for records that are stored."""
    return serialized(envelope_to_pb(envelope))


def decode_envelope(data: bytes) -> Envelope:
    """Read what encode_envelope wrote. Raises: ProtocolError."""
    if len(data) > MAX_BODY_BYTES[Kind.COMMIT] + 1024:
        raise ProtocolError("size", f"envelope of {len(data)} bytes")
    return envelope_from_pb(parsed(pb.Envelope, data))


def encode_invite(invite: Invite) -> bytes:
    """Return the signed body of an invite."""
    return serialized(
        pb.Invite(
            run_id=bytes.fromhex(invite.run_id),
            expires_at=invite.expires_at,
            nonce=invite.nonce,
            max_uses=invite.max_uses,
        )
    )


def decode_invite(body: bytes) -> Invite:
    """Read an invite's body. Raises: ProtocolError."""
    message = parsed(pb.Invite, body)
    if message.max_uses > MAX_INVITE_USES:
        raise ProtocolError("range", f"an invite for {message.max_uses}, limit {MAX_INVITE_USES}")
    return Invite(
        run_id=RunId(hash_of(message.run_id)),
        expires_at=bounded(message.expires_at),
        nonce=nonce(message.nonce),
        max_uses=message.max_uses,
    )


def encode_member(record: MemberRecord) -> bytes:
    """Return the signed body of a member record."""
    message = pb.MemberRecord(
        run_id=bytes.fromhex(record.run_id),
        addresses=record.addresses,
        expires_at=record.expires_at,
        agent=record.agent,
    )
    message.offer.CopyFrom(_offer_pb(record.offer))
    if record.invite is not None:
        message.invite.CopyFrom(envelope_to_pb(record.invite))
    return serialized(message)


def decode_member(body: bytes) -> MemberRecord:
    """Read a member record's body. Raises: ProtocolError."""
    message = parsed(pb.MemberRecord, body)
    if len(message.addresses) > MAX_ADDRESSES:
        raise ProtocolError("size", f"{len(message.addresses)} addresses, limit {MAX_ADDRESSES}")
    return MemberRecord(
        run_id=RunId(hash_of(message.run_id)),
        addresses=tuple(printable(a, MAX_ADDRESS_CHARS) for a in message.addresses),
        invite=envelope_from_pb(message.invite) if message.HasField("invite") else None,
        expires_at=bounded(message.expires_at),
        agent=printable(message.agent, MAX_NAME_CHARS),
        offer=_offer(message.offer),
    )


def _offer_pb(offer: Offer) -> pb.Offer:
    return pb.Offer(
        role=offer.role.name,
        memory=offer.memory,
        forward=offer.forward,
        backward=offer.backward,
    )


def _offer(message: pb.Offer) -> Offer:
    try:
        role = RoleOffer(message.role)
    except ValueError:
        raise ProtocolError("range", f"unknown role {message.role}") from None
    return Offer(role, bounded(message.memory), speed(message.forward), speed(message.backward))


def _announce_pb(announce: Announce) -> pb.Announce:
    return pb.Announce(
        run_id=bytes.fromhex(announce.run_id),
        round=announce.round,
        parent=bytes.fromhex(announce.parent),
        text_tokens=announce.text_tokens,
        round_tokens=announce.round_tokens,
        loss=announce.loss,
        shards=[payload_to_pb(shard) for shard in announce.shards],
        state=_state_pb(announce.state),
        norms=announce.norms,
    )


def _decode_announce(body: bytes) -> Announce:
    message = parsed(pb.Announce, body)
    return Announce(
        run_id=RunId(hash_of(message.run_id)),
        round=bounded(message.round),
        parent=CommitHash(hash_of(message.parent)),
        state=_state(message.state),
        text_tokens=bounded(message.text_tokens),
        round_tokens=bounded(message.round_tokens),
        loss=finite(message.loss),
        shards=payloads_from_pb(list(message.shards)),
        norms=_norms(message),
    )


def _norms(message: pb.Announce) -> tuple[float, ...]:
    """Return the norms of an announcement: one of each shard, or none at all."""
    if len(message.norms) not in (0, len(message.shards)):
        raise ProtocolError("size", f"{len(message.norms)} norms of {len(message.shards)} shards")
    if min(message.norms, default=0.0) < 0:
        raise ProtocolError("range", "a negative norm")
    return tuple(finite(norm) for norm in message.norms)


def payload_to_pb(payload: ShardPayload) -> pb.ShardPayload:
    """Return the protobuf form of a shard's address."""
    return pb.ShardPayload(
        shard=payload.shard, address=bytes.fromhex(payload.address), size=payload.size
    )


def payloads_from_pb(messages: list[pb.ShardPayload]) -> tuple[ShardPayload, ...]:
    """Check and convert shard addresses. Raises: ProtocolError."""
    if len(messages) > MAX_SHARDS:
        raise ProtocolError("size", f"{len(messages)} shards, limit {MAX_SHARDS}")
    return tuple(
        ShardPayload(
            printable(m.shard, MAX_NAME_CHARS), Address(hash_of(m.address)), bounded(m.size)
        )
        for m in messages
    )


def _state_pb(state: tuple[ShardState, ...]) -> list[pb.ShardState]:
    return [pb.ShardState(shard=s.shard, address=bytes.fromhex(s.address)) for s in state]


def _state(messages: Sequence[pb.ShardState]) -> tuple[ShardState, ...]:
    if len(messages) > MAX_SHARDS:
        raise ProtocolError("size", f"{len(messages)} shards, limit {MAX_SHARDS}")
    return tuple(
        ShardState(printable(m.shard, MAX_NAME_CHARS), Address(hash_of(m.address)))
        for m in messages
    )


def _commit_pb(commit: Commit) -> pb.Commit:
    return pb.Commit(
        run_id=bytes.fromhex(commit.run_id),
        round=commit.round,
        view=commit.view,
        parent=bytes.fromhex(commit.parent),
        announces=[envelope_to_pb(announce.envelope) for announce in commit.announces],
        roster=commit.roster,
        admissions=[envelope_to_pb(member.envelope) for member in commit.admissions],
        cursor=commit.cursor,
        weight=commit.weight,
        orders=[envelope_to_pb(order.envelope) for order in commit.orders],
        judgements=[
            pb.Judgement(peer=one.peer, influence=one.influence, reason=one.reason)
            for one in commit.judgements
        ],
        findings=[envelope_to_pb(finding.envelope) for finding in commit.findings],
        state=_state_pb(commit.state),
        plan=b"" if commit.plan is None else encode_plan(commit.plan),
    )


def _decode_commit(body: bytes) -> Commit:
    message = parsed(pb.Commit, body)
    for what, items, limit in (
        ("announces", message.announces, MAX_PEERS),
        ("roster", message.roster, MAX_PEERS),
        ("admissions", message.admissions, MAX_PEERS),
        ("orders", message.orders, MAX_ORDERS),
        ("judgements", message.judgements, MAX_PEERS),
        ("findings", message.findings, MAX_FINDINGS),
    ):
        if len(items) > limit:
            raise ProtocolError("size", f"{len(items)} {what}, limit {limit}")
    return Commit(
        run_id=RunId(hash_of(message.run_id)),
        round=bounded(message.round),
        view=message.view,
        parent=CommitHash(hash_of(message.parent)),
        state=_state(message.state),
        announces=tuple(_nested_announce(e) for e in message.announces),
        roster=tuple(peer_id(p) for p in message.roster),
        admissions=tuple(_nested_member(e) for e in message.admissions),
        cursor=bounded(message.cursor),
        weight=bounded(message.weight),
        orders=tuple(_nested_order(e) for e in message.orders),
        judgements=tuple(_judgement(one) for one in message.judgements),
        findings=tuple(_nested_finding(e) for e in message.findings),
        plan=decode_plan(message.plan) if message.plan else None,
    )


def _judgement(message: pb.Judgement) -> Judgement:
    if message.influence >= FULL or not message.reason:
        raise ProtocolError("range", f"a judgement of {message.influence}, limit {FULL - 1}")
    reason = printable(message.reason, MAX_NAME_CHARS)
    return Judgement(peer_id(message.peer), message.influence, reason)


def _nested_announce(message: pb.Envelope) -> SignedAnnounce:
    opened = open_envelope(envelope_from_pb(message))
    if not isinstance(opened.message, Announce):
        raise ProtocolError("kind", "a commit holds something else than an announcement")
    return Signed(opened.message, opened.envelope)


def _nested_member(message: pb.Envelope) -> SignedMember:
    opened = open_envelope(envelope_from_pb(message))
    if not isinstance(opened.message, MemberRecord):
        raise ProtocolError("kind", "a commit admits something else than a member")
    return Signed(opened.message, opened.envelope)


def _nested_order(message: pb.Envelope) -> SignedOrder:
    opened = open_envelope(envelope_from_pb(message))
    if not isinstance(opened.message, Order):
        raise ProtocolError("kind", "a commit orders something else than an order")
    return Signed(opened.message, opened.envelope)


def _nested_finding(message: pb.Envelope) -> SignedFinding:
    opened = open_envelope(envelope_from_pb(message))
    if not isinstance(opened.message, Finding):
        raise ProtocolError("kind", "a commit holds something else than a finding")
    return Signed(opened.message, opened.envelope)


def _finding_pb(finding: Finding) -> pb.Finding:
    return pb.Finding(
        run_id=bytes.fromhex(finding.run_id),
        commit=bytes.fromhex(finding.commit),
        subject=finding.subject,
        gain=finding.gain,
    )


def _decode_finding(body: bytes) -> Finding:
    message = parsed(pb.Finding, body)
    gain = finite(message.gain)
    if gain >= 0:
        raise ProtocolError("range", f"a finding of harm with a gain of {gain}")
    return Finding(
        run_id=RunId(hash_of(message.run_id)),
        commit=CommitHash(hash_of(message.commit)),
        subject=peer_id(message.subject),
        gain=gain,
    )


def _shadow_pb(copy: ShadowCopy) -> pb.ShadowCopy:
    return pb.ShadowCopy(
        run_id=bytes.fromhex(copy.run_id),
        shard=copy.shard,
        round=copy.round,
        parts=[payload_to_pb(part) for part in copy.parts],
        step=copy.step,
    )


def _decode_shadow(body: bytes) -> ShadowCopy:
    message = parsed(pb.ShadowCopy, body)
    return ShadowCopy(
        run_id=RunId(hash_of(message.run_id)),
        shard=printable(message.shard, MAX_NAME_CHARS),
        round=bounded(message.round),
        parts=payloads_from_pb(list(message.parts)),
        step=message.step,
    )


_DECODERS: dict[Kind, Callable[[bytes], Message]] = {
    Kind.MEMBER: decode_member,
    Kind.HEARTBEAT: decode_heartbeat,
    Kind.ANNOUNCE: _decode_announce,
    Kind.COMMIT: _decode_commit,
    Kind.INVITE: decode_invite,
    Kind.ORDER: decode_order,
    Kind.FINDING: _decode_finding,
    Kind.SHADOW: _decode_shadow,
}


def open_commit(envelope: Envelope) -> SignedCommit:
    """Open an envelope that must hold a commit. Raises: ProtocolError."""
    opened = open_envelope(envelope)
    if not isinstance(opened.message, Commit):
        raise ProtocolError("kind", f"expected a commit, got {envelope.kind.name}")
    return Signed(opened.message, envelope)


def open_member(envelope: Envelope) -> SignedMember:
    """Open an envelope that must hold a member record. Raises: ProtocolError."""
    opened = open_envelope(envelope)
    if not isinstance(opened.message, MemberRecord):
        raise ProtocolError("kind", f"expected a member record, got {envelope.kind.name}")
    return Signed(opened.message, envelope)


def open_shadow(envelope: Envelope) -> SignedShadow:
    """Open an envelope that must hold a stale copy's record. Raises: ProtocolError."""
    opened = open_envelope(envelope)
    if not isinstance(opened.message, ShadowCopy):
        raise ProtocolError("kind", f"expected a shadow, got {envelope.kind.name}")
    return Signed(opened.message, envelope)
