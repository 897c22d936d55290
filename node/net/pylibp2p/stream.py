"""A yamux stream as the ByteStream that the node uses, in the thread of asyncio."""

import asyncio
from collections.abc import Callable

from skerry.node.net.pylibp2p.trio_thread import TrioThread
from skerry.node.net.pylibp2p.yamux_stream import YamuxStream
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId, short


class PyLibp2pStream:
    """A ByteStream; for one reader and one writer."""

    def __init__(
        self,
        peer: PeerId,
        stream: YamuxStream,
        thread: TrioThread,
        on_close: Callable[["PyLibp2pStream"], None],
    ) -> None:
        """Wrap a stream of ``peer`` on whose protocol both agree."""
        self._peer, self._stream = peer, stream
        self._on_close = on_close
        self._readable, self._writable = asyncio.Event(), asyncio.Event()
        stream.on_readable = lambda: thread.tell(self._readable.set)
        stream.on_writable = lambda: thread.tell(self._writable.set)

    @property
    def peer(self) -> PeerId:
        """Who is at the other end."""
        return self._peer

    async def read(self, max_bytes: int) -> bytes:
        """Return 1 to ``max_bytes`` bytes, or b"" at the end. Raises: PeerUnavailable."""
        while True:
            self._readable.clear()
            try:
                data = self._stream.read(max_bytes)
            except PeerUnavailable as error:
                raise self._named(error) from error
            if data is not None:
                return data
            await self._readable.wait()

    async def write(self, data: bytes) -> None:
        """Send ``data`` as windows and queue allow. Raises: PeerUnavailable."""
        view = memoryview(data)
        while view:
            self._writable.clear()
            try:
                view = view[self._stream.write(view) :]
            except PeerUnavailable as error:
                raise self._named(error) from error
            if view:
                await self._writable.wait()

    async def close(self) -> None:
        """Close both directions; what was written is still sent. Never raises."""
        self.end()

    def end(self) -> None:
        """Do as ``close``, at once; who waits for this stream is told."""
        self._on_close(self)
        self._stream.close()
        self._readable.set()
        self._writable.set()

    def _named(self, error: PeerUnavailable) -> PeerUnavailable:
        return PeerUnavailable(error.code, f"{short(self._peer)}: {error.detail}")
