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
) -> bool:
    """Copy until either side has finished, then close both; each ``traffic`` is counted up.

    Returns: whether it was the peer, or the way to it, that ended first.

    A peer that finishes is passed on as the end of the socket's input. A local side that
    finishes ends everything, because a ByteStream cannot be closed in one direction only.
    Errors of either side only end the copying.
    """
    outbound = asyncio.create_task(_to_peer(reader, stream, traffic), name="pump to peer")
    inbound = asyncio.create_task(_to_socket(stream, writer, traffic), name="pump from peer")
    tasks = (outbound, inbound)
    try:
        await asyncio.wait({outbound, inbound}, return_when=asyncio.FIRST_COMPLETED)
        by_peer = any(task.done() and not task.exception() and task.result() for task in tasks)
        if not outbound.done() and inbound.exception() is None:
            await asyncio.wait({outbound}, timeout=_LINGER_SECONDS)
    finally:
        for task in tasks:
            task.cancel()
        try:
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await stream.close()
        finally:  # also when this task is cancelled while it waits
            await close_writer(writer)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return by_peer


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
) -> bool:
    """Return whether it ended because the stream broke."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            try:
                await stream.write(data)
            except PeerUnavailable:
                return True
            for counter in traffic:
                counter.sent += len(data)
    return False


async def _to_socket(
    stream: ByteStream, writer: asyncio.StreamWriter, traffic: tuple[Traffic, ...]
) -> bool:
    """Return whether it ended because the peer has finished, or the stream broke."""
    by_peer = False
    # RuntimeError is what uvloop raises for a socket that was closed meanwhile.
    with contextlib.suppress(OSError, RuntimeError):
        with contextlib.suppress(PeerUnavailable):
            while data := await stream.read(CHUNK_BYTES):
                for counter in traffic:
                    counter.received += len(data)
                writer.write(data)
                await writer.drain()
        by_peer = True
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
    return by_peer
