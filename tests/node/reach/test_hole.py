import asyncio
import socket
from ipaddress import ip_address

import pytest

from skerry.node.net.multiaddrs import Endpoint
from skerry.node.net.pump import close_writer
from skerry.node.net.tasks import OwnedTasks
from skerry.node.reach import hole

LOOPBACK = ip_address("127.0.0.1")
OURS, THEIRS = b"o" * 16, b"t" * 16


@pytest.fixture
async def tasks():
    owned = OwnedTasks()
    yield owned
    await owned.cancel()


@pytest.fixture
async def far_side():
    """Yield where a machine listens that says its nonce, its streams, and the port that we use."""
    came: asyncio.Queue[hole.Streams] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(THEIRS)
        await came.put((reader, writer))

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    with socket.socket() as ours:  # p2pd's port: bound beside it
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        ours.bind(("127.0.0.1", 0))
        yield Endpoint(LOOPBACK, server.sockets[0].getsockname()[1]), came, ours.getsockname()[1]
    server.close()
    for writer in writers:
        await close_writer(writer)


async def test_a_hole_comes_from_our_port_and_carries_both_ways(far_side, tasks) -> None:
    target, came, port = far_side
    streams = await hole.punch("127.0.0.1", port, target, OURS, THEIRS)
    assert streams is not None
    reader, writer = await came.get()
    assert writer.get_extra_info("peername") == ("127.0.0.1", port)
    assert await reader.readexactly(16) == OURS

    door = await hole.open_door(streams, tasks)
    near = await asyncio.open_connection("127.0.0.1", int(door.rpartition("/")[2]))
    near[1].write(b"there")
    assert await reader.readexactly(5) == b"there"
    writer.write(b"back")
    writer.close()
    assert await near[0].read() == b"back"
    near[1].close()
    await near[1].wait_closed()


async def test_who_knows_another_nonce_is_somebody_else(far_side, monkeypatch) -> None:
    monkeypatch.setattr(hole, "OPEN_SECONDS", 0.3)
    target, _, port = far_side
    assert await hole.punch("127.0.0.1", port, target, OURS, b"x" * 16) is None


async def test_where_nobody_answers_there_is_no_hole(monkeypatch) -> None:
    monkeypatch.setattr(hole, "OPEN_SECONDS", 0.3)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        nobody = Endpoint(LOOPBACK, bound.getsockname()[1])
        assert await hole.punch("127.0.0.1", 0, nobody, OURS, THEIRS) is None
        assert not await hole.answers(nobody, 5.0)


async def test_a_door_that_nobody_enters_closes_the_hole(far_side, tasks, monkeypatch) -> None:
    monkeypatch.setattr(hole, "_DOOR_SECONDS", 0.0)
    target, came, port = far_side
    streams = await hole.punch("127.0.0.1", port, target, OURS, THEIRS)
    assert streams is not None
    await hole.open_door(streams, tasks)
    reader, _ = await came.get()
    assert await reader.read() == OURS  # and then the end


async def test_a_hole_into_a_port_where_nobody_listens_is_closed(far_side) -> None:
    target, came, port = far_side
    streams = await hole.punch("127.0.0.1", port, target, OURS, THEIRS)
    assert streams is not None
    await hole.into(streams, "127.0.0.1", port)
    reader, _ = await came.get()
    assert await reader.read() == OURS
