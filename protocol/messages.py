"""What peers say to each other: one frozen dataclass per wire message.

The codec turns them into bytes and back; ``Signed`` pairs a message with the envelope it came
in, so that it can be passed on and its hash taken without encoding it again.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Generic, TypeVar

from skerry.protocol.ids import Address, CommitHash, PeerId, RunId, content_hash
from skerry.protocol.rings.plan import Plan

PROTOCOL_VERSION = 5
MAX_OUTER_LR = 10.0
FULL = 1000
"""Undiminished influence, and the highest reputation: both are counted in thousandths."""


class Kind(IntEnum):
    """What an envelope holds; the numbers are those of proto/peer.proto."""

    MEMBER = 1
    HEARTBEAT = 2
    ANNOUNCE = 3
    COMMIT = 4
    MANIFEST = 5
    INVITE = 6
    ORDER = 7
    FINDING = 8
    SHADOW = 9


@dataclass(frozen=True, slots=True)
class Envelope:
    """Signed bytes of one message."""

    kind: Kind
    body: bytes
    signer: PeerId
    signature: bytes

    @property
    def hash(self) -> str:
        """BLAKE2b-256 of the body, 64 hex digits."""
        return content_hash(self.body)


M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Signed(Generic[M]):
    """A decoded message together with the envelope that proves who said it."""

    message: M
    envelope: Envelope

    @property
    def signer(self) -> PeerId:
        """Who signed it."""
        return self.envelope.signer

    @property
    def hash(self) -> str:
        """BLAKE2b-256 of the signed body."""
        return self.envelope.hash


@dataclass(frozen=True, slots=True)
class Invite:
    """The owner's permission to join a run; whoever holds it may use it until it expires."""

    run_id: RunId
    expires_at: int
    """Unix seconds."""
    nonce: bytes
    """16 bytes that name this invite."""
    max_uses: int = 0
    """How many peers may come by it; 0: any number. The commit chain counts them."""


class RoleOffer(IntEnum):
    """What a peer is ready to host; the numbers are those of proto/peer.proto."""

    AUTO = 0
    """Whatever the plan makes of it."""
    REPLICA = 1
    """The whole model."""
    STAGE = 2
    """A part of it."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a peer can do for the run."""

    role: RoleOffer = RoleOffer.REPLICA
    memory: int = 0
    """Bytes that may be used."""
    forward: float = 0.0
    """Text tokens per second through one block; 0: not measured."""
    backward: float = 0.0
    """The same of the backward pass, recomputation included."""

    def is_whole(self, replica_bytes: int) -> bool:
        """Say whether the peer can host the whole model, which takes ``replica_bytes``."""
        fits = self.role == RoleOffer.AUTO and self.memory >= replica_bytes
        return fits or self.role == RoleOffer.REPLICA


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """Where a peer can be reached and by what right it takes part."""

    run_id: RunId
    addresses: tuple[str, ...]
    """libp2p multiaddrs without the ``/p2p`` part."""
    invite: Envelope | None
    """Signed by the run's owner; None for the owner."""
    expires_at: int
    """Unix seconds."""
    agent: str
    offer: Offer = Offer()


@dataclass(frozen=True, slots=True)
class ShardPayload:
    """Where the bytes of one shard are: an encoded pseudo-gradient, or its fp32 parameters."""

    shard: str
    address: Address
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """What the parameters of one shard are."""

    shard: str
    address: Address
    """Of its fp32 parameters."""


@dataclass(frozen=True, slots=True)
class Announce:
    """One peer's contribution to a round, by content address: of the shards that it hosts."""

    run_id: RunId
    round: int
    parent: CommitHash
    state: tuple[ShardState, ...]
    """The hosted shards at the round's start, in layout order."""
    text_tokens: int
    """Trained since the author's last included contribution: what the chain counts. Those of a
    ring are counted by its origin; the others say 0."""
    round_tokens: int
    """Trained in this round: the weight in the aggregate."""
    loss: float
    """Mean training loss of the round, nats per text token."""
    shards: tuple[ShardPayload, ...]
    norms: tuple[float, ...] = ()
    """L2 norm of the gradient of each of ``shards`` before it was clipped, as the root mean square
    over the round's inner steps; none where the author does not know. A peer of a ring does: should
    a stage be lost, the one beside it that has the larger gradient gives more to its average."""


@dataclass(frozen=True, slots=True)
class RemovePeer:
    """Keep a peer out of the run."""

    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class ReadmitPeer:
    """Let a removed peer take part again."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class SetOuterLr:
    """Change alpha, the outer learning rate."""

    lr: float | None
    """None: as the run file says."""


@dataclass(frozen=True, slots=True)
class RevokeInvite:
    """Let nobody in by an invite any more."""

    nonce: bytes
    """16 bytes that name it."""
    reason: str


@dataclass(frozen=True, slots=True)
class AllowPeer:
    """Put a peer on the list of a run that lets in only whom it lists."""

    peer: PeerId


Change = RemovePeer | ReadmitPeer | SetOuterLr | RevokeInvite | AllowPeer


@dataclass(frozen=True, slots=True)
class Order:
    """What the run's owner, or a standby owner, changes while the run goes on."""

    run_id: RunId
    sequence: int
    """Counts the signer's orders from 1 on; they take effect in this order, each once."""
    change: Change


@dataclass(frozen=True, slots=True)
class Judgement:
    """A contribution that did not count in full."""

    peer: PeerId
    """Its author."""
    influence: int
    """0 to FULL - 1: what its values were multiplied by, in thousandths; 0: it did not count."""
    reason: str
    """A short name (pipeline/judging.py), or why it was malformed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verifier's word that a contribution does harm on text that nobody trains on."""

    run_id: RunId
    commit: CommitHash
    """The commit that includes the contribution."""
    subject: PeerId
    """Its author."""
    gain: float
    """By how much it lowered the loss, nats per text token: below zero."""


@dataclass(frozen=True, slots=True)
class ShadowCopy:
    """A host's word on what it has sent of a shard to the peer that keeps a stale copy of it."""

    run_id: RunId
    shard: str
    round: int
    """Whose start the parameters are of."""
    parts: tuple[ShardPayload, ...]
    """A whole copy, then differences, each upon those before it (pipeline/shadow_codec.py)."""
    step: int = 0
    """Inner steps of that round, which the last part adds to its start; 0: none does."""

    @property
    def at_start(self) -> "ShadowCopy":
        """The parameters of the round's start alone."""
        return replace(self, parts=self.parts[:-1], step=0) if self.step else self


@dataclass(frozen=True, slots=True)
class Commit:
    """The list of contributions that make up a round, and who trains the next one."""

    run_id: RunId
    round: int
    view: int
    parent: CommitHash
    state: tuple[ShardState, ...]
    """Agreed for the parameters before this commit, in layout order. A shard that changed before
    and of which no host is heard now is not named."""
    announces: tuple[Signed[Announce], ...]
    """Sorted by author."""
    roster: tuple[PeerId, ...]
    """Who trains the next round, sorted; the position is the peer's data slot."""
    admissions: tuple[Signed[MemberRecord], ...]
    """Records of the peers that are new in the roster, sorted by peer."""
    cursor: int
    """First global batch of the next round."""
    weight: int
    """Text tokens committed on this chain so far."""
    orders: tuple[Signed[Order], ...] = ()
    """Of the run's owner; in force from the next round on, one after the other."""
    judgements: tuple[Judgement, ...] = ()
    """Of the parent's contributions, those that did not count in full; sorted by peer."""
    findings: tuple[Signed[Finding], ...] = ()
    """Of harm, by verifiers of the parent's contributions; sorted by signer and subject."""
    plan: Plan | None = None
    """Who hosts what from the next round on; None: as before."""


MAX_DOUBTS = 8
"""Peers in doubt that one heartbeat names: more are gone at once only if its sender is."""
MAX_LINKS = 64
"""In one heartbeat."""


@dataclass(frozen=True, slots=True)
class LinkFigures:
    """What a peer has measured between itself and another one."""

    peer: PeerId
    round_trip_us: int
    """Microseconds; 0: not measured."""
    bytes_per_s: int
    """At which the other one sends to it; 0: not measured."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sign of life, with what others need to notice that one of them is behind."""

    run_id: RunId
    head: CommitHash
    """Newest commit whose update this peer has applied."""
    head_round: int
    weight: int
    phase: str
    step: int
    steps: int
    tokens_per_second: float
    loss: float
    block_rate: float = 0.0
    """Text tokens per second through one block, forward, as measured in a ring; 0: not yet."""
    links: tuple[LinkFigures, ...] = ()
    """In some heartbeats only: each of its newest figures, of another peer each."""
    doubts: tuple[PeerId, ...] = ()
    """Peers that this one has noticed to be gone, or perhaps; not what others say of them."""


Message = MemberRecord | Heartbeat | Announce | Commit | Invite | Order | Finding | ShadowCopy

SignedAnnounce = Signed[Announce]
SignedCommit = Signed[Commit]
SignedOrder = Signed[Order]
SignedFinding = Signed[Finding]
SignedMember = Signed[MemberRecord]
SignedHeartbeat = Signed[Heartbeat]
SignedShadow = Signed[ShadowCopy]
