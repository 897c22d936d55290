"""The default transport: byte streams through hivemind's p2pd (go-libp2p), which we supervise.

p2pd runs as our own child (p2pd_process.py says how it is born and why it always dies with us)
and is asked over its control socket (p2pd_client.py); hivemind's ``P2P`` is only attached to it,
for hivemind's DHT, and its persistent connection is what keeps p2pd alive. When p2pd dies or
hangs, all streams are cut, so that nobody waits for them, and a new one is started with the same
identity and port, with all handlers, after which the restart hooks run.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hivemind.p2p import P2P
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.utils.logging import use_hivemind_log_handler
from hivemind.utils.multiaddr import Multiaddr

from skerry.node.net.dialling import to_dial
from skerry.node.net.multiaddrs import endpoint_of, is_relayed
from skerry.node.net.p2pd_client import BUFFER_BYTES, P2pdClient, P2pdStream, read_stream_info
from skerry.node.net.p2pd_process import (
    P2pdOptions,
    P2pdProcess,
    end_leftover,
    write_identity,
)
from skerry.node.net.sockets import SocketsFolder
from skerry.node.net.tasks import OwnedTasks
from skerry.protocol.errors import NetworkError, PeerUnavailable, SkerryError
from skerry.protocol.ids import PeerId
from skerry.protocol.signing import peer_id_of
from skerry.protocol.transport import ByteStream, StreamHandler

__all__ = ["P2pdOptions", "P2pdTransport", "RestartHook"]

_LOG = logging.getLogger(__name__)
_CONNECT_SECONDS = 15.0
_REFRESH_SECONDS = 10.0
# A loaded machine may answer late; one that is this late does not answer.
_HUNG_SECONDS = 30.0
_HOOK_SECONDS = 60.0
_RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)

RestartHook = Callable[[], Awaitable[None]]
OutageHook = Callable[[], None]
Hints = Callable[[PeerId], tuple[str, ...]]


class P2pdTransport:
    """A Transport over p2pd; make one with ``create``."""

    def __init__(self, options: P2pdOptions, key: Ed25519PrivateKey) -> None:
        """Use ``create`` instead."""
        self._options, self._sockets = options, SocketsFolder()
        self._peer_id = peer_id_of(key.public_key().public_bytes_raw())
        self._listener = self._sockets.path / "in"
        self._port = options.port
        self._addresses: tuple[str, ...] = ()
        self._announced: tuple[str, ...] = ()
        self._handlers: dict[str, StreamHandler] = {}
        self._streams: set[P2pdStream] = set()
        self._tasks = OwnedTasks()
        self._outage_hooks: list[OutageHook] = []
        self._hooks: list[RestartHook] = []
        self._hints: Hints = lambda peer: ()
        self._generation = 0
        self._process: P2pdProcess | None = None
        self._client: P2pdClient | None = None
        self._p2p: P2P | None = None
        self._server: asyncio.Server | None = None

    @classmethod
    async def create(cls, options: P2pdOptions, key: Ed25519PrivateKey) -> "P2pdTransport":
        """Start p2pd as the peer of ``key``.

        Raises: NetworkError: SK-NET-002 if the port is in use, SK-NET-004 if p2pd fails.
        """
        use_hivemind_log_handler("nowhere")  # its messages go where ours go
        end_leftover(options)
        write_identity(options, key)
        self = cls(options, key)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self.close)
            self._server = await asyncio.start_unix_server(
                self._accept, str(self._listener), limit=BUFFER_BYTES
            )
            await self._start()
            self._tasks.start(self._supervise(), "p2pd supervisor")
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
        return tuple(dict.fromkeys((*self._announced, *self._addresses)))

    @property
    def own_addresses(self) -> tuple[str, ...]:
        """Those of them that p2pd itself knows: of this machine, and mapped by its router."""
        return self._addresses

    @property
    def host(self) -> str:
        """The IP address that p2pd listens on."""
        return self._options.host

    @property
    def port(self) -> int:
        """The TCP port that p2pd listens on, and dials from."""
        return self._port

    @property
    def traverses_nat(self) -> bool:
        """Whether others may be beyond NATs; false on loopback."""
        return self._options.traverses_nat

    @property
    def is_relay(self) -> bool:
        """Whether this node is to relay for others."""
        return self._options.reachability == "public"

    def announce(self, addresses: tuple[str, ...]) -> None:
        """Have ``addresses`` tell what was found out: further ways to this node."""
        self._announced = addresses

    def use_hints(self, hints: Hints) -> None:
        """Dial what ``hints`` says of a peer, too, whenever we connect to it."""
        self._hints = hints

    @property
    def restarts(self) -> int:
        """How often p2pd had to be started again."""
        return max(0, self._generation - 1)

    async def relayed(self) -> dict[PeerId, bool]:
        """Say of each connected peer whether only a relay leads to it. Raises: PeerUnavailable."""
        found: dict[PeerId, bool] = {}
        for peer, address in await self.connections():
            found[peer] = found.get(peer, True) and is_relayed(address)
        return found

    async def connections(self) -> tuple[tuple[PeerId, str], ...]:
        """Return peer and remote multiaddr of each connection. Raises: PeerUnavailable."""
        return await self._running().connections()

    @property
    def pid(self) -> int | None:
        """The process id of p2pd, None while there is none."""
        return self._process.pid if self._process else None

    @property
    def p2p(self) -> P2P:
        """Hivemind's handle on the running p2pd, replaced by each restart.

        For hivemind's DHTNode; never shut it down: p2pd ends with it. Raises: PeerUnavailable.
        """
        if self._p2p is None:
            raise _down()
        return self._p2p

    def add_outage_hook(self, hook: OutageHook) -> None:
        """Call ``hook`` when p2pd has ended, before it is started again."""
        self._outage_hooks.append(hook)

    def add_restart_hook(self, hook: RestartHook) -> None:
        """Await ``hook`` after each restart of p2pd, when all handlers are back."""
        self._hooks.append(hook)

    async def connect(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Connect to ``peer`` if we are not; malformed hints are ignored. Raises: PeerUnavailable.

        Without usable addresses the routing of libp2p looks for the peer.
        """
        with _deadline(f"connect to {peer}"):
            async with asyncio.timeout(_CONNECT_SECONDS):
                own = {e.ip for a in self._addresses if (e := endpoint_of(a))}
                known = (*self._hints(peer), *addresses)
                await self._running().connect(peer, to_dial(known, own))

    async def disconnect(self, peer: PeerId) -> None:
        """End all connections to ``peer``, which may dial again; never raises."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._running().disconnect(peer)
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
                reader, writer = await self._running().open_stream(peer, protocol)
        return self._track(peer, reader, writer)

    async def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Call ``handler`` for every inbound stream of ``protocol``, also after restarts."""
        known = protocol in self._handlers
        self._handlers[protocol] = handler
        if known or self._client is None:  # none: the restart under way registers it
            return
        try:
            await self._client.register(protocol, self._listener)
        except PeerUnavailable as error:
            _LOG.warning("p2pd cannot serve %s, so it is replaced: %s", protocol, error)
            if self._process is not None:
                self._process.kill()

    async def close(self) -> None:
        """Cut all streams, end p2pd and remove what it needed; never raises."""
        if self._server is not None:
            self._server.close()
        self._cut_streams()
        await self._tasks.cancel()
        await self._stop_daemon()
        self._sockets.close()
        self._options.identity.unlink(missing_ok=True)
        self._options.pid_file.unlink(missing_ok=True)

    def _running(self) -> P2pdClient:
        if self._client is None:
            raise _down()
        return self._client

    async def _start(self) -> None:
        self._generation += 1
        self._process = await P2pdProcess.start(
            self._options, self._port, self._sockets.path, self._generation
        )
        try:
            async with asyncio.timeout(_HUNG_SECONDS):
                await self._attach(self._process)
        except (OSError, EOFError, P2PDaemonError, PeerUnavailable) as error:
            raise NetworkError("SK-NET-004", f"p2pd does not answer: {error}") from error

    async def _attach(self, process: P2pdProcess) -> None:
        class AttachedP2P(P2P):  # type: ignore[misc]  # hivemind is untyped
            # Hivemind would put its client's socket into /tmp, where it could be left behind.
            _UNIX_SOCKET_PREFIX = f"/unix{self._sockets.path}/"

        self._p2p = await AttachedP2P.replicate(Multiaddr(f"/unix{process.control}"))
        client = P2pdClient(process.control)
        name, self._addresses = await client.identify()
        if name != self._peer_id:
            raise NetworkError("SK-NET-004", f"p2pd calls itself {name}, not {self._peer_id}")
        self._port = self._port or _tcp_port(self._addresses)
        self._client = client
        for protocol in list(self._handlers):
            await client.register(protocol, self._listener)

    async def _stop_daemon(self) -> None:
        process, p2p = self._process, self._p2p
        self._process = self._client = self._p2p = None
        if p2p is not None:
            await p2p.shutdown()
        if process is not None:
            await process.stop()

    async def _supervise(self) -> None:
        while True:
            await self._watch()
            _LOG.warning("p2pd has ended; starting it again")
            for outage_hook in self._outage_hooks:
                outage_hook()
            self._cut_streams()
            await self._restart()
            for hook in self._hooks:
                await self._run_hook(hook)

    async def _watch(self) -> None:
        """Return when p2pd has ended; end it when it hangs."""
        assert self._process is not None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_SECONDS):
                    await self._process.wait()
                    return
            try:
                async with asyncio.timeout(_HUNG_SECONDS):
                    _, self._addresses = await self._running().identify()
            except (TimeoutError, PeerUnavailable) as error:
                _LOG.warning("p2pd does not answer (%s)", error)
                self._process.kill()

    async def _restart(self) -> None:
        attempt = 0
        while True:
            await self._stop_daemon()
            try:
                await self._start()
                return
            except NetworkError as error:
                delay = _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]
                _LOG.warning("p2pd could not be restarted, again in %.1f s: %s", delay, error)
                attempt += 1
                await asyncio.sleep(delay)

    async def _run_hook(self, hook: RestartHook) -> None:
        try:
            async with asyncio.timeout(_HOOK_SECONDS):
                await hook()
        except (SkerryError, TimeoutError) as error:
            _LOG.warning("after the restart of p2pd: %r", error)

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


def _down() -> PeerUnavailable:
    return PeerUnavailable("SK-NET-003", "p2pd is being restarted")


def _tcp_port(addresses: tuple[str, ...]) -> int:
    for address in addresses:
        parts = address.split("/")
        if "tcp" in parts and "p2p-circuit" not in parts:
            return int(parts[parts.index("tcp") + 1])
    raise NetworkError("SK-NET-004", f"p2pd listens on no TCP port: {addresses}")
