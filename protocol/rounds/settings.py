"""What the owner has changed since the run began: a pure function of the commit chain.

The manifest never changes. Orders (messages.Order) do: each commit may hold some, and what they
say is in force from the next round on. So everyone who stands at the same commit has the same
settings, whether it was there, joined later, replays a recording or came over from a fork.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from skerry.protocol.codec import decode_invite
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId, RunId, short
from skerry.protocol.messages import (
    AllowPeer,
    ReadmitPeer,
    RemovePeer,
    RevokeInvite,
    SetOuterLr,
    SignedMember,
    SignedOrder,
)
from skerry.protocol.rounds.hosting import Hosts

NOT_LISTED = "not-listed"
"""Reason for which a run that keeps a list refuses whom it does not list."""


@dataclass(frozen=True, slots=True)
class OwnerKeys:
    """Whose orders count."""

    run_id: RunId
    owner: PeerId
    standby: tuple[PeerId, ...]

    def __contains__(self, peer: PeerId) -> bool:
        """Say whether a peer holds one of the keys."""
        return peer == self.owner or peer in self.standby


@dataclass(frozen=True, slots=True)
class Removal:
    """Why a peer may not take part, or an invite lets nobody in."""

    by: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force after a commit."""

    outer_lr: float | None = None
    """Alpha; None: as the manifest's schedule says."""
    removed: Mapping[PeerId, Removal] = field(default_factory=dict)
    sequences: Mapping[PeerId, int] = field(default_factory=dict)
    """The newest order of each issuer that the chain holds."""
    owners: frozenset[PeerId] = frozenset()
    """Keys that need no invite and no list."""
    by_invite: bool = True
    """Whether invites count: not where anyone may take part, or only who is listed."""
    allowed: frozenset[PeerId] | None = None
    """Who may take part, where the run keeps a list; it only grows. None: it keeps none."""
    revoked: Mapping[bytes, Removal] = field(default_factory=dict)
    """Invites, by nonce, that let nobody in any more."""
    guests: Mapping[bytes, frozenset[PeerId]] = field(default_factory=dict)
    """Who came by each invite that is for a number of peers, by nonce."""
    hosts: Hosts = field(default_factory=lambda: Hosts(()))
    """Who hosts which shards."""

    def next_sequence(self, issuer: PeerId) -> int:
        """Return the number that an issuer's next order on this chain must have."""
        return self.sequences.get(issuer, 0) + 1

    def admits(self, member: SignedMember) -> bool:
        """Say whether a commit upon this one may take a peer in."""
        return not self.refusal(member)

    def refusal(self, member: SignedMember) -> str:
        """Return why a commit upon this one may not take a peer in; empty if it may.

        Where invites count, that in ``member`` was opened before (token.check_member).
        """
        peer, envelope = member.signer, member.message.invite
        if peer in self.removed:
            return "removed"
        if peer in self.owners:
            return ""
        if self.allowed is not None and peer not in self.allowed:
            return NOT_LISTED
        if envelope is None or not self.by_invite:
            return ""
        invite = decode_invite(envelope.body)
        if envelope.signer in self.removed or invite.nonce in self.revoked:
            return "invite-revoked"
        guests = self.guests.get(invite.nonce, frozenset())
        full = 0 < invite.max_uses <= len(guests)
        return "invite-used-up" if full and peer not in guests else ""

    def with_guest(self, member: SignedMember) -> "Settings":
        """Return the settings after a commit has taken a peer in."""
        envelope = member.message.invite
        if envelope is None or not self.by_invite or member.signer in self.owners:
            return self
        invite = decode_invite(envelope.body)
        if not invite.max_uses:
            return self
        before = self.guests.get(invite.nonce, frozenset())
        if member.signer in before:
            return self
        return replace(self, guests={**self.guests, invite.nonce: before | {member.signer}})


def welcome(
    settings: Settings, members: Iterable[SignedMember], room: int
) -> tuple[SignedMember, ...]:
    """Return those of ``members`` that one commit may take in together, at most ``room``."""
    found: list[SignedMember] = []
    for member in members:
        if len(found) < room and settings.admits(member):
            found.append(member)
            settings = settings.with_guest(member)
    return tuple(found)


def admitted(settings: Settings, members: Iterable[SignedMember]) -> Settings:
    """Return the settings after a commit has taken peers in. Raises: ProtocolError."""
    for member in members:
        reason = settings.refusal(member)
        if reason:
            raise ProtocolError(reason, f"{short(member.signer)} may not be taken in")
        settings = settings.with_guest(member)
    return settings


def check_order(order: SignedOrder, keys: OwnerKeys) -> None:
    """Check what does not depend on the chain: run, issuer, and whom it is about.

    The owner may remove a standby, which ends that one's rights; nobody may remove the owner, and
    no standby another one, so that two keys cannot fight over a run.
    Raises: ProtocolError.
    """
    message, issuer = order.message, order.signer
    if message.run_id != keys.run_id:
        raise ProtocolError("run", "an order of another run")
    if issuer not in keys:
        raise ProtocolError("order-issuer", f"{issuer} holds no owner key of this run")
    if message.sequence < 1:
        raise ProtocolError("order-sequence", "orders count from 1")
    if isinstance(message.change, RemovePeer):
        peer = message.change.peer
        if peer == keys.owner or (issuer != keys.owner and peer in keys):
            raise ProtocolError("order-target", f"{peer} holds a key that this order cannot end")


def ordered(settings: Settings, orders: Iterable[SignedOrder], keys: OwnerKeys) -> Settings:
    """Return the settings after a commit's orders, one after the other. Raises: ProtocolError.

    An issuer's orders follow one another without a gap: none is applied twice, and none can be
    passed over by whoever leads a round.
    """
    for order in orders:
        check_order(order, keys)
        issuer, sequence = order.signer, order.message.sequence
        if issuer in settings.removed:
            raise ProtocolError("order-issuer", f"{issuer} was removed")
        if sequence != settings.next_sequence(issuer):
            detail = f"order {sequence} of {issuer}, must be {settings.next_sequence(issuer)}"
            raise ProtocolError("order-sequence", detail)
        settings = _changed(settings, order)
    return settings


def _changed(settings: Settings, order: SignedOrder) -> Settings:
    sequences = {**settings.sequences, order.signer: order.message.sequence}
    removed = settings.removed
    match order.message.change:
        case RemovePeer(peer, reason):
            removed = {**removed, peer: Removal(order.signer, reason)}
        case ReadmitPeer(peer):
            removed = {name: why for name, why in removed.items() if name != peer}
        case SetOuterLr(lr):
            return replace(settings, outer_lr=lr, sequences=sequences)
        case RevokeInvite(nonce, reason):
            revoked = {**settings.revoked, nonce: Removal(order.signer, reason)}
            return replace(settings, revoked=revoked, sequences=sequences)
        case AllowPeer(peer):
            allowed = settings.allowed | {peer} if settings.allowed is not None else None
            return replace(settings, allowed=allowed, sequences=sequences)
    return replace(settings, removed=removed, sequences=sequences)
