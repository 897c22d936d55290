"""The pump between a stream and a socket: bytes, counts, ends and back-pressure."""

import asyncio
import socket
from dataclasses import dataclass

import pytest

from skerry.node.net.p2pd_client import P2pdStream
from skerry.node.net.pump import CHUNK_BYTES, Traffic, close_writer, pump
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId

PEER = PeerId("12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5")


@dataclass
class Ends:
    """Both far ends of a pump under test."""

    far: P2pdStream
    local_reader: asyncio.StreamReader
    local_writer: asyncio.StreamWriter
    near: P2pdStream
    pumping: asyncio.Task
    traffic: Traffic
    total: Traffic


async def connected():
    return [
        await asyncio.open_unix_connection(sock=half, limit=CHUNK_BYTES)
        for half in socket.socketpair()
    ]


def stream(connection) -> P2pdStream:
    return P2pdStream(PEER, *connection, lambda closed: None)


@pytest.fixture
async def ends():
    (near, far), (inside, local) = await connected(), await connected()
    traffic, total, near_stream = Traffic(), Traffic(), stream(near)
    pumping = asyncio.create_task(pump(near_stream, *inside, traffic, total))
    yield Ends(stream(far), *local, near_stream, pumping, traffic, total)
    pumping.cancel()
    await asyncio.wait([pumping])
    for writer in (far[1], local[1], near[1], inside[1]):
        writer.transport.abort()
    await asyncio.sleep(0)


async def collect(read, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (part := await read(CHUNK_BYTES)):
        data += part
    return bytes(data)


async def test_bytes_pass_both_ways_at_once_and_are_counted(ends):
    up, down = bytes(range(256)) * 4000, b"down" * 300_000
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(collect(ends.far.read, len(up)))
        received = group.create_task(collect(ends.local_reader.read, len(down)))
        group.create_task(ends.far.write(down))
        ends.local_writer.write(up)
        await ends.local_writer.drain()
    assert (sent.result(), received.result()) == (up, down)
    assert ends.traffic == ends.total == Traffic(sent=len(up), received=len(down))


async def test_end_of_the_peer_is_passed_on_after_its_data(ends):
    await ends.far.write(b"last words")
    await ends.far.close()
    assert await ends.local_reader.read() == b"last words"
    ends.local_writer.close()
    assert await ends.pumping, "it was the peer that ended"


async def test_local_end_closes_the_stream_after_its_data(ends):
    ends.local_writer.write(b"last words")
    ends.local_writer.write_eof()
    assert await collect(ends.far.read, 2**20) == b"last words"
    assert not await ends.pumping, "it was this side that ended"
    assert await ends.local_reader.read() == b""


async def test_reset_stream_ends_the_local_connection(ends):
    ends.near.reset()
    assert await ends.local_reader.read() == b""
    ends.local_writer.close()
    assert await ends.pumping


async def test_local_side_that_ignores_the_end_is_cut(ends, monkeypatch):
    monkeypatch.setattr("skerry.node.net.pump._LINGER_SECONDS", 0.05)
    await ends.far.close()
    await ends.pumping
    assert await ends.local_reader.read() == b""


async def test_cancelling_closes_both_sides(ends):
    ends.pumping.cancel()
    assert await ends.local_reader.read() == b""
    assert await ends.far.read(1) == b""
    with pytest.raises(asyncio.CancelledError):
        await ends.pumping


async def test_reader_that_does_not_read_stops_the_sender(ends):
    written = 0

    async def flood():
        nonlocal written
        for _ in range(64):
            await ends.far.write(bytes(2**20))
            written += 1

    flooding = asyncio.create_task(flood())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):  # in which an unbounded pump would take all 64 MiB
            await asyncio.shield(flooding)
    assert written <= 2
    assert ends.traffic.received <= 2**20
    assert len(await collect(ends.local_reader.read, 64 * 2**20)) == 64 * 2**20
    await flooding
    assert written == 64


async def test_an_unexpected_error_is_not_swallowed():
    (near, far), (inside, local) = await connected(), await connected()

    class Broken(P2pdStream):
        async def read(self, max_bytes: int) -> bytes:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await pump(Broken(PEER, *near, lambda closed: None), *inside)
    for _, writer in (far, local):
        await close_writer(writer)


async def test_writing_to_a_closed_stream_is_peer_unavailable(ends):
    await ends.far.close()
    with pytest.raises(PeerUnavailable):
        await ends.far.write(b"x")
