"""Multiaddrs as far as reachability needs them: endpoints and circuits. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.signing import public_key_of

_CIRCUIT = "/p2p-circuit"

Ip = IPv4Address | IPv6Address


class Scope(StrEnum):
    """How far an IP address is known."""

    LOOPBACK = "loopback"
    LOCAL = "local"
    """Private networks, those of internet providers, and link-local addresses."""
    PUBLIC = "public"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where TCP connections go to or come from."""

    ip: Ip
    port: int

    @property
    def scope(self) -> Scope:
        """How far the address is known."""
        return scope_of(self.ip)

    def __str__(self) -> str:
        """Return it as a multiaddr."""
        return f"/ip{self.ip.version}/{self.ip}/tcp/{self.port}"


def scope_of(ip: Ip) -> Scope:
    """Say how far ``ip`` is known."""
    if ip.is_loopback:
        return Scope.LOOPBACK
    return Scope.PUBLIC if ip.is_global and not ip.is_multicast else Scope.LOCAL


def endpoint_of(address: str) -> Endpoint | None:
    """Return the endpoint of a direct TCP multiaddr; None for any other, names included."""
    parts = address.split("/")
    if len(parts) != 5 or parts[1] not in ("ip4", "ip6") or parts[3] != "tcp":
        return None
    try:
        ip, port = ip_address(parts[2]), int(parts[4])
    except ValueError:
        return None
    return Endpoint(ip, port) if 0 < port < 2**16 else None


def network_of(addresses: Iterable[str]) -> str:
    """Return the public network that direct addresses lie in; "" where none is public.

    Peers of one network share a line: an IPv4 address, or the 64 bits that a site has in IPv6.
    """
    ends = (endpoint_of(address) for address in addresses)
    public = sorted({str(_site(end.ip)) for end in ends if end and end.scope is Scope.PUBLIC})
    return public[0] if public else ""


def _site(ip: Ip) -> IPv4Network | IPv6Network:
    return ip_network((ip, 32 if ip.version == 4 else 64), strict=False)


def is_relayed(address: str) -> bool:
    """Say whether the way leads through a relay."""
    return _CIRCUIT in address


def circuit(relay_address: str, relay: PeerId) -> str:
    """Return the address of whoever has a place at ``relay``, without its own ``/p2p``."""
    return f"{relay_address}/p2p/{relay}{_CIRCUIT}"


def relay_in(address: str) -> tuple[PeerId, str] | None:
    """Return the relay of an address that leads through one, and its own address."""
    before, found, _ = address.partition(_CIRCUIT)
    own, named, relay = before.rpartition("/p2p/")
    if not found or not named or "/" in relay:
        return None
    try:
        public_key_of(PeerId(relay))
    except ProtocolError:
        return None
    return PeerId(relay), own
