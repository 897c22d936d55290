"""Reaching a peer at one of several addresses, the first that leads to it."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import trio
from libp2p.abc import ISecureConn

from skerry.node.net.pylibp2p.handshake import Handshaker
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId, short

_MAX_ADDRESSES = 16
# How long the next address waits for the one before it (RFC 8305, section 5).
_STAGGER_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """What can be dialled."""

    host: str
    port: int


def tcp_addresses(multiaddrs: Iterable[str]) -> list[TcpAddress]:
    """Return those of ``multiaddrs`` that are plain TCP; all others are passed over."""
    found = dict.fromkeys(filter(None, map(_tcp_address, multiaddrs)))
    return list(found)[:_MAX_ADDRESSES]


async def dial(handshaker: Handshaker, peer: PeerId, addresses: list[TcpAddress]) -> ISecureConn:
    """Connect to ``peer`` and have it prove who it is. Raises: PeerUnavailable."""
    race = _Race(handshaker, peer)
    async with trio.open_nursery() as nursery:
        race.over = nursery.cancel_scope
        before: trio.Event | None = None
        for address in addresses:
            failed = trio.Event()
            nursery.start_soon(race.attempt, address, before, failed)
            before = failed
    if race.won is None:
        told = "; ".join(race.failures) or "none of its addresses is one of TCP"
        raise PeerUnavailable("SK-NET-003", f"{short(peer)} cannot be reached: {told}")
    return race.won


class _Race:
    """The attempts at the addresses of one peer."""

    def __init__(self, handshaker: Handshaker, peer: PeerId) -> None:
        self._handshaker, self._peer = handshaker, peer
        self.over: trio.CancelScope
        self.won: ISecureConn | None = None
        self.failures: list[str] = []

    async def attempt(
        self, address: TcpAddress, before: trio.Event | None, failed: trio.Event
    ) -> None:
        if before is not None:
            with trio.move_on_after(_STAGGER_SECONDS):
                await before.wait()
        try:
            secured = await self._reach(address)
        except (OSError, PeerUnavailable) as error:
            why = error.detail if isinstance(error, PeerUnavailable) else str(error)
            self.failures.append(f"{address.host} port {address.port}: {why[:100]}")
            failed.set()
            return
        if self.won is not None:  # two at the same moment
            await secured.close()
        else:
            self.won = secured
            self.over.cancel()

    async def _reach(self, address: TcpAddress) -> ISecureConn:
        stream = await trio.open_tcp_stream(address.host, address.port)
        secured: ISecureConn | None = None
        try:
            _, secured = await self._handshaker.outbound(stream, self._peer)
            return secured
        finally:
            if secured is None:
                await trio.aclose_forcefully(stream)


def _tcp_address(multiaddr: str) -> TcpAddress | None:
    match multiaddr.split("/"):
        case ["", "ip4" | "ip6" as kind, host, "tcp", port]:
            try:
                if ip_address(host).version != int(kind[-1]):
                    return None
            except ValueError:
                return None
        case ["", "dns" | "dns4" | "dns6", host, "tcp", port] if host.isascii() and host:
            pass
        case _:
            return None
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 2**16):
        return None
    return TcpAddress(host, int(port))
