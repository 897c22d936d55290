"""The second transport: byte streams through py-libp2p, for machines without a p2pd binary.

The same identity, protocol ids and frames as with p2pd: the two meet in one swarm. It runs in a
thread of its own (host.py); when that fails all streams are cut, and a new one is started with
the same port and handlers, after which the restart hooks run. TCP only: no relay, no hole
punching, so a node behind a NAT can dial and not be dialled.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.net.node_transport import OutageHook, RestartHook
from skerry.node.net.pylibp2p.host import Host, HostOptions
from skerry.node.net.pylibp2p.stream import PyLibp2pStream
from skerry.node.net.pylibp2p.trio_thread import TrioThread
from skerry.node.net.pylibp2p.yamux_stream import YamuxStream
from skerry.node.net.restarting import Restarts
from skerry.node.net.tasks import OwnedTasks
from skerry.protocol.errors import PeerUnavailable, SkerryError
from skerry.protocol.ids import PeerId
from skerry.protocol.signing import peer_id_of
from skerry.protocol.transport import ByteStream, StreamHandler

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_CONNECT_SECONDS = 15.0


class PyLibp2pTransport:
    """A NodeTransport over py-libp2p; make one with ``create``."""

    def __init__(self, options: HostOptions, key: Ed25519PrivateKey) -> None:
        """Use ``create`` instead."""
        self._options, self._key = options, key
        self._peer_id = peer_id_of(key.public_key().public_bytes_raw())
        self._handlers: dict[str, StreamHandler] = {}
        self._streams: set[PyLibp2pStream] = set()
        self._tasks = OwnedTasks()
        self._restarts = Restarts("the network")
        self._starts = 0
        self._closed = False
        self._addresses: tuple[str, ...] = ()
        self._host: Host | None = None
        self._thread: TrioThread | None = None

    @classmethod
    async def create(cls, options: HostOptions, key: Ed25519PrivateKey) -> "PyLibp2pTransport":
        """Start to listen as the peer of ``key``.

        Raises: NetworkError: SK-NET-002 if the port is in use, SK-NET-006 if it cannot be had.
        """
        self = cls(options, key)
        await self._start()
        self._tasks.start(self._supervise(), "py-libp2p supervisor")
        return self

    @property
    def peer_id(self) -> PeerId:
        """This node's id."""
        return self._peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs without ``/p2p``; they change with the machine's interfaces."""
        if self._host is not None:
            self._addresses = self._host.addresses
        return self._addresses

    @property
    def restarts(self) -> int:
        """How often the network's thread had to be started again."""
        return max(0, self._starts - 1)

    async def relayed(self) -> dict[PeerId, bool]:
        """Name the connected peers: no relay leads to any of them. Raises: PeerUnavailable."""
        return dict.fromkeys(self._running()[0].links, False)

    def add_outage_hook(self, hook: OutageHook) -> None:
        """Call ``hook`` when the network's thread has failed, before it is started again."""
        self._restarts.add_outage_hook(hook)

    def add_restart_hook(self, hook: RestartHook) -> None:
        """Await ``hook`` after each restart, when all handlers are back."""
        self._restarts.add_restart_hook(hook)

    async def connect(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Connect to ``peer`` if we are not; malformed hints are ignored. Raises: PeerUnavailable.

        Only ``addresses`` are tried: nobody else is asked where the peer might be.
        """
        host, thread = self._running()
        await _in_time(
            thread.call(lambda: host.connect(peer, addresses), lambda _: None), f"connect to {peer}"
        )

    async def disconnect(self, peer: PeerId) -> None:
        """End all connections to ``peer``, which may dial again; never raises."""
        host, thread = self._host, self._thread
        if host is not None and thread is not None:

            async def end() -> None:
                host.disconnect(peer)

            with contextlib.suppress(PeerUnavailable):
                await thread.call(end, lambda _: None)

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        """Open a stream to a connected peer. Raises: PeerUnavailable."""
        host, thread = self._running()
        opening = thread.call(lambda: host.open_stream(peer, protocol), YamuxStream.reset)
        return self._track(peer, await _in_time(opening, f"open {protocol} to {peer}"), thread)

    async def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Call ``handler`` for every inbound stream of ``protocol``, also after restarts."""
        self._handlers[protocol] = handler
        host, thread = self._host, self._thread
        if host is not None and thread is not None:
            thread.soon(lambda: host.serve(protocol))

    async def close(self) -> None:
        """Cut all streams and end the thread; never raises."""
        self._closed = True
        await self._tasks.cancel()
        self._cut_streams()
        host, thread = self._host, self._thread
        self._host = self._thread = None
        if host is not None and thread is not None:
            thread.soon(host.stop)
            await thread.join()

    def _running(self) -> tuple[Host, TrioThread]:
        if self._host is None or self._thread is None:
            detail = "the transport is closed" if self._closed else "it is being restarted"
            raise PeerUnavailable("SK-NET-003", detail)
        return self._host, self._thread

    async def _start(self) -> None:
        host = Host(self._options, self._key, self._peer_id, self._deliver)
        for protocol in self._handlers:
            host.serve(protocol)
        self._thread = await TrioThread.start(host.run)
        self._host = host
        self._starts += 1
        self._options = replace(self._options, port=host.port)

    async def _supervise(self) -> None:
        while True:
            assert self._thread is not None
            error = await self._thread.join()
            _LOG.error("the network's thread has failed; starting it again", exc_info=error)
            self._host = self._thread = None
            self._restarts.tell_outage()
            self._cut_streams()
            await self._restarts.start_again(self._start)
            await self._restarts.tell_restart()

    def _track(self, peer: PeerId, stream: YamuxStream, thread: TrioThread) -> PyLibp2pStream:
        wrapped = PyLibp2pStream(peer, stream, thread, self._streams.discard)
        self._streams.add(wrapped)
        return wrapped

    def _cut_streams(self) -> None:
        for stream in list(self._streams):
            stream.end()

    def _deliver(self, peer: PeerId, protocol: str, stream: YamuxStream) -> None:
        """Take an inbound stream over; called in the network's thread."""
        thread = self._thread
        if thread is None:  # closing, or not yet begun
            stream.reset()
            return

        def take() -> None:
            self._tasks.start(self._serve(self._track(peer, stream, thread), protocol), "stream")

        thread.tell(take)

    async def _serve(self, stream: PyLibp2pStream, protocol: str) -> None:
        try:
            await self._handlers[protocol](stream)
        except SkerryError as error:
            _LOG.debug("inbound stream of %s ended: %s", stream.peer, error)
        finally:
            await stream.close()


async def _in_time(work: Awaitable[T], what: str) -> T:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            return await work
    except TimeoutError as error:
        detail = f"{what}: no answer within {_CONNECT_SECONDS:.0f} s"
        raise PeerUnavailable("SK-NET-003", detail) from error
