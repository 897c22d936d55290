"""What the addresses under which others see us say of the way here. Pure.

Mapping behaviours are those of RFC 4787, section 4.1: "endpoint-independent" keeps one outer port
for one inner port, whomever it talks to, so that others can be told where to dial; "symmetric"
(address- and port-dependent) takes another for everyone, so that nobody can.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from skerry.node.net.multiaddrs import Endpoint, Ip, Scope
from skerry.protocol.ids import PeerId


class Nat(StrEnum):
    """Which address translation lies between this node and the internet."""

    NONE = "none"
    ENDPOINT_INDEPENDENT = "endpoint-independent"
    SYMMETRIC = "symmetric"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """Whether others can dial this node from the internet."""

    REACHABLE = "reachable"
    NOT_REACHABLE = "not-reachable"
    UNKNOWN = "unknown"
    """Nobody out there has been asked yet."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one peer saw of us once."""

    observer: PeerId
    seen: Endpoint
    """Where our connection came from."""
    answered: frozenset[int]
    """Ports at that IP address under which it could dial us back."""
    exact: bool = False
    """Whether that connection certainly left the port that we listen on: p2pd takes another one
    where an ended connection still blocks it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How this node stands towards the internet."""

    verdict: Verdict = Verdict.UNKNOWN
    nat: Nat = Nat.UNKNOWN
    open: tuple[Endpoint, ...] = ()
    """Where others have been able to dial us."""
    outer: Endpoint | None = None
    """Where our connections come from, as last seen: what others punch a hole towards."""
    observers: int = 0
    """How many peers this rests on."""


def judge(own: Collection[Ip], port: int, observations: Iterable[Observation]) -> Standing:
    """Draw conclusions.

    Args:
        own: the addresses of this machine's interfaces.
        port: the TCP port that we listen on, and dial from.
        observations: oldest first. Those that did not come over the internet say nothing of it.
    """
    public = [o for o in observations if o.seen.scope is Scope.PUBLIC]
    if not public:
        return Standing()
    newest = {o.seen.ip.version: o.seen.ip for o in public}  # others are of another network
    seen = [o for o in public if o.seen.ip in newest.values()]
    found = {Endpoint(o.seen.ip, p) for o in seen for p in o.answered}
    kept = _kept(port, seen)
    return Standing(
        verdict=Verdict.REACHABLE if found else Verdict.NOT_REACHABLE,
        nat=_nat(own, port, seen),
        open=tuple(sorted(found, key=str)),
        outer=(kept or seen[-1]).seen,
        observers=len({o.observer for o in seen}),
    )


def _kept(port: int, seen: list[Observation]) -> Observation | None:
    """Return the newest sight of our listening port, if that is the same outside."""
    exact = [o for o in seen if o.exact and o.seen.ip == seen[-1].seen.ip]
    return exact[-1] if exact and exact[-1].seen.port == port else None


def _nat(own: Collection[Ip], port: int, seen: list[Observation]) -> Nat:
    if all(o.seen.ip in own for o in seen):
        return Nat.NONE
    if _kept(port, seen) is not None:
        return Nat.ENDPOINT_INDEPENDENT
    newest = seen[-1].seen
    outside = [o for o in seen if o.seen.ip == newest.ip]
    if len({o.seen.port for o in outside}) > 1:
        return Nat.SYMMETRIC
    # The same port as inside, or the same for two peers, cannot well be chance.
    if newest.port == port or len({o.observer for o in outside}) > 1:
        return Nat.ENDPOINT_INDEPENDENT
    return Nat.UNKNOWN
