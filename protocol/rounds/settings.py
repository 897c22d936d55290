"""What the owner has changed since the run began: a pure function of the commit chain.

The manifest never changes. Orders (messages.Order) do: each commit may hold some, and what they
say is in force from the next round on. So everyone who stands at the same commit has the same
settings, whether it was there, joined later, replays a recording or came over from a fork.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.messages import (
    ReadmitPeer,
    RemovePeer,
    SetOuterLr,
    SignedMember,
    SignedOrder,
)


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
    """Why a peer may not take part."""

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

    def next_sequence(self, issuer: PeerId) -> int:
        """Return the number that an issuer's next order on this chain must have."""
        return self.sequences.get(issuer, 0) + 1

    def admits(self, member: SignedMember) -> bool:
        """Say whether neither a peer nor the standby that invited it was removed."""
        invite = member.message.invite
        invited = invite is None or invite.signer not in self.removed
        return invited and member.signer not in self.removed


INITIAL_SETTINGS = Settings()


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
    return replace(settings, removed=removed, sequences=sequences)
