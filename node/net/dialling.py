"""Which of a peer's addresses are worth dialling, and which first. Pure."""

from collections.abc import Collection, Iterable

from skerry.node.net.multiaddrs import Endpoint, Ip, Scope, endpoint_of, is_relayed

_LOCAL_BITS = {4: 24, 6: 64}
"""Of how many bits an ordinary local network's prefix is."""


def to_dial(addresses: Iterable[str], own: Collection[Ip]) -> tuple[str, ...]:
    """Return what to dial, direct before relayed, each once.

    A loopback address leads to the peer only if it is on this machine, which has an address of
    its own in common with it; elsewhere some other program would answer.
    """
    listed = tuple(dict.fromkeys(addresses))
    found = {address: endpoint_of(address) for address in listed}
    others = {e.ip for e in found.values() if e and e.scope is not Scope.LOOPBACK}
    elsewhere = bool(others) and not others & set(own)
    kept = [
        address
        for address in listed
        if not (elsewhere and (e := found[address]) and e.scope is Scope.LOOPBACK)
    ]
    return tuple(sorted(kept, key=is_relayed))


def to_probe(addresses: Iterable[str], own: Collection[Ip]) -> tuple[Endpoint, ...]:
    """Return where a peer that we reach through a relay may be reached directly after all."""
    endpoints = dict.fromkeys(e for a in addresses if (e := endpoint_of(a)) is not None)
    near = {_network(ip) for ip in own if not ip.is_loopback}
    return tuple(
        e
        for e in endpoints
        if e.scope is Scope.PUBLIC or (e.scope is Scope.LOCAL and _network(e.ip) in near)
    )


def _network(ip: Ip) -> tuple[int, int]:
    return ip.version, int(ip) >> (ip.max_prefixlen - _LOCAL_BITS[ip.version])
