"""The default transport: byte streams through hivemind's p2pd (go-libp2p), which we supervise.

When p2pd dies or hangs, all streams are cut, so that nobody waits for them, and p2pd_supervisor.py
starts a new one with the same identity and port, which gets all handlers again; then the restart
hooks run.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.net.dialling import to_dial
from skerry.node.net.listening import close_server
from skerry.node.net.multiaddrs import endpoint_of, is_relayed
from skerry.node.net.node_transport import OutageHook, RestartHook
from skerry.node.net.p2pd_client import BUFFER_BYTES, P2pdClient, P2pdStream, read_stream_info
from skerry.node.net.p2pd_process import P2pdOptions, write_identity
from skerry.node.net.p2pd_supervisor import P2pdSupervisor
from skerry.node.net.sockets import SocketsFolder
from skerry.node.net.tasks import OwnedTasks
from skerry.protocol.errors import PeerUnavailable, SkerryError
from skerry.protocol.ids import PeerId
from skerry.protocol.signing import peer_id_of
from skerry.protocol.transport import ByteStream, StreamHandler

__all__ = ["P2pdOptions", "P2pdTransport"]

_LOG = logging.getLogger(__name__)
_CONNECT_SECONDS = 15.0
# Streams that p2pd hands over at once; it resets those for which there is no room.
_BACKLOG = 1024

Hints = Callable[[PeerId], tuple[str, ...]]


def _no_hints(peer: PeerId) -> tuple[str, ...]:
    return ()


@dataclass(slots=True)
class Ways:
    """What was found out about ways between peers, besides what p2pd knows."""

    announced: tuple[str, ...] = ()
    """Further addresses of this node, told before p2pd's own."""
    hints: Hints = _no_hints
    """What to dial, too, whenever a peer is connected to."""


class P2pdTransport:
    """A Transport over p2pd; make one with ``create``."""

    def __init__(self, options: P2pdOptions, key: Ed25519PrivateKey) -> None:
        """Use ``create`` instead."""
        self._sockets = SocketsFolder()
        self._peer_id = peer_id_of(key.public_key().public_bytes_raw())
        self._listener = self._sockets.path / "in"
        self._handlers: dict[str, StreamHandler] = {}
        self._streams: set[P2pdStream] = set()
        self._tasks = OwnedTasks()
        self._server: asyncio.Server | None = None
        self.ways = Ways()
        self.daemon = P2pdSupervisor(
            options, self._peer_id, self._sockets, self._register_all, self._cut_streams
        )

    @classmethod
    async def create(cls, options: P2pdOptions, key: Ed25519PrivateKey) -> "P2pdTransport":
        """Start p2pd as the peer of ``key``.

        Raises: NetworkError: SK-NET-002 if the port is in use, SK-NET-004 if p2pd fails.
        """
        write_identity(options, key)
        self = cls(options, key)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self.close)
            self._server = await asyncio.start_unix_server(
                self._accept, str(self._listener), limit=BUFFER_BYTES, backlog=_BACKLOG
            )
            await self.daemon.start()
            undo.pop_all()
        return self

    @property
    def peer_id(self) -> PeerId:
        """This node's id."""
        return self._peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs without ``/p2p``; they change as NATs and relays are found."""
        # What was found out comes first: of a machine with many addresses not all are passed on.
        return tuple(dict.fromkeys((*self.ways.announced, *self.daemon.addresses)))

    @property
    def restarts(self) -> int:
        """How often p2pd had to be started again."""
        return self.daemon.restarts

    async def relayed(self) -> dict[PeerId, bool]:
        """Say of each connected peer whether only a relay leads to it. Raises: PeerUnavailable."""
        found: dict[PeerId, bool] = {}
        for peer, address in await self.daemon.client.connections():
            found[peer] = found.get(peer, True) and is_relayed(address)
        return found

    def add_outage_hook(self, hook: OutageHook) -> None:
        """Call ``hook`` when p2pd has ended, before it is started again."""
        self.daemon.add_outage_hook(hook)

    def add_restart_hook(self, hook: RestartHook) -> None:
        """Await ``hook`` after each restart of p2pd, when all handlers are back."""
        self.daemon.add_restart_hook(hook)

    async def connect(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Connect to ``peer`` if we are not; malformed hints are ignored. Raises: PeerUnavailable.

        Without usable addresses the routing of libp2p looks for the peer.
        """
        with _deadline(f"connect to {peer}"):
            async with asyncio.timeout(_CONNECT_SECONDS):
                own = {e.ip for a in self.daemon.addresses if (e := endpoint_of(a))}
                known = (*self.ways.hints(peer), *addresses)
                await self.daemon.client.connect(peer, to_dial(known, own))

    async def disconnect(self, peer: PeerId) -> None:
        """End all connections to ``peer``, which may dial again; never raises."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self.daemon.client.disconnect(peer)
        except (PeerUnavailable, TimeoutError) as error:
            _LOG.info("p2pd does not let go of %s: %s", peer, error)

    def cut(self, peer: PeerId) -> None:
        """Reset the streams of ``peer``: new ones take the best connection there is now."""
        for stream in [stream for stream in self._streams if stream.peer == peer]:
            stream.reset()

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        """Open a stream to a connected peer. Raises: PeerUnavailable."""
        with _deadline(f"open {protocol} to {peer}"):
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await self.daemon.client.open_stream(peer, protocol)
        return self._track(peer, reader, writer)

    async def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Call ``handler`` for every inbound stream of ``protocol``, also after restarts."""
        known = protocol in self._handlers
        self._handlers[protocol] = handler
        if known or not self.daemon.is_up:  # not up: the restart under way registers it
            return
        try:
            await self.daemon.client.register(protocol, self._listener)
        except PeerUnavailable as error:
            _LOG.warning("p2pd cannot serve %s, so it is replaced: %s", protocol, error)
            self.daemon.replace()

    async def close(self) -> None:
        """Cut all streams, end p2pd and remove what it needed; never raises."""
        if self._server is not None:
            await close_server(self._server)
        self._cut_streams()
        await self._tasks.cancel()
        await self.daemon.close()
        self._sockets.close()
        self.daemon.options.identity.unlink(missing_ok=True)

    async def _register_all(self, client: P2pdClient) -> None:
        for protocol in list(self._handlers):
            await client.register(protocol, self._listener)

    def _track(
        self, peer: PeerId, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> P2pdStream:
        stream = P2pdStream(peer, reader, writer, self._streams.discard)
        self._streams.add(stream)
        return stream

    def _cut_streams(self) -> None:
        for stream in self._streams:
            stream.reset()
        self._streams.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = self._tasks.start(self._serve(reader, writer), "inbound stream")
        # Also when it is cancelled before it could begin, or is refused.
        serving.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer, protocol = await read_stream_info(reader)
            handler = self._handlers[protocol]
        except (SkerryError, OSError, EOFError, KeyError) as error:
            _LOG.info("inbound stream refused: %r", error)
            return
        stream = self._track(peer, reader, writer)
        try:
            await handler(stream)
        except SkerryError as error:
            _LOG.debug("inbound stream of %s ended: %s", peer, error)
        finally:
            await stream.close()


@contextlib.contextmanager
def _deadline(what: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        detail = f"{what}: no answer within {_CONNECT_SECONDS:.0f} s"
        raise PeerUnavailable("SK-NET-003", detail) from error
