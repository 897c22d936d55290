"""Asking other peers about the way to them, and relays for a place: the calls of this package.

Each is one request and one reply on a stream of its own, both bounded in size and time.
"""

import asyncio
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from skerry.node.net.multiaddrs import Endpoint, endpoint_of
from skerry.node.reach.mirror import seen_in
from skerry.node.reach.nat import Observation
from skerry.node.reach.relays import Place
from skerry.proto import circuit_pb2, reach_pb2
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId, short
from skerry.protocol.transport import ByteStream

if TYPE_CHECKING:  # it imports hivemind, which not every node has
    from skerry.node.net.p2pd import P2pdTransport

REACH_PROTOCOL = "/skerry/reach/1"
HOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/hop"
MAX_MESSAGE_BYTES = 4096
NONCE_BYTES = 16
ASK_SECONDS = 15.0
"""For a whole question; the other side may have to dial us meanwhile."""
_GRANTED = 100

M = TypeVar("M", bound=Message)


async def look(
    transport: "P2pdTransport", peer: PeerId, ports: Collection[int]
) -> list[Observation]:
    """Ask a directly connected peer where it sees us, and to dial us back there.

    Returns: an observation for each of our connections to it, before them one of its mirror.
    Raises: PeerUnavailable, ProtocolError.
    """
    request = reach_pb2.ReachRequest(look=reach_pb2.LookRequest(ports=ports))
    reply = await _ask_reach(transport, peer, request)
    if not reply.HasField("look"):
        raise ProtocolError("reach", f"{short(peer)} did not look: {reply.refused[:80]!r}")
    answered = frozenset(reply.look.answered) & frozenset(ports)
    seen = (endpoint_of(address) for address in reply.look.seen)
    found = [Observation(peer, endpoint, answered) for endpoint in seen if endpoint is not None]
    again = await _second_look(transport, peer, reply.look.mirror)
    return found if again is None else [Observation(peer, again, frozenset(), exact=True), *found]


async def _second_look(transport: "P2pdTransport", peer: PeerId, mirror: int) -> Endpoint | None:
    """Return where a peer's mirror sees us, if there is one that answers."""
    direct = [
        endpoint_of(a) for name, a in await transport.daemon.client.connections() if name == peer
    ]
    where = next((endpoint.ip for endpoint in direct if endpoint is not None), None)
    if where is None or not 0 < mirror < 2**16:
        return None
    return await seen_in(
        Endpoint(where, mirror), transport.daemon.options.host, transport.daemon.port
    )


async def ask_to_punch(
    transport: "P2pdTransport", peer: PeerId, outer: Endpoint, nonce: bytes
) -> tuple[Endpoint, bytes]:
    """Agree with a peer to dial each other now. Returns: its outer endpoint and its nonce.

    Raises: PeerUnavailable, ProtocolError if it will not.
    """
    request = reach_pb2.ReachRequest(punch=reach_pb2.PunchRequest(outer=str(outer), nonce=nonce))
    reply = await _ask_reach(transport, peer, request)
    theirs = endpoint_of(reply.punch.outer)
    if not reply.HasField("punch") or theirs is None or len(reply.punch.nonce) != NONCE_BYTES:
        raise ProtocolError("reach", f"{short(peer)} does not dial us: {reply.refused[:80]!r}")
    return theirs, reply.punch.nonce


async def take_place(
    transport: "P2pdTransport", relay: PeerId, addresses: tuple[str, ...]
) -> Place:
    """Ask a connected relay for a place. Raises: PeerUnavailable, ProtocolError if refused."""
    message = circuit_pb2.HopMessage(type=circuit_pb2.HopMessage.RESERVE)
    reply = await _ask(transport, relay, HOP_PROTOCOL, message, circuit_pb2.HopMessage)
    if reply.type != circuit_pb2.HopMessage.STATUS or reply.status != _GRANTED:
        raise ProtocolError("relay", f"{short(relay)} gives no place: status {reply.status}")
    return Place(
        relay=relay,
        addresses=addresses,
        until=time.monotonic() + max(0.0, reply.reservation.expire - time.time()),
        circuit_bytes=reply.limit.data,
        circuit_seconds=float(reply.limit.duration),
    )


async def read_message(stream: ByteStream, kind: type[M]) -> M:
    """Read one delimited message. Raises: ProtocolError, PeerUnavailable."""
    size = shift = 0
    while True:
        (byte,) = await _exactly(stream, 1)
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift > 14:
            raise ProtocolError("size", "the length of a message takes more than three bytes")
    if size > MAX_MESSAGE_BYTES:
        raise ProtocolError("size", f"message of {size} bytes, limit {MAX_MESSAGE_BYTES}")
    try:
        return kind.FromString(await _exactly(stream, size))
    except DecodeError as error:
        raise ProtocolError("malformed", f"not a {kind.DESCRIPTOR.name}: {error}") from error


async def write_message(stream: ByteStream, message: Message) -> None:
    """Write one delimited message. Raises: PeerUnavailable."""
    body = message.SerializeToString()
    size, length = len(body), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    await stream.write(bytes([*length, size]) + body)


async def _ask_reach(
    transport: "P2pdTransport", peer: PeerId, request: reach_pb2.ReachRequest
) -> reach_pb2.ReachReply:
    return await _ask(transport, peer, REACH_PROTOCOL, request, reach_pb2.ReachReply)


async def _ask(
    transport: "P2pdTransport", peer: PeerId, protocol: str, request: Message, kind: type[M]
) -> M:
    try:
        async with asyncio.timeout(ASK_SECONDS):
            stream = await transport.open_stream(peer, protocol)
            try:
                await write_message(stream, request)
                return await read_message(stream, kind)
            finally:
                await stream.close()
    except TimeoutError:
        detail = f"{short(peer)}: no answer on {protocol} within {ASK_SECONDS:.0f} s"
        raise PeerUnavailable("SK-NET-003", detail) from None


async def _exactly(stream: ByteStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.read(size - len(data))
        if not more:
            raise PeerUnavailable("SK-NET-003", f"{short(stream.peer)} ended a message early")
        data += more
    return data
