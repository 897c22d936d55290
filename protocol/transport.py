"""The transport interface: byte streams between authenticated peers, and nothing else.

gRPC runs inside the streams (node/net/rpc.py), so deadlines, message limits and flow control
of calls are not a transport's business. Implementations: node/net/p2pd.py (hivemind's p2pd),
node/net/pylibp2p/transport.py (py-libp2p) and protocol/memory.py (virtual network for tests and
simulations).
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from skerry.protocol.ids import PeerId

CONTROL_PROTOCOL = "/skerry/control/1"
BULK_PROTOCOL = "/skerry/bulk/1"
SHADOW_PROTOCOL = "/skerry/shadow/1"
"""Stale copies of stages, on their way to who keeps them."""
STATE_PROTOCOL = "/skerry/state/1"
"""Parameters for who joins or heals: apart from payloads, so that these go first."""


class ByteStream(Protocol):
    """A reliable, ordered, encrypted stream to one peer."""

    @property
    def peer(self) -> PeerId:
        """Who is at the other end, proven by the transport's handshake."""

    async def read(self, max_bytes: int) -> bytes:
        """Return 1 to ``max_bytes`` bytes, or b"" when the other side has finished.

        A stream that was cut may also end with b"": lengths must be announced and checked.
        Raises: PeerUnavailable when the transport knows that the stream was reset.
        """

    async def write(self, data: bytes) -> None:
        """Send ``data``; returns when the transport can take more (back-pressure).

        Raises: PeerUnavailable when the stream is closed or reset.
        """

    async def close(self) -> None:
        """Close both directions; never raises."""


StreamHandler = Callable[[ByteStream], Awaitable[None]]


class Transport(Protocol):
    """A node's endpoint in the network."""

    @property
    def peer_id(self) -> PeerId:
        """This node's id."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs under which others may dial this node, without the ``/p2p`` part."""

    async def connect(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Make sure there is a connection to ``peer``; ``addresses`` are hints.

        Raises: PeerUnavailable.
        """

    async def disconnect(self, peer: PeerId) -> None:
        """End all connections to ``peer``, and with them all streams; it may dial again.

        Never raises; does nothing if there is no connection.
        """

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        """Open a stream to a connected peer. Raises: PeerUnavailable."""

    async def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Call ``handler`` for every stream that others open under ``protocol``.

        The stream is closed when the handler returns.
        """

    async def close(self) -> None:
        """Close all streams and stop; never raises."""
