"""Over real sockets: a port that is dialled from the port of a listener."""

import asyncio
import socket
from ipaddress import ip_address

import pytest

from skerry.node.net.multiaddrs import Endpoint
from skerry.node.net.tasks import OwnedTasks
from skerry.node.reach import mirror
from skerry.node.reach.mirror import open_mirror, seen_in

HOST = "127.0.0.1"


@pytest.fixture
async def tasks():
    owned = OwnedTasks()
    yield owned
    await owned.cancel()


@pytest.fixture
def listening():
    """Yield the port of a listener that shares it, as p2pd does."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def at(port: int) -> Endpoint:
    return Endpoint(ip_address(HOST), port)


async def until_closed(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return
        writer.transport.abort()


async def test_a_mirror_tells_its_visitor_where_it_comes_from_and_closes(tasks, listening) -> None:
    port = await open_mirror(HOST, tasks)
    assert await seen_in(at(port), HOST, listening) == at(listening)
    await until_closed(port)
    assert await seen_in(at(port), HOST, listening) is None


async def test_a_mirror_closes_when_nobody_comes(tasks, monkeypatch) -> None:
    monkeypatch.setattr(mirror, "OPEN_SECONDS", 0.0)
    await until_closed(await open_mirror(HOST, tasks))


@pytest.mark.parametrize("said", [b"", b"\n", b"/ip4/1.2.3.4/udp/1\n", b"x" * 1000])
async def test_what_is_no_mirror_shows_nothing(listening, said) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(say, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await seen_in(at(port), HOST, listening) is None
