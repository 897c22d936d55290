"""How this node stands towards the internet, in plain words, and what its user can do. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from skerry.node.reach.nat import Nat, Standing, Verdict
from skerry.node.reach.relays import Place
from skerry.protocol.ids import short

_NATS = {
    Nat.NONE: "this machine has a public address, which a firewall shuts off",
    Nat.ENDPOINT_INDEPENDENT: "its router keeps ports as they are (endpoint-independent NAT), so "
    "direct connections can be made to most other peers",
    Nat.SYMMETRIC: "its router gives every connection another port (symmetric NAT), so direct "
    "connections can be made to reachable peers only",
    Nat.UNKNOWN: "its router changes ports, in a way that one observer alone cannot tell",
}
_FORWARD = (
    "Forward TCP port {port} in the router to this machine or switch on UPnP there, or run "
    "skerry daemon --relay on a machine with a public address: see docs/guide/reachability.md."
)
_DIRECT = (
    "For direct connections to all peers, forward TCP port {port} in the router to this machine or "
    "switch on UPnP there: see docs/guide/reachability.md."
)
_OPEN = "For direct connections, open TCP port {port} in the firewall of this machine."


@dataclass(frozen=True, slots=True)
class Words:
    """What a user is told."""

    summary: str
    advice: str
    """Empty if there is nothing to do."""


def in_words(
    standing: Standing, places: Sequence[Place], port: int, beyond: bool, relay: Sequence[str] = ()
) -> Words:
    """Describe how this node is reached.

    Args:
        port: that it listens on.
        beyond: whether others may be beyond NATs; False if it listens on loopback alone.
        relay: full multiaddrs under which others name it as their relay; none if it is none.
    """
    words = _in_words(standing, places, port, beyond)
    if not relay:
        return words
    return replace(words, summary=f"{words.summary}; relays for others, as {' or '.join(relay)}")


def _in_words(standing: Standing, places: Sequence[Place], port: int, beyond: bool) -> Words:
    if not beyond:
        return Words("listens for peers on this machine only", "")
    if standing.verdict is Verdict.REACHABLE:
        where = ", ".join(map(str, standing.open))
        return Words(f"reachable from the internet at {where}", "")
    if standing.verdict is Verdict.UNKNOWN and not places:
        return Words("not known yet: no peer on the internet has been asked", "")
    return _hidden(standing, places, port)


def _hidden(standing: Standing, places: Sequence[Place], port: int) -> Words:
    known = standing.verdict is Verdict.NOT_REACHABLE
    nat = f"not reachable from the internet: {_NATS[standing.nat]}" if known else "being found out"
    if not places:
        return Words(
            f"{nat}; no relay leads here, so only peers it dials itself can be met",
            _FORWARD.format(port=port),
        )
    names = ", ".join(short(place.relay) for place in places)
    if all(place.is_small for place in places):
        size = max(place.circuit_bytes for place in places) // 1024
        told = f"{nat}; relay {names} lets only {size} KiB pass at a time"
        return Words(told, _FORWARD.format(port=port))
    told = f"{nat}; others reach it through relay {names}"
    return Words(told, _for_direct(standing.nat).format(port=port) if known else "")


def _for_direct(nat: Nat) -> str:
    """Return what would get relayed peers a direct connection where holes do not."""
    if nat is Nat.ENDPOINT_INDEPENDENT:
        return ""
    return _OPEN if nat is Nat.NONE else _DIRECT
