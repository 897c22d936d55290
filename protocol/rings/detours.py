"""Which detours the origin believes: those that the hop before them has announced.

A member may change only what comes after itself: the next positions, whose hosts it finds gone or
late. It tells the origin (Rerouted) before it passes the microbatch on, and the route then travels
with the activations. So a route that comes back may differ from the one that was drawn only at
positions that the member before them has spoken of. Otherwise the last hop could claim that an
honest one was passed over, and the end of the step would have that one throw its gradients away.

Announcements come by other streams than the activation that they are about, and may be later: what
comes back first is held until they are there, or until its attempt is overdue.
"""

from skerry.protocol.errors import ProtocolError
from skerry.protocol.rings.driving import Announced, Attempt
from skerry.protocol.rings.plan import Route, check_route
from skerry.protocol.rings.routes import member_at, missed, next_hop, previous_hop
from skerry.protocol.rings.state import RingState

MISSED_STAGES = "missed-stages"
"""The route misses more stages than the run allows."""
WRONG_DETOUR = "wrong-detour"
"""A member has changed what does not come next after itself, or which stages are computed there."""
UNANNOUNCED = "unannounced-detour"
"""The route differs from the drawn one where the hop before has told of no detour."""
LIES = frozenset({MISSED_STAGES, WRONG_DETOUR})
"""What no honest member tells of a detour."""


def announced_reason(s: RingState, attempt: Attempt, source: int, hop: int, route: Route) -> str:
    """Return why a detour that a member at ``hop`` tells of is not acceptable; empty if it is.

    What differs before ``hop`` others have to announce, perhaps later.
    """
    try:
        check_route(s.ring, route)
    except ProtocolError as error:
        return error.reason
    drawn = attempt.drawn
    same = len(route) == len(drawn) and hop < len(route)
    if not same or route[hop].member != source or not (route[hop].stages or hop == 0):
        return "not-on-route"
    if missed(s.plan, route) > s.most_missed:
        return MISSED_STAGES
    after = next_hop(route, hop) + 1
    as_drawn = all(
        one.stages in ((), other.stages)
        for one, other in zip(route[hop + 1 : after], drawn[hop + 1 : after], strict=True)
    )
    return "" if as_drawn and route[after:] == drawn[after:] else WRONG_DETOUR


def returned_reason(s: RingState, attempt: Attempt, source: int, route: Route) -> str:
    """Return why a route cannot be the one by which a member sent the microbatch back."""
    try:
        check_route(s.ring, route)
    except ProtocolError as error:
        return error.reason
    if len(route) != len(attempt.drawn):
        return "wrong-hop"
    if member_at(route, previous_hop(route, len(route))) != source:
        return "not-neighbour"
    return MISSED_STAGES if missed(s.plan, route) > s.most_missed else ""


def announce(attempt: Attempt, source: int, hop: int, route: Route) -> None:
    """Note what a member at ``hop`` has changed after itself."""
    last = min(next_hop(route, hop), len(route) - 1)
    attempt.announced |= {
        Announced(source, hop, at, route[at])
        for at in range(hop + 1, last + 1)
        if route[at] != attempt.drawn[at]
    }


def is_announced(attempt: Attempt, route: Route) -> bool:
    """Say whether every change of a route was announced by the hop before it."""
    return all(
        one == drawn or _by_the_hop_before(route, at) in attempt.announced
        for at, (one, drawn) in enumerate(zip(route, attempt.drawn, strict=True))
    )


def _by_the_hop_before(route: Route, at: int) -> Announced:
    before = previous_hop(route, at)
    return Announced(member_at(route, before), before, at, route[at])
