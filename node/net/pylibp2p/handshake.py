"""From a TCP connection to an authenticated, encrypted one: py-libp2p's Noise handshake.

Both sides agree by multistream-select on Noise and then on yamux, as go-libp2p does. What comes
before the other side has proven its key is bounded in size, and by whoever calls in time.
"""

import contextlib
import logging
import socket

import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError
from libp2p.abc import IRawConnection, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.protocol_muxer.generic_selector import GenericMultistreamSelector
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr
from noise.exceptions import (
    NoiseHandshakeError,
    NoiseInvalidMessage,
    NoiseValidationError,
    NoiseValueError,
)

from skerry.node.net.pylibp2p.yamux import PROTOCOL as YAMUX
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.signing import public_key_of

HANDSHAKE_SECONDS = 10
_RECEIVE_BYTES = 2**18
# What the kernel holds beyond what the window allows it to send. Trio's 16 KiB run dry on a fast
# link whenever the thread waits for a core for more than a millisecond.
_UNSENT_BYTES = 2**18
# The largest piece that anybody asks for is a Noise message.
_MAX_READ = 2**16

# What py-libp2p and the packages below it raise for bytes that make no sense.
BROKEN = (
    BaseLibp2pError,
    NoiseHandshakeError,
    NoiseInvalidMessage,
    NoiseValidationError,
    NoiseValueError,
    InvalidTag,
    DecodeError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)

# Without a handler its complaints about strangers' bytes would go to the standard error.
logging.getLogger("libp2p").addHandler(logging.NullHandler())


class TcpConnection(IRawConnection):
    """A TCP connection as py-libp2p wants it; ``read`` returns all that was asked for."""

    def __init__(self, stream: trio.SocketStream, is_initiator: bool) -> None:
        """Wrap ``stream``, which this side opened if ``is_initiator``."""
        self.is_initiator = is_initiator
        self._stream = stream
        with contextlib.suppress(OSError):  # not every system has it
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._received = b""
        self._at = 0

    async def read(self, n: int | None = None) -> bytes:
        """Return exactly ``n`` bytes. Raises: ConnectionClosedError."""
        if n is None or n > _MAX_READ:
            raise ConnectionClosedError(f"{n} bytes are announced, {_MAX_READ} allowed")
        while len(self._received) - self._at < n:
            more = await self._receive()
            self._received, self._at = self._received[self._at :] + more, 0
        data = self._received[self._at : self._at + n]
        self._at += n
        return data

    async def write(self, data: bytes) -> None:
        """Send all of ``data``. Raises: ConnectionClosedError."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError(str(error)) from error

    async def close(self) -> None:
        """Close at once."""
        await trio.aclose_forcefully(self._stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        """Part of the interface; nobody here asks."""
        return None

    def get_transport_addresses(self) -> list[Multiaddr]:
        """Part of the interface; nobody here asks."""
        return []

    def get_connection_type(self) -> ConnectionType:
        """Say that no relay is between."""
        return ConnectionType.DIRECT

    async def _receive(self) -> bytes:
        try:
            data = await self._stream.receive_some(_RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError(str(error)) from error
        if not data:
            raise ConnectionClosedError("closed by the other side")
        return bytes(data)


class Handshaker:
    """Proves who we are, and has others prove who they are."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Be the peer of ``key``."""
        pair = create_new_key_pair(key.private_bytes_raw())
        noise = NoiseTransport(pair, create_noise_key_pair().private_key)
        self._upgrader = TransportUpgrader({NOISE: noise}, {})
        self._muxers: GenericMultistreamSelector[None] = GenericMultistreamSelector()
        self._muxers.add_handler(TProtocol(YAMUX), None)

    async def outbound(self, stream: trio.SocketStream, peer: PeerId) -> tuple[PeerId, ISecureConn]:
        """Secure a connection that we opened to ``peer``. Raises: PeerUnavailable."""
        return await self._secure(TcpConnection(stream, True), ID.from_string(peer))

    async def inbound(self, stream: trio.SocketStream) -> tuple[PeerId, ISecureConn]:
        """Secure a connection that somebody opened to us. Raises: PeerUnavailable."""
        return await self._secure(TcpConnection(stream, False), None)

    async def _secure(self, raw: TcpConnection, peer: ID | None) -> tuple[PeerId, ISecureConn]:
        try:
            with trio.fail_after(HANDSHAKE_SECONDS):
                secured = await self._upgrader.upgrade_security(raw, raw.is_initiator, peer)
                await self._muxers.select(secured, raw.is_initiator, HANDSHAKE_SECONDS)
                found = PeerId(secured.get_remote_peer().to_base58())
                public_key_of(found)
        except trio.TooSlowError:
            detail = f"no handshake within {HANDSHAKE_SECONDS} s"
            raise PeerUnavailable("SK-NET-003", detail) from None
        except (*BROKEN, ProtocolError) as error:
            detail = f"the handshake failed: {type(error).__name__} {str(error)[:200]}".rstrip()
            raise PeerUnavailable("SK-NET-003", detail) from error
        return found, secured
