"""gRPC between peers, inside the byte streams of a transport.

Serving: each remote peer gets its own gRPC server on a private unix socket, whose servicer is
bound to the peer id that the transport has proven; its inbound streams are pumped there. Calling:
each (peer, protocol) has a local unix listener whose connections are pumped to a new stream, and
a channel to it, so that reconnects, deadlines, status codes and flow control are gRPC's.
Not here: who may call what, and the connection to a peer (``Transport.connect``).
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import grpc
import grpc.aio

from skerry.node.net.listening import close_server
from skerry.node.net.pump import CHUNK_BYTES, Traffic, pump
from skerry.node.net.sockets import SocketsFolder
from skerry.node.net.tasks import OwnedTasks
from skerry.proto.peer_pb2_grpc import PeerServicer, PeerStub, add_PeerServicer_to_server
from skerry.protocol.chunk_tree import CHUNK_BYTES as BLOB_CHUNK_BYTES
from skerry.protocol.codec import MAX_BODY_BYTES
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId, short
from skerry.protocol.quota import Quotas
from skerry.protocol.transport import (
    BULK_PROTOCOL,
    CONTROL_PROTOCOL,
    SHADOW_PROTOCOL,
    STATE_PROTOCOL,
    ByteStream,
    Transport,
)

_LOG = logging.getLogger(__name__)

MAX_PEERS = 512
MAX_CALLS_PER_PEER = 32
MAX_LANES = 4
"""Streams to one peer and of one class; with all classes fewer than a peer may have open."""
IDLE_SECONDS = 60.0
SILENT_SECONDS = 30.0
"""For the preface, and once more for the settings that follow it; a gRPC client sends both as soon
as its stream is open."""
_SLACK_BYTES = 64 * 1024  # the envelope around a body, the message around a chunk
MAX_MESSAGE_BYTES = {
    CONTROL_PROTOCOL: max(MAX_BODY_BYTES.values()) + _SLACK_BYTES,
    BULK_PROTOCOL: BLOB_CHUNK_BYTES + _SLACK_BYTES,
    SHADOW_PROTOCOL: BLOB_CHUNK_BYTES + _SLACK_BYTES,
    STATE_PROTOCOL: BLOB_CHUNK_BYTES + _SLACK_BYTES,
}
"""Largest message that is received, in bytes."""

_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES[CONTROL_PROTOCOL]),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES[CONTROL_PROTOCOL]),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)
_CHANNEL_OPTIONS = (
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES[CONTROL_PROTOCOL]),
    # min_reconnect_backoff_ms stays at its 20 s: gRPC takes it as the time to connect in.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A peer that vanished without a word ends calls that have no deadline of their own.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)

ServicerFor = Callable[[PeerId], PeerServicer]
OnBad = Callable[[PeerId, str], None]
"""Told which peer's stream was refused, and the reason."""

OnClosed = Callable[[PeerId], None]

# What every gRPC client says first (RFC 9113, 3.4); whoever says anything else is not one.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class RpcServer:
    """Serves every peer that opens a stream to us, each under its proven id."""

    def __init__(
        self,
        transport: Transport,
        servicer_for: ServicerFor,
        idle_seconds: float = IDLE_SECONDS,
        on_bad: OnBad = lambda peer, reason: None,
        quotas: Quotas | None = None,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        """Serve on ``transport`` once started; a peer unused for ``idle_seconds`` is let go.

        ``on_bad`` hears of streams over the ``quotas`` ("streams", "stream-rate", "bytes", "quota")
        and such that bring no gRPC ("garbage", or "silent" after ``silent_seconds``).
        """
        self._transport, self._servicer_for = transport, servicer_for
        self._on_bad = on_bad
        self._quotas = Quotas() if quotas is None else quotas
        self._idle_seconds, self._silent_seconds = idle_seconds, silent_seconds
        self._folder = SocketsFolder()
        self._names = count()
        self._peers: dict[PeerId, _PeerServer] = {}
        self._tasks = OwnedTasks()
        self._closed = False
        self.traffic = Traffic()
        """Bytes of all streams that others opened."""
        self.refused = 0
        """Streams over a quota, and such that brought no gRPC."""

    @property
    def serving(self) -> int:
        """How many peers have a server of their own now."""
        return len(self._peers)

    async def start(self) -> None:
        """Take streams of all traffic classes. Raises: PeerUnavailable."""
        self._tasks.start(self._stop_idle(), "idle rpc servers")
        for protocol in MAX_MESSAGE_BYTES:
            await self._transport.handle(protocol, self._serve)

    async def close(self) -> None:
        """End all calls and refuse further streams; never raises."""
        self._closed = True
        await self._tasks.cancel()
        peers = list(self._peers.values())
        self._peers.clear()
        await asyncio.gather(*(peer.stop() for peer in peers))
        self._folder.close()

    async def _serve(self, stream: ByteStream) -> None:
        reason = self._quotas.open_stream(stream.peer, time.monotonic())
        if reason:
            self._refuse(stream.peer, reason)
            return
        try:
            await self._serve_counted(_MeteredStream(stream, self._quotas))
        except _OverQuota as over:
            self._refuse(stream.peer, over.reason)
        finally:
            self._quotas.close_stream(stream.peer)

    async def _serve_counted(self, stream: "_MeteredStream") -> None:
        server = self._server_of(stream.peer)
        if server is None:
            self._refuse(stream.peer, "streams")
            return
        with server.in_use():
            if not await self._is_grpc(stream):
                return
            try:
                reader, writer = await server.connect()
            except OSError as error:
                _LOG.info("stream of %s not served: %s", stream.peer, error)
                return
            writer.write(_PREFACE)
            await pump(stream, reader, writer, self.traffic)

    async def _is_grpc(self, stream: ByteStream) -> bool:
        """Take the preface of a stream; a stream that ends before it has said nothing wrong."""
        said = b""
        try:
            async with asyncio.timeout(self._silent_seconds):
                while len(said) < len(_PREFACE) and _PREFACE.startswith(said):
                    data = await stream.read(len(_PREFACE) - len(said))
                    if not data:
                        return False
                    said += data
        except TimeoutError:
            self._refuse(stream.peer, "silent")
            return False
        self.traffic.received += len(said)
        if said != _PREFACE:
            self._refuse(stream.peer, "garbage")
            return False
        return True

    def _refuse(self, peer: PeerId, reason: str) -> None:
        self.refused += 1
        _LOG.info("refused a stream of %s: %s", peer, reason)
        self._on_bad(peer, reason)

    def _server_of(self, peer: PeerId) -> "_PeerServer | None":
        server = self._peers.get(peer)
        if self._closed:
            return None
        if server is None and len(self._peers) < MAX_PEERS:
            path = self._folder.path / f"s{next(self._names)}"
            server = self._peers[peer] = _PeerServer(
                path, self._servicer_for(peer), self._silent_seconds
            )
        return server

    async def _stop_idle(self) -> None:
        while True:
            await asyncio.sleep(self._idle_seconds / 4)
            now = asyncio.get_running_loop().time()
            for peer, server in list(self._peers.items()):
                if server.streams == 0 and now - server.used_at >= self._idle_seconds:
                    del self._peers[peer]  # first, so that a new stream gets a new server
                    await server.stop()


class _OverQuota(Exception):
    """A peer has sent more bytes than it may."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _MeteredStream:
    """A stream that a peer opened, whose bytes count against what the peer may send."""

    def __init__(self, stream: ByteStream, quotas: Quotas) -> None:
        self._stream, self._quotas = stream, quotas

    @property
    def peer(self) -> PeerId:
        return self._stream.peer

    async def read(self, max_bytes: int) -> bytes:
        data = await self._stream.read(max_bytes)
        reason = self._quotas.receive(self.peer, len(data), time.monotonic())
        if reason:
            raise _OverQuota(reason)
        return data

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def close(self) -> None:
        await self._stream.close()


class _PeerServer:
    """The gRPC server of one remote peer, started with its first stream."""

    def __init__(self, path: Path, servicer: PeerServicer, silent_seconds: float) -> None:
        self._path, self._servicer = path, servicer
        handshake = ("grpc.server_handshake_timeout_ms", round(1000 * silent_seconds))
        self._options = (*_SERVER_OPTIONS, handshake)
        self._starting = asyncio.Lock()
        self._server: grpc.aio.Server | None = None
        self.streams = 0
        self.used_at = asyncio.get_running_loop().time()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1
            self.used_at = asyncio.get_running_loop().time()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with self._starting:
            if self._server is None:
                server = grpc.aio.server(
                    options=self._options, maximum_concurrent_rpcs=MAX_CALLS_PER_PEER
                )
                add_PeerServicer_to_server(self._servicer, server)  # type: ignore[no-untyped-call]
                server.add_insecure_port(f"unix:{self._path}")
                await server.start()
                self._server = server
        return await asyncio.open_unix_connection(str(self._path), limit=CHUNK_BYTES)

    async def stop(self) -> None:
        async with self._starting:
            if self._server is not None:
                await self._server.stop(grace=None)
        self._path.unlink(missing_ok=True)


class RpcClient:
    """Calls other peers; connections to them are the transport's."""

    def __init__(self, transport: Transport) -> None:
        """Open streams on ``transport``."""
        self._transport = transport
        self._folder = SocketsFolder()
        self._names = count()
        self._links: dict[tuple[PeerId, str], list[_Link]] = {}
        self.traffic = Traffic()
        """Bytes of all streams that we opened."""
        self.on_closed: OnClosed = lambda peer: None
        """Told of a stream that a peer, or the way to it, has ended."""

    def stub(self, peer: PeerId, protocol: str) -> PeerStub:
        """Return the calls of ``peer`` over streams of ``protocol``; wrap them in translate().

        Nothing is sent before the first call; a broken stream is replaced at the next call.
        """
        links = self._links.setdefault((peer, protocol), [])
        return (links[0] if links else self._open(links, peer, protocol)).stub

    @contextlib.contextmanager
    def lane(self, peer: PeerId, protocol: str) -> Iterator[PeerStub]:
        """Lend the calls of ``peer`` for a long transfer, as ``stub``, over a stream of its own.

        From the fifth transfer on streams are shared. One stream of libp2p carries a window of
        bytes per round trip, which leaves a quarter of a link of 100 Mbit/s and 50 ms empty.
        """
        links = self._links.setdefault((peer, protocol), [])
        link = min(links, key=lambda one: one.transfers, default=None)
        if link is None or (link.transfers and len(links) < MAX_LANES):
            link = self._open(links, peer, protocol)
        link.transfers += 1
        try:
            yield link.stub
        finally:
            link.transfers -= 1

    def _open(self, links: "list[_Link]", peer: PeerId, protocol: str) -> "_Link":
        path = self._folder.path / f"c{next(self._names)}"
        link = _Link(self._transport, peer, protocol, path, self.traffic, self._closed)
        links.append(link)
        return links[-1]

    def _closed(self, peer: PeerId) -> None:
        self.on_closed(peer)

    async def drop(self, peer: PeerId) -> None:
        """End all calls to ``peer`` and forget it."""
        dropped = [self._links.pop(key) for key in list(self._links) if key[0] == peer]
        await asyncio.gather(*(link.close() for links in dropped for link in links))

    async def close(self) -> None:
        """End all calls; never raises."""
        for peer in {peer for peer, _ in self._links}:
            await self.drop(peer)
        self._folder.close()


class _Link:
    """One channel, and the listener that turns its connections into streams of one peer."""

    def __init__(
        self,
        transport: Transport,
        peer: PeerId,
        protocol: str,
        path: Path,
        traffic: Traffic,
        closed: OnClosed,
    ) -> None:
        self._closed = closed
        self._transport, self._peer, self._protocol = transport, peer, protocol
        self._path, self._traffic = path, traffic
        self.transfers = 0
        """Long transfers that use it now."""
        self._tasks = OwnedTasks()
        # Bound here and not in the task: the channel may connect before the task has run.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        self._socket.listen()
        self._tasks.start(self._listen(), f"listener for {peer}")
        limit = ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES[protocol])
        self._channel = grpc.aio.insecure_channel(
            f"unix:{path}", options=(*_CHANNEL_OPTIONS, limit)
        )
        self.stub = PeerStub(self._channel)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        # The streams first: then calls end with UNAVAILABLE instead of a local cancellation.
        await self._tasks.cancel()
        self._socket.close()
        self._path.unlink(missing_ok=True)
        await self._channel.close(grace=1.0)

    async def _listen(self) -> None:
        server = await asyncio.start_unix_server(self._accept, sock=self._socket, limit=CHUNK_BYTES)
        try:
            await asyncio.Event().wait()
        finally:
            await close_server(server)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        joining = self._tasks.start(self._join(reader, writer), f"stream to {self._peer}")
        # Also when it is cancelled before it could begin, or while the stream opens.
        joining.add_done_callback(lambda _: writer.transport.abort())

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            stream = await self._transport.open_stream(self._peer, self._protocol)
        except PeerUnavailable as error:
            _LOG.debug("no stream to %s: %s", short(self._peer), error)
            return
        if await pump(stream, reader, writer, self._traffic):
            self._closed(self._peer)
