"""Agreeing on the protocol of a stream by multistream-select, in the network's thread."""

import math

import trio
from libp2p.custom_types import TProtocol
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator

from skerry.node.net.pylibp2p.handshake import BROKEN
from skerry.node.net.pylibp2p.yamux_stream import YamuxStream
from skerry.protocol.errors import PeerUnavailable

NEGOTIATION_SECONDS = 10
# A handful of lines; whoever sends more does not want to agree.
_MAX_BYTES = 4096


async def propose(stream: YamuxStream, protocol: str) -> None:
    """Agree on ``protocol`` for a stream that we opened. Raises: PeerUnavailable."""
    lines = MultiselectCommunicator(_Talk(stream))
    try:
        await MultiselectClient().select_one_of([TProtocol(protocol)], lines, NEGOTIATION_SECONDS)
    except BROKEN as error:
        detail = f"no agreement on {protocol}: {str(error)[:200]}"
        raise PeerUnavailable("SK-NET-003", detail) from error


async def answer(stream: YamuxStream, protocols: Multiselect) -> str:
    """Return on what to agree for a stream that was opened to us. Raises: PeerUnavailable."""
    lines = MultiselectCommunicator(_Talk(stream))
    try:
        chosen, _ = await protocols.negotiate(lines, NEGOTIATION_SECONDS)
    except BROKEN as error:
        raise PeerUnavailable("SK-NET-003", f"no agreement: {str(error)[:200]}") from error
    return str(chosen)


class _Talk(ReadWriteCloser):
    """A stream as py-libp2p wants it; ``read`` returns all that was asked for."""

    def __init__(self, stream: YamuxStream) -> None:
        self._stream = stream
        self._left = _MAX_BYTES

    async def read(self, n: int | None = None) -> bytes:
        wanted, data = math.inf if n is None else n, b""
        if wanted > self._left:
            raise ConnectionClosedError(f"more than {_MAX_BYTES} bytes to agree on a protocol")
        while len(data) < wanted:
            changed = trio.Event()
            self._stream.on_readable = changed.set
            try:
                more = self._stream.read(int(wanted) - len(data))
            except PeerUnavailable as error:
                raise ConnectionClosedError(error.detail) from error
            if more == b"":
                raise ConnectionClosedError("closed by the other side")
            if more is None:
                await changed.wait()
            else:
                data += more
        self._left -= len(data)
        return data

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            changed = trio.Event()
            self._stream.on_writable = changed.set
            try:
                sent = self._stream.write(view)
            except PeerUnavailable as error:
                raise ConnectionClosedError(error.detail) from error
            view = view[sent:]
            if view:
                await changed.wait()

    async def close(self) -> None:
        self._stream.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        return None
