"""One long-lived stream to a neighbour: urgent frames first, bounded memory in both directions.

Three tasks share the stream. The reader takes in whatever comes, into lanes of bounded size; the
courier hands complete frames over, the most urgent first; the writer sends chunks and gives
credit back. So a slow taker stops the neighbour's data by withholding credit, while control still
passes, and an upload goes on while the next microbatch is computed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId, short
from skerry.protocol.rings.frames import Activation, Frame, Lane
from skerry.protocol.rings.lanes import STALLED, Arrived, Chunk, Inbox, LaneLimits, Outbox
from skerry.protocol.transport import ByteStream

_READ_BYTES = 2**16
_MOST_CONTROL = 256
"""Control frames that may wait to be taken before nothing more is read."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What one write to a neighbour's stream, or one read of it, has carried."""

    sent: int = 0
    """Bytes, the headers of chunks and frames included."""
    received: int = 0
    lane: Lane = Lane.CONTROL
    """Of what was sent; credit goes with control."""
    text_tokens: int = 0
    """Of the activation whose last byte was among it."""


Deliver = Callable[[Arrived], Awaitable[None]]
Sent = Callable[[Frame, float], Awaitable[None]]
Count = Callable[[PeerId, Carried], None]
"""Told of the neighbour at the other end, and of each write and read when it is done."""


class NeighbourLink:
    """Frames over one stream, until it ends."""

    def __init__(
        self,
        stream: ByteStream,
        limits: LaneLimits,
        deliver: Deliver,
        sent: Sent,
        stall_s: float,
        count: Count,
    ) -> None:
        """Use ``stream``; ``run`` makes it work.

        Frames go to ``deliver``, which may take its time; ``sent`` is told of activations and
        gradients whose last byte was written, and how many seconds after the first. ``stall_s``
        is how long the neighbour may take no byte of what waits for it; ``count`` is told of all
        that passes.
        """
        self._stream, self._deliver, self._sent, self._stall_s = stream, deliver, sent, stall_s
        self._limits, self._count = limits, count
        self._outbox, self._inbox = Outbox(limits), Inbox(limits)
        self._arrived: dict[Lane, deque[Arrived]] = {lane: deque() for lane in Lane}
        self._to_write, self._to_deliver = asyncio.Event(), asyncio.Event()
        self._taken = asyncio.Event()
        self._begun: dict[Lane, float] = {}
        self._blocked_since: float | None = None
        """Since when data waits for credit, none of it sent."""

    @property
    def peer(self) -> PeerId:
        """Who is at the other end."""
        return self._stream.peer

    @property
    def backlog(self) -> int:
        """How many frames wait to be sent."""
        return len(self._outbox)

    def send(self, frame: Frame, payload: bytes = b"") -> None:
        """Queue a frame. Raises: ProtocolError("stalled") if too many wait, or ("shape")."""
        self._outbox.put(frame, payload)
        self._to_write.set()

    async def run(self) -> None:
        """Work until the stream ends, then close it.

        Raises: ProtocolError for what the neighbour must not send, and ("stalled") if it takes
        nothing; PeerUnavailable.
        """
        work = (self._read(), self._courier(), self._write())
        tasks = [asyncio.create_task(part, name=f"ring link {short(self.peer)}") for part in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._outbox, self._inbox = Outbox(self._limits), Inbox(self._limits)
            self._arrived.clear()  # at once: who awaits this may keep it for long
            await self._stream.close()
        for task in done:
            task.result()

    async def _read(self) -> None:
        while data := await self._stream.read(_READ_BYTES):
            self._count(self.peer, Carried(received=len(data)))
            for arrived in self._inbox.feed(data):
                self._arrived[arrived.frame.lane].append(arrived)
                self._to_deliver.set()
            for lane, size in self._inbox.received_credit():
                self._outbox.take_credit(lane, size, asyncio.get_running_loop().time())
            self._to_write.set()
            while self._inbox.untaken(Lane.CONTROL) > _MOST_CONTROL:
                self._taken.clear()
                await self._taken.wait()

    async def _courier(self) -> None:
        while True:
            waiting = next((lane for lane in Lane if self._arrived[lane]), None)
            if waiting is None:
                self._to_deliver.clear()
                await self._to_deliver.wait()
                continue
            await self._deliver(self._arrived[waiting].popleft())
            self._inbox.taken(waiting)
            self._taken.set()
            self._to_write.set()

    async def _write(self) -> None:
        while True:
            for lane, size in self._inbox.due_credit():
                self._outbox.give_credit(lane, size)
            chunk = self._outbox.next_chunk(asyncio.get_running_loop().time())
            if chunk is None:
                self._to_write.clear()
                await self._wait_to_write()
                continue
            await self._write_chunk(chunk)

    async def _wait_to_write(self) -> None:
        """Wait for a frame or for credit. Raises: ProtocolError("stalled") if that never comes."""
        if not self._outbox.holds_data:
            self._blocked_since = None
            await self._to_write.wait()
            return
        if self._blocked_since is None:
            self._blocked_since = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(self._blocked_since + self._stall_s):
                await self._to_write.wait()
        except TimeoutError:
            raise self._stalled() from None

    def _stalled(self) -> ProtocolError:
        detail = f"{short(self.peer)} has taken nothing for {self._stall_s:.0f} s"
        return ProtocolError(STALLED, detail)

    async def _write_chunk(self, chunk: Chunk) -> None:
        clock = asyncio.get_running_loop().time
        if chunk.lane is not None and chunk.lane is not Lane.CONTROL:
            self._blocked_since = None
        if chunk.lane is not None:
            self._begun.setdefault(chunk.lane, clock())
        try:
            async with asyncio.timeout(self._stall_s):
                await self._stream.write(chunk.data)
        except TimeoutError:
            raise self._stalled() from None
        self._count(self.peer, _carried(chunk))
        frame = chunk.completes
        if frame is None:
            return
        seconds = clock() - self._begun.pop(frame.lane)
        if frame.lane is not Lane.CONTROL:
            await self._sent(frame, seconds)


def _carried(chunk: Chunk) -> Carried:
    body = chunk.completes.body if chunk.completes is not None else None
    return Carried(
        sent=len(chunk.data),
        lane=Lane.CONTROL if chunk.lane is None else chunk.lane,
        text_tokens=body.text_tokens if isinstance(body, Activation) else 0,
    )
