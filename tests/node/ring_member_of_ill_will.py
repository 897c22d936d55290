"""A member of a ring that keeps to the streams' format and to nothing else.

It takes part with real bytes at the transport of its place: streams to all other members, frames in
and out. What it does upon a frame is the test's.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from skerry.node.ring.mesh import GREETING
from skerry.node.ring.settings import mesh_settings
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import Manifest
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.codec import encode_frame
from skerry.protocol.rings.lanes import CHUNK_BYTES, Arrived, Inbox
from skerry.protocol.transport import ByteStream, Transport

Answer = tuple[PeerId, bytes]
"""To whom, and the bytes of chunks."""
Behaviour = Callable[[PeerId, Arrived], Iterator[Answer]]


def chunks_of(frame: fr.Frame, payload: bytes = b"", claimed: int | None = None) -> bytes:
    """Return a frame as a member sends it, of whatever size; it may claim another one."""
    head = encode_frame(frame, len(payload) if claimed is None else claimed)
    data = len(head).to_bytes(4, "big") + head + payload
    parts = (data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES))
    return b"".join(bytes([frame.lane]) + len(part).to_bytes(4, "big") + part for part in parts)


def credit(lane: fr.Lane, size: int) -> bytes:
    return bytes([16 + lane]) + size.to_bytes(4, "big")


def grant(source: PeerId, arrived: Arrived) -> Iterator[Answer]:
    """Give a slot to whoever asks, and confirm every step."""
    match arrived.frame.body:
        case fr.Reserve():
            yield source, chunks_of(replace(arrived.frame, body=fr.Grant()))
        case fr.StepEnd():
            yield source, chunks_of(replace(arrived.frame, body=fr.Stepped((), "")))


@dataclass
class HostileMember:
    """Sits at a member's transport."""

    transport: Transport
    manifest: Manifest
    others: dict[PeerId, tuple[str, ...]]
    """And their addresses."""
    behaviour: Behaviour = grant
    gives_credit: bool = True
    reads: bool = True
    streams: dict[PeerId, ByteStream] = field(default_factory=dict)
    opened: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Accept streams, and open them again for as long as it takes."""
        await self.transport.handle(fr.RING_PROTOCOL, self._serve)
        for peer, addresses in self.others.items():
            if self.transport.peer_id < peer:
                self._tasks.add(asyncio.create_task(self._keep(peer, addresses)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _keep(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        while True:
            with suppress(PeerUnavailable):
                await self.transport.connect(peer, addresses)
                await self._serve(await self.transport.open_stream(peer, fr.RING_PROTOCOL))
            await asyncio.sleep(0.1)

    async def _serve(self, stream: ByteStream) -> None:
        self.streams[stream.peer] = stream
        self.opened += 1
        with suppress(PeerUnavailable):
            await stream.write(GREETING)
            await stream.read(len(GREETING))
        if not self.reads:
            await asyncio.Event().wait()
        inbox = Inbox(mesh_settings(self.manifest).limits)
        with suppress(PeerUnavailable, ProtocolError):
            while data := await stream.read(2**16):
                for arrived in inbox.feed(data):
                    inbox.taken(arrived.frame.lane)
                    for peer, answer in self.behaviour(stream.peer, arrived):
                        await self.send(peer, answer)
                for lane, size in inbox.due_credit() if self.gives_credit else ():
                    await stream.write(credit(lane, size))
        await stream.close()

    async def send(self, peer: PeerId, data: bytes) -> None:
        """Send bytes; without a stream they are lost."""
        with suppress(PeerUnavailable, KeyError):
            await self.streams[peer].write(data)
