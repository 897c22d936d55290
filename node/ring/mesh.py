"""The streams of one ring: one to every other member, opened again for as long as it takes.

Of two members the one with the lower peer id opens the stream; the other accepts it. A new stream
of a neighbour takes the place of the old one. Each side greets first: where a process stands still,
its transport goes on taking streams, and such a member is not there. What a neighbour must not send
ends its stream, with a name; it may open another.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from skerry.node.net.tasks import OwnedTasks
from skerry.node.ring.link import Carried, Count, NeighbourLink
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId, short
from skerry.protocol.rings.events import Event, FrameReceived, FrameSent, PeerDown, PeerUp
from skerry.protocol.rings.frames import RING_PROTOCOL, Frame
from skerry.protocol.rings.lanes import STALLED, Arrived, LaneLimits
from skerry.protocol.transport import ByteStream, Transport

_LOG = logging.getLogger(__name__)
GREETING = b"\x01"


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """How a peer keeps its streams."""

    limits: LaneLimits
    retry_first_s: float = 0.2
    """Before a stream is opened again; doubled after each failure."""
    retry_most_s: float = 1.0
    stall_s: float = 30.0
    """How long a neighbour may take no byte before its stream is given up."""


Put = Callable[[Event], Coroutine[Any, Any, None]]
Refused = Callable[[PeerId, str, bool], None]
"""Told of a peer, why something of it was refused, and whether no honest one does that."""
Addresses = Callable[[PeerId], tuple[str, ...]]


class RingMesh:
    """The streams of this node to the other members of its ring."""

    def __init__(
        self,
        transport: Transport,
        members: tuple[PeerId, ...],
        settings: MeshSettings,
        put: Put,
        count: Count,
    ) -> None:
        """Join ``members``; what happens goes to ``put``, which may take its time.

        ``count`` is told of all bytes that the streams carry.
        """
        self._transport, self._settings = transport, settings
        self._put, self._count = put, count
        self._others = frozenset(members) - {transport.peer_id}
        self._links: dict[PeerId, NeighbourLink] = {}
        self._running: dict[PeerId, asyncio.Task[None]] = {}
        self._tasks = OwnedTasks()
        self._refused: Refused = lambda peer, reason, fault: None
        self._closed = False

    async def start(self, addresses: Addresses, refused: Refused) -> None:
        """Accept streams, and open those that are this node's to open.

        ``addresses`` says where a member may be dialled; ``refused`` is told why a stream ended.
        """
        self._refused = refused
        await self._transport.handle(RING_PROTOCOL, self._accept)
        for peer in sorted(self._others):
            if self._transport.peer_id < peer:
                self._tasks.start(self._keep(peer, addresses), f"ring stream to {short(peer)}")

    async def close(self) -> None:
        """End all streams; never raises."""
        self._closed = True
        for task in self._running.values():
            task.cancel()
        await self._tasks.cancel()
        if self._running:
            await asyncio.wait(self._running.values())

    def send(self, peer: PeerId, frame: Frame, payload: bytes) -> None:
        """Queue a frame; without a stream to ``peer`` it is dropped."""
        link = self._links.get(peer)
        if link is None:
            return
        try:
            link.send(frame, payload)
        except ProtocolError as error:
            self._refused(peer, error.reason, False)
            self.drop(peer)

    def drop(self, peer: PeerId) -> None:
        """End the stream of a peer that is known to be gone; it may come back."""
        task = self._running.get(peer)
        if task is not None:
            task.cancel()

    async def _keep(self, peer: PeerId, addresses: Addresses) -> None:
        wait_s = self._settings.retry_first_s
        while True:
            try:
                await self._transport.connect(peer, addresses(peer))
                stream = await self._transport.open_stream(peer, RING_PROTOCOL)
            except PeerUnavailable as error:
                _LOG.debug("ring stream to %s: %s", short(peer), error)
            else:
                wait_s = self._settings.retry_first_s
                await self._serve(stream)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, self._settings.retry_most_s)

    async def _accept(self, stream: ByteStream) -> None:
        dials = self._transport.peer_id < stream.peer
        if self._closed or stream.peer not in self._others or dials:
            self._refused(stream.peer, "not-expected", False)
            return
        await self._serve(stream)

    async def _serve(self, stream: ByteStream) -> None:
        """Run one stream to its end, after that of the same peer before it has ended."""
        peer = stream.peer
        task = asyncio.create_task(self._run(stream, self._running.get(peer)), name="ring stream")
        self._running[peer] = task
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            await asyncio.wait({task})
            if self._running.get(peer) is task:
                del self._running[peer]

    async def _run(self, stream: ByteStream, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            before.cancel()
            await asyncio.wait({before})
        peer, settings = stream.peer, self._settings

        async def deliver(arrived: Arrived) -> None:
            await self._put(FrameReceived(peer, arrived.frame, arrived.payload))

        async def sent(frame: Frame, seconds: float) -> None:
            await self._put(FrameSent(frame, seconds))

        link = NeighbourLink(stream, settings.limits, deliver, sent, settings.stall_s, self._count)
        try:
            await _greet(stream)
            self._count(peer, Carried(sent=len(GREETING), received=len(GREETING)))
            self._links[peer] = link
            await self._put(PeerUp(peer))
            await link.run()
        except ProtocolError as error:
            self._refused(peer, error.reason, error.reason != STALLED)
        except PeerUnavailable as error:
            _LOG.debug("ring stream of %s ended: %s", short(peer), error)
        finally:
            there = self._links.pop(peer, None) is not None
            await stream.close()
            if there and not self._closed:  # a task of its own: the next stream may cancel this one
                self._tasks.start(self._put(PeerDown(peer)), f"news of {short(peer)}")


async def _greet(stream: ByteStream) -> None:
    """Exchange a first byte with the process at the other end, however long that takes.

    Raises: ProtocolError("greeting"), PeerUnavailable.
    """
    await stream.write(GREETING)
    said = await stream.read(len(GREETING))
    if not said:
        raise PeerUnavailable("SK-NET-003", f"{stream.peer} has ended the stream")
    if said != GREETING:
        raise ProtocolError("greeting", f"a stream of the ring begins with {said!r}")
