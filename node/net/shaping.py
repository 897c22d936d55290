"""A transport whose streams keep to the node's limits, the most urgent traffic first.

What a stream is for follows from its protocol (DESIGN 12), so nothing above needs to know of
limits: a write returns when its bytes may go, which is the back-pressure that every transport has
anyway. What arrives is handed on no faster than allowed, so the sender slows down. Not counted:
the DHT and what libp2p itself sends.
"""

import asyncio
import math
from datetime import time as TimeOfDay

from skerry.node.config import BandwidthSection
from skerry.protocol.bandwidth import Bucket, Priority
from skerry.protocol.ids import PeerId
from skerry.protocol.rings.frames import RING_PROTOCOL
from skerry.protocol.transport import (
    BULK_PROTOCOL,
    CONTROL_PROTOCOL,
    SHADOW_PROTOCOL,
    STATE_PROTOCOL,
    ByteStream,
    StreamHandler,
    Transport,
)

PRIORITIES = {
    CONTROL_PROTOCOL: Priority.CONTROL,
    RING_PROTOCOL: Priority.GRADIENT,
    BULK_PROTOCOL: Priority.PSEUDO_GRADIENT,
    SHADOW_PROTOCOL: Priority.SHADOW,
    STATE_PROTOCOL: Priority.STATE,
}
PIECE_BYTES = 16 * 1024
"""What is asked for at once: no urgent piece waits for more than one other."""


def rates_at(limits: BandwidthSection, now: TimeOfDay) -> tuple[float, float]:
    """Return the upload and download rates of a time of day, bytes per second."""
    quiet = limits.is_quiet(now)
    upload = limits.quiet_upload if quiet else limits.max_upload
    download = limits.quiet_download if quiet else limits.max_download
    return upload or math.inf, download or math.inf


class Throttle:
    """One direction: lets callers wait for their turn in a bucket."""

    def __init__(self) -> None:
        """Start without a limit."""
        self._bucket = Bucket()
        self._turns: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.passed = 0
        """Bytes that have gone through."""

    @property
    def bytes_per_s(self) -> float:
        """The limit in force."""
        return self._bucket.bytes_per_s

    def set_rate(self, bytes_per_s: float) -> None:
        """Change the limit, also for those who wait."""
        if bytes_per_s != self._bucket.bytes_per_s:
            self._bucket.set_rate(bytes_per_s, _now())
            self._go()

    async def take(self, priority: Priority, num_bytes: int) -> None:
        """Return when ``num_bytes`` may go."""
        number = self._bucket.ask(priority, num_bytes, _now())
        if number is None:
            return
        turn = self._turns[number] = asyncio.get_running_loop().create_future()
        self._arm()
        try:
            await turn
        finally:
            self._bucket.forget(number)
            self._turns.pop(number, None)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = self._bucket.next_at(_now())
        loop = asyncio.get_running_loop()
        self._timer = None if at is None else loop.call_at(at, self._go)

    def _go(self) -> None:
        for number in self._bucket.granted(_now()):
            turn = self._turns.pop(number)
            if not turn.done():  # cancelled, and not yet gone
                turn.set_result(None)
        self._arm()


class ShapedTransport:
    """A Transport that passes everything on to another, at the pace that is set."""

    def __init__(self, inner: Transport) -> None:
        """Start without limits."""
        self._inner = inner
        self.up, self.down = Throttle(), Throttle()

    def set_rates(self, limits: BandwidthSection, now: TimeOfDay) -> None:
        """Take over the settings as they are at a time of day."""
        upload, download = rates_at(limits, now)
        self.up.set_rate(upload)
        self.down.set_rate(download)

    @property
    def peer_id(self) -> PeerId:
        """This node's id."""
        return self._inner.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs under which others may dial this node."""
        return self._inner.addresses

    async def connect(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Make sure there is a connection to ``peer``. Raises: PeerUnavailable."""
        await self._inner.connect(peer, addresses)

    async def disconnect(self, peer: PeerId) -> None:
        """End all connections to ``peer``; never raises."""
        await self._inner.disconnect(peer)

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        """Open a stream to a connected peer. Raises: PeerUnavailable."""
        return self._shaped(await self._inner.open_stream(peer, protocol), protocol)

    async def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Call ``handler`` for every stream that others open under ``protocol``."""

        async def shaped(stream: ByteStream) -> None:
            await handler(self._shaped(stream, protocol))

        await self._inner.handle(protocol, shaped)

    async def close(self) -> None:
        """Close the transport below; never raises."""
        await self._inner.close()

    def _shaped(self, stream: ByteStream, protocol: str) -> "_ShapedStream":
        priority = PRIORITIES.get(protocol, Priority.STATE)
        return _ShapedStream(stream, priority, self.up, self.down)


class _ShapedStream:
    """A stream that waits for its turn."""

    def __init__(
        self, stream: ByteStream, priority: Priority, up: Throttle, down: Throttle
    ) -> None:
        self._stream, self._priority, self._up, self._down = stream, priority, up, down

    @property
    def peer(self) -> PeerId:
        return self._stream.peer

    async def read(self, max_bytes: int) -> bytes:
        data = await self._stream.read(max_bytes)
        await self._down.take(self._priority, len(data))
        return data

    async def write(self, data: bytes) -> None:
        self._up.passed += len(data)
        if math.isinf(self._up.bytes_per_s):
            await self._stream.write(data)
            return
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            await self._up.take(self._priority, len(piece))
            await self._stream.write(piece)

    async def close(self) -> None:
        await self._stream.close()


def _now() -> float:
    return asyncio.get_running_loop().time()
