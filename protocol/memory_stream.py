"""One end of a stream in memory: buffer, back-pressure and how it may end.

Knows no time and no network: what it sends it hands to the network (memory.py), which calls
``receive`` of the other end when the item has arrived.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId, short


@dataclass(frozen=True, slots=True)
class Limits:
    """What every endpoint of a virtual network does."""

    window_bytes: int = 256 * 1024
    """A writer waits while this much of its stream is unread at the other end."""
    segment_bytes: int = 16 * 1024
    connect_s: float = 10.0
    """Patience of connect and open_stream."""
    stall_s: float = 15.0
    """How long a stream across a partition stalls before it is reset."""


class Mark(Enum):
    """What travels in a stream besides its bytes."""

    OPEN = "open"
    ACCEPT = "accept"
    END = "end"
    RESET = "reset"


class Lane:
    """One direction of a stream: what is on its way to an end, in order."""

    def __init__(self) -> None:
        """Start empty."""
        self.items: deque[bytes | Mark] = deque()
        self.busy_until = 0.0
        """When the last item arrives, in seconds of the loop."""
        self.overdue = 0
        """Items whose time came during a partition."""
        self.unread = 0
        """Bytes on the way and in the receiver's buffer."""
        self.cut = False
        """Whether an item was lost for good, so that nothing more may arrive."""


class MemoryStream:
    """One end of a stream; a ByteStream. Made in pairs by ``stream_pair``."""

    other: "MemoryStream"

    def __init__(
        self,
        serial: int,
        owner: PeerId,
        limits: Limits,
        transmit: Callable[["MemoryStream", bytes | Mark], None],
    ) -> None:
        """Belong to ``owner``; ``transmit(end, item)`` lets an item travel to the other end."""
        self.serial, self.owner = serial, owner
        self.inbound = Lane()
        self._limits, self._transmit = limits, transmit
        self._buffer = bytearray()
        self._accepted = self._ended = self._refused = False
        self._why: str | None = None
        self._changed = asyncio.Event()

    @property
    def peer(self) -> PeerId:
        """Who is at the other end."""
        return self.other.owner

    @property
    def over(self) -> bool:
        """Whether this end was closed or reset."""
        return self._why is not None

    async def accepted(self) -> None:
        """Wait until the other side serves this stream. Raises: PeerUnavailable."""
        while not self._accepted:
            await self._change()

    async def read(self, max_bytes: int) -> bytes:
        """Return 1 to ``max_bytes`` bytes, or b"" at the end. Raises: PeerUnavailable."""
        self._check_open()
        while not self._buffer and not self._ended:
            await self._change()
        data = bytes(self._buffer[:max_bytes])
        del self._buffer[: len(data)]
        self.inbound.unread -= len(data)
        self.other._changed.set()
        return data

    async def write(self, data: bytes) -> None:
        """Send ``data``; waits while the window is full. Raises: PeerUnavailable."""
        self._check_writable()
        for start in range(0, len(data), self._limits.segment_bytes):
            segment = bytes(data[start : start + self._limits.segment_bytes])
            while self.other.inbound.unread + len(segment) > self._limits.window_bytes:
                await self._change()
                self._check_writable()
            self.other.inbound.unread += len(segment)
            self.send(segment)

    async def close(self) -> None:
        """Close both directions; what was written still arrives."""
        if not self.over:
            self.send(Mark.END)
            if self._buffer:  # a writer that waits for room would wait for ever
                self.send(Mark.RESET)
            self.reset("it was closed here")

    def send(self, item: bytes | Mark) -> None:
        """Hand one item to the network."""
        self._transmit(self, item)

    def receive(self, item: bytes | Mark) -> None:
        """Take what has arrived.

        Bytes for an end that was closed are dropped and answered by a reset, so that a writer
        learns of a close a round trip after its next write and not before, as on real streams;
        what the closed end had written before can still be read.
        """
        if item is Mark.RESET and self._ended:
            self._refused = True
        elif item is Mark.RESET:
            self.reset("it was reset by the other side")
        elif item is Mark.ACCEPT:
            self._accepted = True
        elif item is Mark.END:
            self._ended = True
        elif isinstance(item, bytes) and not self.over:
            self._buffer += item
        elif isinstance(item, bytes):
            self.send(Mark.RESET)
        self._changed.set()

    def reset(self, why: str) -> None:
        """End at once, with unread bytes lost; ``why`` is what later calls are told."""
        if not self.over:
            self._why = why
            self._buffer.clear()
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
        self._check_open()

    def _check_open(self) -> None:
        if self._why is not None:
            detail = f"stream {self.serial} with {short(self.peer)}: {self._why}"
            raise PeerUnavailable("SK-NET-003", detail)

    def _check_writable(self) -> None:
        self._check_open()
        if self._refused:
            detail = f"stream {self.serial}: {short(self.peer)} has closed it"
            raise PeerUnavailable("SK-NET-003", detail)


def stream_pair(
    serial: int,
    owners: tuple[PeerId, PeerId],
    limits: Limits,
    transmit: Callable[[MemoryStream, bytes | Mark], None],
) -> tuple[MemoryStream, MemoryStream]:
    """Return both ends of a new stream."""
    near, far = (MemoryStream(serial, owner, limits, transmit) for owner in owners)
    near.other, far.other = far, near
    return near, far
