"""Multiaddrs as far as reachability needs them: endpoints and circuits. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

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
