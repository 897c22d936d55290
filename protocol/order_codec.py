"""Orders of a run's owner as bytes and back, with every limit."""

from skerry.proto import peer_pb2 as pb
from skerry.protocol.errors import ProtocolError
from skerry.protocol.fields import bounded, finite, hash_of, nonce, parsed, peer_id, printable
from skerry.protocol.ids import RunId
from skerry.protocol.messages import (
    MAX_OUTER_LR,
    AllowPeer,
    Change,
    Order,
    ReadmitPeer,
    RemovePeer,
    RevokeInvite,
    SetOuterLr,
)

MAX_REASON_CHARS = 200


def order_to_pb(order: Order) -> pb.Order:
    """Return the protobuf form of an order."""
    message = pb.Order(run_id=bytes.fromhex(order.run_id), sequence=order.sequence)
    match order.change:
        case RemovePeer(peer, reason):
            message.remove.peer, message.remove.reason = peer, reason
        case ReadmitPeer(peer):
            message.readmit = peer
        case SetOuterLr(lr):
            message.outer_lr = lr or 0.0
        case RevokeInvite(nonce, reason):
            message.revoke.nonce, message.revoke.reason = nonce, reason
        case AllowPeer(peer):
            message.allow = peer
    return message


def decode_order(body: bytes) -> Order:
    """Read an order's body. Raises: ProtocolError."""
    message = parsed(pb.Order, body)
    return Order(
        run_id=RunId(hash_of(message.run_id)),
        sequence=bounded(message.sequence),
        change=_change(message),
    )


def _change(message: pb.Order) -> Change:
    match message.WhichOneof("change"):
        case "remove":
            reason = printable(message.remove.reason, MAX_REASON_CHARS)
            return RemovePeer(peer_id(message.remove.peer), reason)
        case "readmit":
            return ReadmitPeer(peer_id(message.readmit))
        case "outer_lr":
            lr = finite(message.outer_lr)
            if not 0 <= lr <= MAX_OUTER_LR:
                raise ProtocolError("range", f"outer learning rate {lr}, limit {MAX_OUTER_LR}")
            return SetOuterLr(lr or None)
        case "revoke":
            reason = printable(message.revoke.reason, MAX_REASON_CHARS)
            return RevokeInvite(nonce(message.revoke.nonce), reason)
        case "allow":
            return AllowPeer(peer_id(message.allow))
        case _:
            raise ProtocolError("malformed", "an order that changes nothing")
