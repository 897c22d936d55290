"""A real daemon whose connections, blobs and clock can be disturbed from outside, by a file.

    python -P tests/chaos/faulty_daemon.py WEATHER.json daemon --home=...

What is changed is the outermost layer that the daemon's own code has: the transport under its
calls, the chunks of the blobs that it gives away, and the time of day. The DHT of p2pd is not
disturbed: in a partition the sides still learn of each other's addresses, and cannot connect.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from skerry.node import daemon
from skerry.node.cli import main
from skerry.node.net.shaping import ShapedTransport
from skerry.node.run import servicer
from skerry.proto import peer_pb2 as pb
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId
from skerry.protocol.transport import STATE_PROTOCOL, ByteStream, StreamHandler, Transport

_LOOK_S = 0.05
"""Between two looks at the file."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What is wrong with one daemon; as JSON in its file."""

    unreachable: list[PeerId] = field(default_factory=list)
    """Peers to which and from which nothing gets through."""
    delay_s: float = 0.0
    """What is written waits for up to so long."""
    loss: float = 0.0
    """Share of the writes at which the stream breaks: under TCP nothing else can get lost."""
    bytes_per_s: float = 0.0
    """How fast what is written goes out; 0: as it can."""
    corrupt: float = 0.0
    """Share of the blobs given away of which a byte is altered."""
    state_wait_s: float = 0.0
    """How long it takes until others can first be asked for a state."""
    clock_s: float = 0.0
    """How much the clock is fast."""


class Sky:
    """The weather as the file says now."""

    def __init__(self, path: Path) -> None:
        self._path, self._looked_at, self._stamp = path, 0.0, -1
        self._now = Weather()

    @property
    def now(self) -> Weather:
        if time.monotonic() > self._looked_at + _LOOK_S:
            self._looked_at = time.monotonic()
            stamp = self._path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._stamp, self._now = stamp, Weather(**json.loads(self._path.read_text()))
        return self._now

    def check(self, peer: PeerId) -> None:
        """Raises: PeerUnavailable for a peer on the other side."""
        if peer in self.now.unreachable:
            raise PeerUnavailable("SK-NET-003", f"{peer} is on the other side")


class FaultyTransport(ShapedTransport):
    """Disturbs what goes through it."""

    sky: Sky

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)

    async def connect(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        self.sky.check(peer)
        await super().connect(peer, addresses)

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        if protocol == STATE_PROTOCOL:
            await asyncio.sleep(self.sky.now.state_wait_s)
        self.sky.check(peer)
        return _FaultyStream(await super().open_stream(peer, protocol), self.sky)

    async def handle(self, protocol: str, handler: StreamHandler) -> None:
        async def disturbed(stream: ByteStream) -> None:
            if stream.peer in self.sky.now.unreachable:
                await stream.close()
            else:
                await handler(_FaultyStream(stream, self.sky))

        await super().handle(protocol, disturbed)


class _FaultyStream:
    def __init__(self, stream: ByteStream, sky: Sky) -> None:
        self._stream, self._sky = stream, sky

    @property
    def peer(self) -> PeerId:
        return self._stream.peer

    async def read(self, max_bytes: int) -> bytes:
        data = await self._stream.read(max_bytes)
        self._sky.check(self.peer)
        return data

    async def write(self, data: bytes) -> None:
        weather = self._sky.now
        rate = weather.bytes_per_s
        wait_s = random.uniform(0.0, weather.delay_s) + (len(data) / rate if rate else 0.0)
        if wait_s:
            await asyncio.sleep(wait_s)
        self._sky.check(self.peer)
        if random.random() < weather.loss:
            await self._stream.close()
            raise PeerUnavailable("SK-NET-003", "the stream broke")
        await self._stream.write(data)

    async def close(self) -> None:
        await self._stream.close()


def disturb(sky: Sky) -> None:
    """Put the faults in their places."""
    FaultyTransport.sky = sky
    daemon.ShapedTransport = FaultyTransport  # type: ignore[misc]
    whole, clock = servicer.blob_chunks, time.time

    async def altered(*args: object) -> AsyncIterator[pb.BlobChunk]:
        spoilt = random.random() < sky.now.corrupt
        async for chunk in whole(*args):  # type: ignore[arg-type]
            if spoilt and chunk.data:
                data = bytes([chunk.data[0] ^ 1]) + chunk.data[1:]
                yield pb.BlobChunk(size=chunk.size, data=data)
            else:
                yield chunk

    servicer.blob_chunks = altered  # type: ignore[assignment]
    time.time = lambda: clock() + sky.now.clock_s


if __name__ == "__main__":
    disturb(Sky(Path(sys.argv.pop(1))))
    main.main()
