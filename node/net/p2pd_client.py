"""Requests to a running p2pd over its control socket, and the byte streams that come of them.

The messages and their framing are hivemind's; the requests are made here because hivemind's
client leaves its socket open whenever a request is refused, cancelled or timed out.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from hivemind.p2p import PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import (
    ControlFailure,
    raise_if_failed,
    read_pbmsg_safe,
    write_pbmsg,
)
from hivemind.proto import p2pd_pb2
from hivemind.utils.multiaddr import Multiaddr

from skerry.node.net.pump import close_writer
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId, short
from skerry.protocol.signing import public_key_of

BUFFER_BYTES = 2**16
"""Read-ahead of one stream; asyncio stops reading at twice this."""

_FAILURES = (OSError, EOFError, ControlFailure)  # TimeoutError is an OSError
# Hivemind's Multiaddr writes /p2p/ID, which every address through a relay holds, as a CID, which
# go-libp2p refuses. It takes 421 ("p2p") as a varint, a length, and an identity multihash.
_PEER_PART = re.compile(r"(/p2p/[^/]+)")
_P2P_PREFIX = b"\xa5\x03\x26"
_OWN_ID = re.compile(r"/p2p/\w+$")

_Answer = tuple[p2pd_pb2.Response, asyncio.StreamReader, asyncio.StreamWriter]


class P2pdStream:
    """A ByteStream over one connection to p2pd."""

    def __init__(
        self,
        peer: PeerId,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_close: Callable[["P2pdStream"], None],
    ) -> None:
        """Wrap a connection that p2pd has joined to a stream of ``peer``."""
        self._peer, self._reader, self._writer = peer, reader, writer
        self._on_close = on_close
        self._reset = False

    @property
    def peer(self) -> PeerId:
        """Who is at the other end."""
        return self._peer

    async def read(self, max_bytes: int) -> bytes:
        """Return 1 to ``max_bytes`` bytes, or b"" at the end. Raises: PeerUnavailable."""
        try:
            data = await self._reader.read(max_bytes)
        except OSError as error:
            raise self._lost(error) from error
        if not data and self._reset:
            raise self._lost("p2pd has ended")
        return data

    async def write(self, data: bytes) -> None:
        """Send ``data`` in bounded pieces. Raises: PeerUnavailable."""
        view = memoryview(data)
        try:
            for start in range(0, len(view), BUFFER_BYTES):
                if self._writer.is_closing():
                    raise self._lost("closed")
                self._writer.write(view[start : start + BUFFER_BYTES])
                await self._writer.drain()
        except (OSError, RuntimeError) as error:  # uvloop: RuntimeError on a closed transport
            raise self._lost(error) from error

    async def close(self) -> None:
        """Flush for a moment, then close both directions; never raises."""
        self._on_close(self)
        await close_writer(self._writer)

    def reset(self) -> None:
        """Cut the stream because p2pd is gone; pending reads and writes raise."""
        self._reset = True
        self._writer.transport.abort()

    def _lost(self, why: object) -> PeerUnavailable:
        return PeerUnavailable("SK-NET-003", f"stream to {short(self._peer)}: {why}")


class P2pdClient:
    """What we ask of p2pd."""

    def __init__(self, control: Path) -> None:
        """Talk to the p2pd whose control socket is ``control``."""
        self._control = control

    async def identify(self) -> tuple[str, tuple[str, ...]]:
        """Return the peer id and the multiaddrs without ``/p2p``. Raises: PeerUnavailable."""
        request = p2pd_pb2.Request(type=p2pd_pb2.Request.IDENTIFY)
        response = await self._ask(request, "identify")
        addresses = (_printed(data) for data in response.identify.addrs)
        known = tuple(_OWN_ID.sub("", text) for text in addresses if text)
        return PeerID(response.identify.id).to_base58(), known

    async def connections(self) -> tuple[tuple[PeerId, str], ...]:
        """Return peer and remote multiaddr of each connection. Raises: PeerUnavailable."""
        request = p2pd_pb2.Request(type=p2pd_pb2.Request.LIST_PEERS)
        response = await self._ask(request, "list peers")
        return tuple(
            (PeerId(PeerID(info.id).to_base58()), _printed(address))
            for info in response.peers
            for address in info.addrs
        )

    async def connect(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Connect to ``peer``; malformed addresses are passed over. Raises: PeerUnavailable."""
        parsed = [data for data in map(_binary, addresses) if data]
        connect = p2pd_pb2.ConnectRequest(peer=_peer_bytes(peer), addrs=parsed)
        request = p2pd_pb2.Request(type=p2pd_pb2.Request.CONNECT, connect=connect)
        await self._ask(request, f"connect to {short(peer)}")

    async def disconnect(self, peer: PeerId) -> None:
        """Close all connections to ``peer``. Raises: PeerUnavailable."""
        wanted = p2pd_pb2.DisconnectRequest(peer=_peer_bytes(peer))
        request = p2pd_pb2.Request(type=p2pd_pb2.Request.DISCONNECT, disconnect=wanted)
        await self._ask(request, f"disconnect from {short(peer)}")

    async def open_stream(
        self, peer: PeerId, protocol: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a stream to ``peer``. Raises: PeerUnavailable."""
        wanted = p2pd_pb2.StreamOpenRequest(peer=_peer_bytes(peer), proto=[protocol])
        request = p2pd_pb2.Request(type=p2pd_pb2.Request.STREAM_OPEN, streamOpen=wanted)
        with _translated(f"open {protocol} to {short(peer)}"):
            _, reader, writer = await self._converse(request)
        return reader, writer

    async def register(self, protocol: str, listener: Path) -> None:
        """Have p2pd join inbound streams of ``protocol`` to the unix socket ``listener``."""
        address = Multiaddr(f"/unix{listener}").to_bytes()
        wanted = p2pd_pb2.StreamHandlerRequest(addr=address, proto=[protocol], balanced=False)
        request = p2pd_pb2.Request(type=p2pd_pb2.Request.STREAM_HANDLER, streamHandler=wanted)
        await self._ask(request, f"serve {protocol}")

    async def _ask(self, request: p2pd_pb2.Request, what: str) -> p2pd_pb2.Response:
        with _translated(what):
            response, _, writer = await self._converse(request)
            writer.close()
            await writer.wait_closed()
        return response

    async def _converse(self, request: p2pd_pb2.Request) -> _Answer:
        reader, writer = await asyncio.open_unix_connection(str(self._control), limit=BUFFER_BYTES)
        with contextlib.ExitStack() as undo:
            undo.callback(writer.close)
            await write_pbmsg(writer, request)
            response = p2pd_pb2.Response()
            await read_pbmsg_safe(reader, response)
            raise_if_failed(response)
            undo.pop_all()
        return response, reader, writer


async def read_stream_info(reader: asyncio.StreamReader) -> tuple[PeerId, str]:
    """Read what p2pd says first on an inbound stream: who opened it, and its protocol.

    Raises: ProtocolError if the peer's key is not Ed25519 or it was not p2pd who spoke, EOFError
        or OSError if p2pd went away.
    """
    info = p2pd_pb2.StreamInfo()
    try:
        await read_pbmsg_safe(reader, info)
    except (DecodeError, ValueError) as error:
        raise ProtocolError("stream-info", f"not from p2pd: {error}") from error
    peer = PeerId(PeerID(info.peer).to_base58())
    public_key_of(peer)
    return peer, str(info.proto)


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        detail = str(error).removeprefix("Connect failed. msg=") or type(error).__name__
        raise PeerUnavailable("SK-NET-003", f"{what}: {detail}") from error


def _peer_bytes(peer: PeerId) -> bytes:
    try:
        public_key_of(peer)
    except ProtocolError as error:
        raise PeerUnavailable("SK-NET-003", error.detail) from error
    return bytes(PeerID.from_base58(peer).to_bytes())


def _binary(address: str) -> bytes:
    try:
        return b"".join(_part_to_bytes(part) for part in _PEER_PART.split(address) if part)
    except (ValueError, ProtocolError):  # hivemind's parse errors are ValueErrors
        return b""


def _part_to_bytes(part: str) -> bytes:
    if not part.startswith("/p2p/"):
        return bytes(Multiaddr(part).to_bytes())
    name = PeerId(part.removeprefix("/p2p/"))
    public_key_of(name)  # an Ed25519 key: the length of its multihash is known
    return _P2P_PREFIX + bytes(PeerID.from_base58(name).to_bytes())


def _printed(data: bytes) -> str:
    try:
        return str(Multiaddr(data))
    except (ValueError, TypeError, LookupError):  # a transport that hivemind does not know
        return ""
