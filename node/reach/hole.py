"""A TCP connection through two NATs, and its use by p2pd at both ends.

Both sides dial each other's outer endpoint at the same time, from the port on which their p2pd
listens (a socket beside p2pd's, by SO_REUSEPORT), because that is the port whose outer one is
known. Each one's SYN lets the other's through (RFC 5382, 4.3: simultaneous open). Go's own hole
punching works so, too, but only once four public peers have reported our address: too many for a
small swarm.

The connection is then joined to p2pd: at one end a local port that p2pd dials, at the other p2pd's
own port. What travels is p2pd's encrypted and authenticated stream from end to end, so whoever
else answered would fail at that.
"""

import asyncio
import contextlib
import errno
import logging
import socket

from skerry.node.net.multiaddrs import Endpoint
from skerry.node.net.pump import CHUNK_BYTES, close_writer
from skerry.node.net.tasks import OwnedTasks

_LOG = logging.getLogger(__name__)
OPEN_SECONDS = 6.0
"""Long enough for the kernel to send a lost SYN again after 1 s and after 3 s."""
_AGAIN_SECONDS = 0.1
_DOOR_SECONDS = 10.0
_GREETING = b"\x13/multistream/1.0.0\n"
"""What whoever accepts a libp2p connection says first (multistream-select 1.0)."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def punch(host: str, port: int, target: Endpoint, say: bytes, hear: bytes) -> Streams | None:
    """Dial ``target`` from our own ``port`` while it dials us.

    Args:
        host: the address that p2pd listens on.
        say: the nonce that we send first.
        hear: the nonce that must come first; whoever says anything else is somebody else.
    Returns: the connection, None if there is none.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + OPEN_SECONDS
    while (left := deadline - loop.time()) > 0:
        with contextlib.ExitStack() as undo:
            dialling = socket_beside(host, port, target)
            undo.callback(dialling.close)
            try:
                async with asyncio.timeout(left):
                    await loop.sock_connect(dialling, (str(target.ip), target.port))
                    await loop.sock_sendall(dialling, say)
                    if await _hears(dialling, hear):
                        undo.pop_all()
                        return await asyncio.open_connection(sock=dialling, limit=CHUNK_BYTES)
            except OSError as error:  # TimeoutError is one
                _LOG.debug("no hole to %s yet: %s", target, error)
        # A router that refuses what it did not expect: the next SYN may meet an open hole.
        await asyncio.sleep(_AGAIN_SECONDS)
    return None


async def answers(target: Endpoint, patience_s: float) -> bool:
    """Say whether libp2p answers where ``target`` is."""
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection(str(target.ip), target.port)
            try:
                return await reader.readexactly(len(_GREETING)) == _GREETING
            finally:
                writer.transport.abort()
    except (OSError, EOFError):
        return False


async def open_door(hole: Streams, tasks: OwnedTasks) -> str:
    """Return the multiaddr under which the first local connection becomes the hole's.

    The door closes with that connection, or when nobody has come in time.
    """
    came: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()

    def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if came.done():
            writer.transport.abort()
        else:
            came.set_result((reader, writer))

    server = await asyncio.start_server(enter, "127.0.0.1", 0, limit=CHUNK_BYTES)
    tasks.start(_guard(server, came, hole), "door of a hole")
    return f"/ip4/127.0.0.1/tcp/{server.sockets[0].getsockname()[1]}"


async def _guard(server: asyncio.Server, came: asyncio.Future[Streams], hole: Streams) -> None:
    try:
        async with asyncio.timeout(_DOOR_SECONDS):
            local = await came
    except TimeoutError:
        await close_writer(hole[1])
        return
    finally:
        server.close()
    await splice(hole, local)


async def into(hole: Streams, host: str, port: int) -> None:
    """Join a hole to the p2pd that listens on ``port``; returns when either has ended."""
    try:
        local = await asyncio.open_connection(host, port, limit=CHUNK_BYTES)
    except OSError as error:
        _LOG.info("p2pd does not take what came through a hole: %s", error)
        await close_writer(hole[1])
        return
    await splice(hole, local)


async def splice(one: Streams, other: Streams) -> None:
    """Copy both ways in bounded memory until either side ends, then close both."""
    tasks = [
        asyncio.create_task(_copy(one[0], other[1]), name="hole in"),
        asyncio.create_task(_copy(other[0], one[1]), name="hole out"),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(close_writer(one[1]), close_writer(other[1]))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # RuntimeError is what uvloop raises for a socket that was closed meanwhile.
    with contextlib.suppress(OSError, RuntimeError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()


def socket_beside(host: str, port: int, target: Endpoint) -> socket.socket:
    """Return a socket beside the one on which p2pd listens. Raises: OSError."""
    family = socket.AF_INET if target.ip.version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


async def _hears(dialled: socket.socket, nonce: bytes) -> bool:
    loop, heard = asyncio.get_running_loop(), b""
    while len(heard) < len(nonce):
        data = await loop.sock_recv(dialled, len(nonce) - len(heard))
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "ended before its nonce")
        heard += data
    return heard == nonce
