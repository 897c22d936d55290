"""Which peers to ask for a place as relay, and when again. Pure.

A relay is any peer that can be dialled from the internet: one that the settings name, one through
which others are already reached, or a member of the run with a public address.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skerry.node.net.multiaddrs import Scope, circuit, endpoint_of, is_relayed, relay_in
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.token import split_bootstrap

WANTED = 2
"""Relays to hold a place at: one may end."""
MAX_HELD = 4
"""Places at most, also where those held are too small for payloads."""
RENEW_BEFORE_S = 1200.0
"""A place lasts an hour: renewed in its last third, one lost try costs nothing."""
RETRY_S = (2.0, 10.0, 60.0, 600.0)
"""How long a relay that refused is left alone."""
SMALL_BYTES = 2**20
"""A relay that lets less pass in one circuit carries messages, but no payloads."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place at a relay."""

    relay: PeerId
    addresses: tuple[str, ...]
    """The relay's own, direct."""
    until: float
    """Monotonic seconds at which it ends unless it is renewed."""
    circuit_bytes: int
    """What one circuit may carry in each direction; 0 without limit."""
    circuit_seconds: float
    """How long one circuit may last; 0 without limit."""

    @property
    def is_small(self) -> bool:
        """Whether it is too small for payloads."""
        return 0 < self.circuit_bytes < SMALL_BYTES

    def circuits(self) -> tuple[str, ...]:
        """Return the addresses under which others reach us through it."""
        return tuple(circuit(address, self.relay) for address in self.addresses)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A relay that gave us no place."""

    times: int
    at: float


def candidates(known: Iterable[str], me: PeerId) -> dict[PeerId, tuple[str, ...]]:
    """Return who may be a relay, the nearest first, with its direct addresses.

    Args:
        known: full multiaddrs of peers and of what leads through relays; malformed ones are
            passed over.
    """
    found: dict[PeerId, tuple[str, ...]] = {}
    for full in known:
        try:
            peer, address = split_bootstrap(full)
        except ProtocolError:
            continue
        pair = relay_in(address) if is_relayed(address) else (peer, address)
        if pair is not None and pair[0] != me and _is_public(pair[1]):
            found[pair[0]] = tuple(dict.fromkeys((*found.get(pair[0], ()), pair[1])))
    return found


def to_ask(
    found: Iterable[PeerId],
    places: Mapping[PeerId, Place],
    refusals: Mapping[PeerId, Refusal],
    now: float,
) -> list[PeerId]:
    """Return whom to ask now: places that end soon, and as many new ones as are missing."""
    renewed = [peer for peer, place in places.items() if place.until - now < RENEW_BEFORE_S]
    good = sum(not place.is_small for place in places.values())
    missing = min(WANTED - good, MAX_HELD - len(places))
    free = [
        peer
        for peer in found
        if peer not in places and (peer not in refusals or now >= _again(refusals[peer]))
    ]
    return [*renewed, *free[: max(0, missing)]]


def _again(refusal: Refusal) -> float:
    return refusal.at + RETRY_S[min(refusal.times, len(RETRY_S)) - 1]


def _is_public(address: str) -> bool:
    """Say whether others can dial it; names are taken to be public."""
    if address.startswith("/dns"):
        return True
    endpoint = endpoint_of(address)
    return endpoint is not None and endpoint.scope is Scope.PUBLIC
