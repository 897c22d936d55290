"""Orders of the run's owner as this node gives them: who may, about whom, and what is in force.

A node may if its key is the owner's or one that the manifest names as standby. What an order
changes happens in a commit (protocol/rounds/settings.py), not here.
"""

import contextlib
from dataclasses import dataclass

from skerry.node.run.admission import holders_of
from skerry.node.run.context import RunContext
from skerry.node.run.journal import Journal
from skerry.proto import control_pb2 as pb
from skerry.protocol.codec import sign_message
from skerry.protocol.errors import OrderError, ProtocolError
from skerry.protocol.fields import NONCE_BYTES
from skerry.protocol.ids import PeerId, short
from skerry.protocol.messages import (
    MAX_OUTER_LR,
    AllowPeer,
    Change,
    Order,
    ReadmitPeer,
    RemovePeer,
    RevokeInvite,
    SetOuterLr,
    Signed,
    SignedOrder,
)
from skerry.protocol.order_codec import MAX_REASON_CHARS
from skerry.protocol.rounds.ordering import MAX_PENDING, next_sequence
from skerry.protocol.rounds.settings import check_order
from skerry.protocol.signing import public_key_of


def may_order(context: RunContext) -> bool:
    """Say whether this node may give orders and invite peers."""
    removed = context.state.rounds.settings.removed
    return context.me in context.manifest.owner_keys and context.me not in removed


def check_owner(context: RunContext) -> None:
    """Raises: OrderError("SK-OWN-001") if this node may not give orders."""
    if not may_order(context):
        raise OrderError(
            "SK-OWN-001", f"run {context.manifest.name!r} is not this node's to change"
        )


def outer_lr(context: RunContext) -> float:
    """Return alpha of the round being worked on."""
    rounds = context.state.rounds
    ordered = rounds.settings.outer_lr
    return context.manifest.outer.lr_at(rounds.round) if ordered is None else ordered


def new_order(context: RunContext, change: Change) -> SignedOrder:
    """Return this node's next order. Raises: OrderError if it can have no effect."""
    check_owner(context)
    rounds = context.state.rounds
    if rounds.finished:
        raise OrderError("SK-OWN-002", "the run has trained its last round")
    _check_change(context, change)
    number = next_sequence(rounds, context.me)
    if number >= rounds.settings.next_sequence(context.me) + MAX_PENDING:
        raise OrderError("SK-OWN-002", f"{MAX_PENDING} orders wait for a commit already")
    order = Order(context.run_id, number, change)
    signed = Signed(order, sign_message(context.signer, order).envelope)
    try:
        check_order(signed, rounds.rules.chain.keys)
    except ProtocolError as error:
        raise OrderError("SK-OWN-002", error.detail) from None
    return signed


def named_peer(context: RunContext, name: str) -> PeerId:
    """Return the one peer whose id ends with ``name``. Raises: OrderError("SK-OWN-002")."""
    rounds = context.state.rounds
    known = {*rounds.members, *rounds.roster, *rounds.settings.removed, rounds.me}
    found = sorted(peer for peer in known if name and peer.endswith(name))
    if len(found) == 1:
        return found[0]
    what = "no peer's id ends" if not found else f"the ids of {len(found)} peers end"
    raise OrderError("SK-OWN-002", f"{what} with {name[:60]!r}")


def named_invite(context: RunContext, name: str) -> bytes:
    """Return the nonce of an invite by its name, or by the beginning of a known one's.

    Raises: OrderError("SK-OWN-002").
    """
    with contextlib.suppress(ValueError):
        if len(nonce := bytes.fromhex(name)) == NONCE_BYTES:
            return nonce
    found = [nonce for nonce in holders_of(context) if name and nonce.hex().startswith(name)]
    if len(found) == 1:
        return found[0]
    what = "no known invite's name begins" if not found else f"{len(found)} invites' names begin"
    raise OrderError("SK-OWN-002", f"{what} with {name[:60]!r}; a token names its own")


def _check_change(context: RunContext, change: Change) -> None:
    settings = context.state.rounds.settings
    removed = settings.removed
    match change:
        case RevokeInvite(nonce, reason):
            _check_reason(reason)
            if nonce in settings.revoked:
                raise OrderError("SK-OWN-002", f"invite {nonce.hex()} has been revoked already")
        case AllowPeer(peer):
            if settings.allowed is None:
                mode = context.manifest.admission.mode
                raise OrderError("SK-OWN-002", f"the run keeps no list: its mode is {mode}")
            if peer in settings.allowed:
                raise OrderError("SK-OWN-002", f"{short(peer)} is on the list already")
        case RemovePeer(peer, reason):
            _check_reason(reason)
            if peer in removed:
                raise OrderError("SK-OWN-002", f"{short(peer)} has been removed already")
        case ReadmitPeer(peer):
            if peer not in removed:
                raise OrderError("SK-OWN-002", f"{short(peer)} is not removed")
        case SetOuterLr(lr):
            if lr is not None and not 0 < lr <= MAX_OUTER_LR:
                detail = f"the outer learning rate must be above 0 and at most {MAX_OUTER_LR:g}"
                raise OrderError("SK-OWN-002", detail)


def _check_reason(reason: str) -> None:
    if len(reason) > MAX_REASON_CHARS or not reason.isprintable():
        detail = f"a reason is one line of at most {MAX_REASON_CHARS} characters"
        raise OrderError("SK-OWN-002", detail)


def _whole_id(name: str) -> PeerId:
    """Return the id of a peer that nobody may know yet. Raises: OrderError("SK-OWN-002")."""
    try:
        public_key_of(PeerId(name))
    except ProtocolError as error:
        hint = "the peer's skerry keys prints it"
        raise OrderError("SK-OWN-002", f"{error.detail}; {hint}") from None
    return PeerId(name)


@dataclass(frozen=True, slots=True)
class OrderNote:
    """An order as the event log tells it."""

    change: str
    peer: str = ""
    reason: str = ""
    outer_lr: float | None = None
    invite: str = ""


@dataclass(frozen=True, slots=True)
class Sender:
    """Through what an order was given, for the event log."""

    via: str
    """``command`` or ``page``."""
    address: str = ""
    """Of the browser."""


def change_of(context: RunContext, request: pb.OrderRequest) -> Change:
    """Return what is wished, with whom it is about by full id. Raises: OrderError."""
    check_owner(context)
    match request.WhichOneof("change"):
        case "remove":
            return RemovePeer(named_peer(context, request.remove.peer), request.remove.reason)
        case "readmit":
            return ReadmitPeer(named_peer(context, request.readmit))
        case "outer_lr":
            return SetOuterLr(request.outer_lr if request.outer_lr != 0 else None)
        case "revoke":
            return RevokeInvite(named_invite(context, request.revoke.invite), request.revoke.reason)
        case "allow":
            return AllowPeer(_whole_id(request.allow))
        case _:
            raise OrderError("SK-OWN-002", "it says nothing")


def note_order(journal: Journal, order: SignedOrder, sender: Sender) -> OrderNote:
    """Write into the event log who had this node change what."""
    note = _note_of(order.message.change)
    journal.write(
        "order",
        sequence=order.message.sequence,
        via=sender.via,
        address=sender.address,
        change=note.change,
        peer=note.peer,
        reason=note.reason,
        outer_lr=note.outer_lr,
        invite=note.invite,
    )
    return note


def _note_of(change: Change) -> OrderNote:
    match change:
        case RemovePeer(peer, reason):
            return OrderNote("remove", peer, reason)
        case ReadmitPeer(peer):
            return OrderNote("readmit", peer)
        case SetOuterLr(lr):
            return OrderNote("outer-lr", outer_lr=lr)
        case RevokeInvite(nonce, reason):
            return OrderNote("revoke", reason=reason, invite=nonce.hex())
        case AllowPeer(peer):
            return OrderNote("allow", peer)
