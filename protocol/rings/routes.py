"""Which way a microbatch goes: drawing planned paths, and repairing a route around a peer.

Drawing is deficit round-robin: every usable path earns its share with each microbatch, the one
that is owed most is drawn and pays for one. After a multiple of the quotas' sum each path was
drawn exactly as often as its quota says. A path that cannot be used earns nothing meanwhile, so
it does not take everything when it comes back.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from skerry.protocol.rings.plan import ORIGIN, Hop, Plan, Route


class PathRouter:
    """Deficit round-robin: draws paths in proportion to their quotas; no randomness, no clock.

    Every path earns its share with each draw; the one that is owed most is drawn and pays. While
    all are usable, each was drawn as often as its quota says after a multiple of the quotas' sum,
    and none is ahead of its share by a whole microbatch in between.
    """

    def __init__(self, quotas: Sequence[int]) -> None:
        """Begin with nothing owed."""
        self._quotas = tuple(quotas)
        self._owed = [0] * len(quotas)

    def draw(self, usable: Sequence[int]) -> int:
        """Return one of the usable paths, of which there is at least one."""
        for path in usable:
            self._owed[path] += self._quotas[path]
        drawn = max(usable, key=lambda path: (self._owed[path], -path))
        self._owed[drawn] -= sum(self._quotas[path] for path in usable)
        return drawn


def next_hop(route: Route, hop: int) -> int:
    """Return the position after ``hop`` that is not passed over; the route's length at its end."""
    after = (i for i in range(hop + 1, len(route)) if route[i].stages)
    return next(after, len(route))


def previous_hop(route: Route, hop: int) -> int:
    """Return the position before ``hop`` that is not passed over; the first never is."""
    before = (i for i in range(hop - 1, 0, -1) if route[i].stages)
    return next(before, 0)


def member_at(route: Route, hop: int) -> int:
    """Return who computes at a position; after the last it is the origin."""
    return route[hop].member if hop < len(route) else ORIGIN


def missed(plan: Plan, route: Route) -> int:
    """Return how many stages a route does not visit."""
    return len(plan.stages) - sum(len(hop.stages) for hop in route)


def detour(
    plan: Plan, ring: int, route: Route, hop: int, avoid: Collection[int], most_skipped: int
) -> Route | None:
    """Return the route with another host at ``hop``, or without it; None if there is no way.

    ``most_skipped`` is how many stages a microbatch may miss in all; the first never is.
    """
    stages = route[hop].stages
    others = (m for m in plan.rings[ring].hosts(stages) if m not in avoid)
    host = next(others, None)
    if host is not None:
        return _changed(route, hop, Hop(host, stages))
    skipped = missed(plan, route) + len(stages)
    if 0 in stages or skipped > most_skipped:
        return None
    return _changed(route, hop, replace(route[hop], stages=()))


def repaired(
    plan: Plan, ring: int, route: Route, avoid: Collection[int], most_skipped: int
) -> Route | None:
    """Return the route with every member to avoid replaced or passed over; None if impossible."""
    for hop in range(1, len(route)):
        if route[hop].stages and route[hop].member in avoid:
            changed = detour(plan, ring, route, hop, avoid, most_skipped)
            if changed is None:
                return None
            route = changed
    return route


def _changed(route: Route, hop: int, to: Hop) -> Route:
    return (*route[:hop], to, *route[hop + 1 :])
