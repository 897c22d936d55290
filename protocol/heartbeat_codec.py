"""Heartbeats to protobuf and back; a part of codec.py, which alone calls it."""

from collections.abc import Sequence

from skerry.proto import peer_pb2 as pb
from skerry.protocol.errors import ProtocolError
from skerry.protocol.fields import bounded, finite, hash_of, parsed, peer_id, printable, speed
from skerry.protocol.ids import CommitHash, PeerId, RunId
from skerry.protocol.messages import MAX_DOUBTS, MAX_LINKS, Heartbeat, LinkFigures

MAX_NAME_CHARS = 64


def heartbeat_pb(beat: Heartbeat) -> pb.Heartbeat:
    """Return the message of a heartbeat."""
    return pb.Heartbeat(
        run_id=bytes.fromhex(beat.run_id),
        head=bytes.fromhex(beat.head),
        head_round=beat.head_round,
        weight=beat.weight,
        phase=beat.phase,
        step=beat.step,
        steps=beat.steps,
        tokens_per_second=beat.tokens_per_second,
        loss=beat.loss,
        block_rate=beat.block_rate,
        links=[
            pb.LinkFigures(
                peer=one.peer, round_trip_us=one.round_trip_us, bytes_per_s=one.bytes_per_s
            )
            for one in beat.links
        ],
        doubts=beat.doubts,
    )


def decode_heartbeat(body: bytes) -> Heartbeat:
    """Read and check one. Raises: ProtocolError."""
    message = parsed(pb.Heartbeat, body)
    return Heartbeat(
        run_id=RunId(hash_of(message.run_id)),
        head=CommitHash(hash_of(message.head)),
        head_round=bounded(message.head_round),
        weight=bounded(message.weight),
        phase=printable(message.phase, MAX_NAME_CHARS),
        step=message.step,
        steps=message.steps,
        tokens_per_second=finite(message.tokens_per_second),
        loss=finite(message.loss),
        block_rate=speed(message.block_rate),
        links=_links(message.links),
        doubts=_doubts(message.doubts),
    )


def _links(found: Sequence[pb.LinkFigures]) -> tuple[LinkFigures, ...]:
    if len(found) > MAX_LINKS or len({one.peer for one in found}) < len(found):
        raise ProtocolError("size", f"{len(found)} links, limit {MAX_LINKS}, of a peer each")
    return tuple(
        LinkFigures(peer_id(one.peer), bounded(one.round_trip_us), bounded(one.bytes_per_s))
        for one in found
    )


def _doubts(found: Sequence[str]) -> tuple[PeerId, ...]:
    if len(found) > MAX_DOUBTS:
        raise ProtocolError("size", f"{len(found)} doubts, limit {MAX_DOUBTS}")
    return tuple(map(peer_id, found))
