"""Finding peers in the local network, and being found there, by multicast DNS.

Each node answers for one service (DNS-SD, RFC 6763, over mDNS, RFC 6762): its peer id is the
instance's name, its port and addresses in this network are the service's. So a peer whose address
was changed by the router is found by all who know its id, without anyone on the internet. What is
found are only hints of where to dial: who answers there proves its id to p2pd, or is nobody.
Nothing but peer id, port and addresses is told, and nothing at all leaves the local network.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from zeroconf import Error, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from skerry.node.net.multiaddrs import Endpoint, Ip, Scope
from skerry.node.net.tasks import OwnedTasks
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId, short
from skerry.protocol.signing import public_key_of

_LOG = logging.getLogger(__name__)
SERVICE = "_skerry._udp.local."
MAX_NEIGHBOURS = 256
MAX_ADDRESSES = 4
"""Of one neighbour: a machine has few addresses in one network."""
_ANSWER_SECONDS = 3.0
_SETTLE_SECONDS = 1.0
"""Answers come within 120 ms (RFC 6762, 6), to a question that is repeated after a second."""
_FAILURES = (OSError, Error)

OnFound = Callable[[PeerId, tuple[str, ...]], None]
"""Told that a peer is there, and its multiaddrs."""


class Neighbours:
    """Who is in the local network; open while this node has an address in one."""

    def __init__(self, me: PeerId, on_found: OnFound) -> None:
        """Begin outside of any network; ``refresh`` opens and follows it."""
        # It writes a stack trace for each address that is gone when it says goodbye.
        logging.getLogger("zeroconf").setLevel(logging.ERROR)
        self._me, self._on_found = me, on_found
        self._found: dict[PeerId, tuple[str, ...]] = {}
        self._at: tuple[Endpoint, ...] = ()
        self._opened_at = 0.0
        self._zeroconf: AsyncZeroconf | None = None
        self._tasks = OwnedTasks()

    def addresses(self, peer: PeerId) -> tuple[str, ...]:
        """Return where a peer is in the local network; empty if it is not known to be there."""
        return self._found.get(peer, ())

    async def refresh(self, endpoints: Iterable[Endpoint]) -> None:
        """Answer for ``endpoints`` from now on, those of them that are local."""
        local = (e for e in endpoints if e.scope is Scope.LOCAL and e.ip.version == 4)
        at = tuple(sorted(e for e in dict.fromkeys(local) if _is_here(e.ip)))
        if at == self._at:
            return
        await self._shut()
        self._at = at
        try:
            if at:
                await self._open(at)
        except _FAILURES as error:
            _LOG.warning("peers in the local network are not looked for: %r", error)
            await self._shut()

    async def settled(self) -> None:
        """Return when whoever is in the network has had the time to answer."""
        if self._zeroconf is not None:
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, self._opened_at + _SETTLE_SECONDS - now))

    async def close(self) -> None:
        """Say goodbye; never raises."""
        await self._shut()
        await self._tasks.cancel()

    async def _open(self, at: tuple[Endpoint, ...]) -> None:
        self._zeroconf = AsyncZeroconf(
            interfaces=sorted({str(e.ip) for e in at}), ip_version=IPVersion.V4Only
        )
        await self._zeroconf.zeroconf.async_wait_for_start()
        self._opened_at = asyncio.get_running_loop().time()
        await self._zeroconf.async_register_service(
            AsyncServiceInfo(
                SERVICE,
                f"{self._me}.{SERVICE}",
                port=at[0].port,
                server=f"{self._me}.local.",
                addresses=[e.ip.packed for e in at],
            ),
            # Nobody else has our name, so it need not be asked for first.
            cooperating_responders=True,
        )
        AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._changed])

    async def _shut(self) -> None:
        zeroconf, self._zeroconf, self._found = self._zeroconf, None, {}
        if zeroconf is not None:
            try:
                await zeroconf.async_close()
            except _FAILURES as error:  # the address that it said goodbye from is gone
                _LOG.info("left the local network without a word: %r", error)

    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        peer = PeerId(name.removesuffix(f".{SERVICE}"))
        if peer == self._me or not _is_peer(peer):
            return
        if state_change is ServiceStateChange.Removed:
            self._found.pop(peer, None)
        elif len(self._tasks) < MAX_NEIGHBOURS:
            self._tasks.start(self._resolve(zeroconf, peer, name), f"address of {peer}")

    async def _resolve(self, zeroconf: Zeroconf, peer: PeerId, name: str) -> None:
        info = AsyncServiceInfo(SERVICE, name)
        try:
            complete = await info.async_request(zeroconf, _ANSWER_SECONDS * 1000)
        except _FAILURES as error:
            _LOG.debug("where %s is: %r", short(peer), error)
            return
        current = self._zeroconf is not None and self._zeroconf.zeroconf is zeroconf
        where = local_addresses(info.addresses_by_version(IPVersion.V4Only), info.port or 0)
        room = len(self._found) < MAX_NEIGHBOURS or peer in self._found
        if complete and current and where and room and where != self._found.get(peer):
            self._found[peer] = where
            self._on_found(peer, where)


def local_addresses(packed: Iterable[bytes], port: int) -> tuple[str, ...]:
    """Return the multiaddrs of a neighbour: a few, and only such as a local network has."""
    if not 0 < port < 2**16:
        return ()
    found = (Endpoint(IPv4Address(ip), port) for ip in dict.fromkeys(packed) if len(ip) == 4)
    local = [str(e) for e in found if e.scope is Scope.LOCAL and not _is_no_host(e.ip)]
    return tuple(local[:MAX_ADDRESSES])


def _is_here(ip: Ip) -> bool:
    """Say whether this machine has an address: p2pd names one for some seconds after its end."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(ip), 0))
        except OSError:
            return False
    return True


def _is_no_host(ip: Ip) -> bool:
    return ip.is_multicast or ip.is_unspecified


def _is_peer(name: PeerId) -> bool:
    try:
        public_key_of(name)
    except ProtocolError:
        return False
    return True
