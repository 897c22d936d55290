"""Joining a peer's byte stream to a local unix socket, in both directions, in bounded memory.

Each direction holds one chunk and what the two transports buffer; a side that does not read
stops the other from sending. Whoever speaks over the socket (gRPC) does its own checking: a
stream that was cut looks like one that ended.
"""

import asyncio
import contextlib
from dataclasses import dataclass

from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.transport import ByteStream

CHUNK_BYTES = 2**16
"""Also the read-ahead to give to the socket: asyncio holds at most twice as much."""

# After the peer has finished, how long the local side may still take to notice and close.
_LINGER_SECONDS = 5.0
# How long the other side may take to read what was sent before a close.
_FLUSH_SECONDS = 5.0


@dataclass(slots=True)
class Traffic:
    """Bytes that passed between this node and its peers."""

    sent: int = 0
    received: int = 0


async def pump(
    stream: ByteStream,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *traffic: Traffic,
) -> None:
    """Copy until either side has finished, then close both; each ``traffic`` is counted up.

    A peer that finishes is passed on as the end of the socket's input. A local side that
    finishes ends everything, because a ByteStream cannot be closed in one direction only.
    Errors of either side only end the copying.
    """
    outbound = asyncio.create_task(_to_peer(reader, stream, traffic), name="pump to peer")
    inbound = asyncio.create_task(_to_socket(stream, writer, traffic), name="pump from peer")
    try:
        await asyncio.wait({outbound, inbound}, return_when=asyncio.FIRST_COMPLETED)
        if not outbound.done() and inbound.exception() is None:
            await asyncio.wait({outbound}, timeout=_LINGER_SECONDS)
    finally:
        for task in (outbound, inbound):
            task.cancel()
        try:
            results = await asyncio.gather(outbound, inbound, return_exceptions=True)
            await stream.close()
        finally:  # also when this task is cancelled while it waits
            await close_writer(writer)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def close_writer(writer: asyncio.StreamWriter) -> None:
    """Flush for a moment, then close; never raises."""
    writer.close()
    try:
        async with asyncio.timeout(_FLUSH_SECONDS):
            await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
    except OSError:
        pass  # already broken: that is closed enough


async def _to_peer(
    reader: asyncio.StreamReader, stream: ByteStream, traffic: tuple[Traffic, ...]
) -> None:
    with contextlib.suppress(OSError, PeerUnavailable):
        while data := await reader.read(CHUNK_BYTES):
            await stream.write(data)
            for counter in traffic:
                counter.sent += len(data)


async def _to_socket(
    stream: ByteStream, writer: asyncio.StreamWriter, traffic: tuple[Traffic, ...]
) -> None:
    # RuntimeError is what uvloop raises for a socket that was closed meanwhile.
    with contextlib.suppress(OSError, RuntimeError, PeerUnavailable):
        while data := await stream.read(CHUNK_BYTES):
            for counter in traffic:
                counter.received += len(data)
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
