"""What is measured: the node's transports, and a plain socket of asyncio beside them.

Each stack runs in processes of its own, and imports only its own library.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.protocol.ids import PeerId
from skerry.protocol.transport import ByteStream, StreamHandler, Transport

STACKS = ("socket", "p2pd", "py-libp2p")
PROTOCOL = "/skerry/bench/1"
_CHUNK = 2**16


class Stack(Protocol):
    """One end."""

    async def serve(self, handler: StreamHandler) -> str:
        """Hand every stream to ``handler``; returns where ``dial`` finds this end."""

    async def dial(self, where: str) -> Callable[[], Awaitable[ByteStream]]:
        """Connect; returns what opens streams."""

    async def close(self) -> None:
        """End everything."""


async def start(name: str, host: str, folder: Path) -> Stack:
    """Start one end of a stack on an IP address."""
    key = Ed25519PrivateKey.generate()
    if name == "p2pd":
        from skerry.node.net.p2pd import P2pdOptions, P2pdTransport

        return Libp2p(
            await P2pdTransport.create(P2pdOptions(host=host, run_dir=folder, nat=False), key)
        )
    if name == "py-libp2p":
        from skerry.node.net.pylibp2p.host import HostOptions
        from skerry.node.net.pylibp2p.transport import PyLibp2pTransport

        return Libp2p(await PyLibp2pTransport.create(HostOptions(host), key))
    return Sockets(host)


class Libp2p:
    """One of the node's transports."""

    def __init__(self, transport: Transport) -> None:
        """Measure ``transport``."""
        self._transport = transport

    async def serve(self, handler: StreamHandler) -> str:
        """Serve the benchmark's protocol."""
        await self._transport.handle(PROTOCOL, handler)
        return f"{self._transport.addresses[0]}/p2p/{self._transport.peer_id}"

    async def dial(self, where: str) -> Callable[[], Awaitable[ByteStream]]:
        """Connect once; all streams share the connection."""
        address, _, name = where.partition("/p2p/")
        await self._transport.connect(PeerId(name), (address,))
        return lambda: self._transport.open_stream(PeerId(name), PROTOCOL)

    async def close(self) -> None:
        """Close the transport."""
        await self._transport.close()


class Sockets:
    """Plain TCP by asyncio's streams: neither encryption nor multiplexing."""

    def __init__(self, host: str) -> None:
        """Use ``host`` on this side."""
        self._host = host
        self._server: asyncio.Server | None = None

    async def serve(self, handler: StreamHandler) -> str:
        """Listen on any port."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await handler(SocketStream(reader, writer))

        self._server = await asyncio.start_server(accept, self._host, 0, limit=_CHUNK)
        return f"{self._host} {self._server.sockets[0].getsockname()[1]}"

    async def dial(self, where: str) -> Callable[[], Awaitable[ByteStream]]:
        """Return what opens a connection for each stream."""
        host, _, port = where.partition(" ")

        async def open_stream() -> ByteStream:
            return SocketStream(*await asyncio.open_connection(host, int(port), limit=_CHUNK))

        return open_stream

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()


class SocketStream:
    """A connection as a ByteStream."""

    peer = PeerId("")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Wrap a connection."""
        self._reader, self._writer = reader, writer

    async def read(self, max_bytes: int) -> bytes:
        """Return what is there."""
        return await self._reader.read(max_bytes)

    async def write(self, data: bytes) -> None:
        """Send in pieces, as fast as the socket takes them."""
        view = memoryview(data)
        for at in range(0, len(view), _CHUNK):
            self._writer.write(view[at : at + _CHUNK])
            await self._writer.drain()

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()
