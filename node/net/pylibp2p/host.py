"""This node's endpoint in libp2p, in trio: it listens, dials, and hands over streams.

py-libp2p's own host is not used, only what it is made of. Its host refuses a peer for a minute
after a failed dial, lets strangers' half-open connections hold up those of peers, and swallows
errors (0.8.1).
"""

import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libp2p.abc import ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.utils.address_validation import get_available_interfaces

from skerry.node.net.pylibp2p.connection import Connection
from skerry.node.net.pylibp2p.dialling import dial, tcp_addresses
from skerry.node.net.pylibp2p.handshake import Handshaker
from skerry.node.net.pylibp2p.negotiation import answer, propose
from skerry.node.net.pylibp2p.yamux_stream import YamuxStream
from skerry.protocol.errors import NetworkError, PeerUnavailable
from skerry.protocol.ids import PeerId, short

_LOG = logging.getLogger(__name__)
MAX_CONNECTIONS = 1024
MAX_PER_PEER = 8
"""Connections of one peer: a few may be dead without our knowing."""
MAX_HANDSHAKES = 256
"""Connections of strangers who have not yet proven who they are."""
_REFRESH_SECONDS = 10.0

Deliver = Callable[[PeerId, str, YamuxStream], None]
"""Told of each stream that a peer has opened, and under which protocol."""


@dataclass(frozen=True, slots=True)
class HostOptions:
    """Where to listen."""

    host: str = "127.0.0.1"
    """IP address; "0.0.0.0" for all interfaces."""
    port: int = 0
    """TCP port; 0 for any free one."""


class Host:
    """All methods run in trio's thread; ``addresses`` and ``links`` may be read elsewhere."""

    def __init__(
        self, options: HostOptions, key: Ed25519PrivateKey, me: PeerId, deliver: Deliver
    ) -> None:
        """Be ``me``, the peer of ``key``."""
        self._options, self._me, self._deliver = options, me, deliver
        self._handshaker = Handshaker(key)
        self._protocols = Multiselect()
        self._connections: dict[PeerId, list[Connection]] = {}
        self._dialing: dict[PeerId, trio.Lock] = {}
        self._handshakes = self._count = 0
        self._nursery: trio.Nursery
        self._stopping = trio.Event()
        self.port = 0
        self.addresses: tuple[str, ...] = ()
        """Multiaddrs without ``/p2p``."""
        self.links: tuple[PeerId, ...] = ()
        """The connected peers."""

    async def run(self, started: Callable[[], None]) -> None:
        """Take part until stopped; ``started`` is called when others can connect.

        Raises: NetworkError: SK-NET-002 if the port is in use, SK-NET-006 if it cannot be had.
        """
        listeners = await self._listen()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(trio.serve_listeners, self._accept, listeners)
            nursery.start_soon(self._refresh)
            started()
            await self._stopping.wait()
            async with trio.open_nursery() as leaving:
                for connections in self._connections.values():
                    for connection in connections:
                        leaving.start_soon(connection.take_leave)
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """Have ``run`` end."""
        self._stopping.set()

    def serve(self, protocol: str) -> None:
        """Accept streams of ``protocol``."""
        self._protocols.add_handler(TProtocol(protocol), None)

    async def connect(self, peer: PeerId, multiaddrs: tuple[str, ...]) -> None:
        """Make sure there is a connection. Raises: PeerUnavailable."""
        lock = self._dialing.setdefault(peer, trio.Lock())
        try:
            async with lock:
                if self._best(peer) is None:
                    addresses = tcp_addresses(multiaddrs) if peer != self._me else []
                    secured = await dial(self._handshaker, peer, addresses)
                    if not self._has_room(peer):
                        await secured.close()
                        raise PeerUnavailable("SK-NET-003", "there are too many connections")
                    self._nursery.start_soon(self._run, self._add(peer, secured, initiator=True))
        finally:
            if not lock.statistics().tasks_waiting:
                self._dialing.pop(peer, None)

    def disconnect(self, peer: PeerId) -> None:
        """End all connections to ``peer``."""
        for connection in self._connections.get(peer, ()):
            connection.cut("it was ended here")

    async def open_stream(self, peer: PeerId, protocol: str) -> YamuxStream:
        """Open a stream on which both agree on ``protocol``. Raises: PeerUnavailable."""
        connection = self._best(peer)
        if connection is None:
            raise PeerUnavailable("SK-NET-003", f"not connected to {short(peer)}")
        heard_at, stream = connection.session.received_at, connection.session.open()
        agreed = False
        try:
            await propose(stream, protocol)
            agreed = True
        except PeerUnavailable:
            if connection.session.received_at == heard_at:
                connection.cut("it does not answer")  # the next attempt shall dial again
            raise
        finally:  # also if whoever wanted it has given up
            if not agreed:
                stream.reset()
        return stream

    async def _listen(self) -> Sequence[trio.SocketListener]:
        host, port = self._options.host, self._options.port
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            code = "SK-NET-002" if error.errno == errno.EADDRINUSE else "SK-NET-006"
            raise NetworkError(code, f"{host} port {port}: {error.strerror}") from error
        self.port = listeners[0].socket.getsockname()[1]
        self.addresses = self._announced()
        return listeners

    def _announced(self) -> tuple[str, ...]:
        address = ip_address(self._options.host)
        kind = f"/ip{address.version}/"
        if not address.is_unspecified:
            return (f"{kind}{address}/tcp/{self.port}",)
        found = (str(each) for each in get_available_interfaces(self.port))
        return tuple(text for text in found if text.startswith(kind))

    async def _refresh(self) -> None:
        while True:
            await trio.sleep(_REFRESH_SECONDS)
            self.addresses = self._announced()

    async def _accept(self, stream: trio.SocketStream) -> None:
        """Serve a connection; trio closes it when this returns."""
        if self._handshakes >= MAX_HANDSHAKES:
            return
        self._handshakes += 1
        try:
            peer, secured = await self._handshaker.inbound(stream)
        except PeerUnavailable as error:
            _LOG.debug("a stranger's connection: %s", error)
            return
        finally:
            self._handshakes -= 1
        if self._has_room(peer):
            await self._run(self._add(peer, secured, initiator=False))

    def _has_room(self, peer: PeerId) -> bool:
        of_peer = len(self._connections.get(peer, ()))
        return of_peer < MAX_PER_PEER and self._count < MAX_CONNECTIONS

    def _add(self, peer: PeerId, secured: ISecureConn, initiator: bool) -> Connection:
        connection = Connection(peer, secured, initiator, self._greet)
        self._connections.setdefault(peer, []).append(connection)
        self.links = tuple(self._connections)
        self._count += 1
        return connection

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._count -= 1
            of_peer = self._connections[connection.peer]
            of_peer.remove(connection)
            if not of_peer:
                del self._connections[connection.peer]
            self.links = tuple(self._connections)

    async def _greet(self, connection: Connection, stream: YamuxStream) -> None:
        """Agree on the protocol of an inbound stream and hand it over."""
        agreed = False
        try:
            protocol = await answer(stream, self._protocols)
            agreed = True
        except PeerUnavailable as error:
            _LOG.debug("a stream of %s: %s", short(connection.peer), error)
        finally:
            if not agreed:
                stream.reset()
        if agreed:
            self._deliver(connection.peer, protocol, stream)

    def _best(self, peer: PeerId) -> Connection | None:
        """Return the live connection that was heard last."""
        live = [each for each in self._connections.get(peer, ()) if not each.ended]
        return max(live, key=lambda each: each.session.received_at, default=None)
