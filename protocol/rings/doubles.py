"""A microbatch computed twice, by another host of one of its stages, to see whether both agree.

All hosts of a stage begin a round with the same parameters, so in its first inner step they must
come to the same loss, up to rounding. The **double** goes once forward after its original has come
back, by the same stages, with one host replaced; it trains nothing, and what it fails at is no
matter. Which of two hosts that differ is wrong nobody can tell from that, so both are named.

The original's hosts cannot know that they will be compared. Whoever hosts the double can.
"""

from skerry.protocol.rings.actions import Action, Note
from skerry.protocol.rings.driving import Drive, Microbatch
from skerry.protocol.rings.plan import Route
from skerry.protocol.rings.routes import repaired
from skerry.protocol.rings.state import RingState, refuse

TOLERANCE = 0.005
"""By which share two losses may differ: activations are rounded, and machines add differently."""
REASON = "double-differs"


def double_of(microbatches: tuple[Microbatch, ...], number: int, now: float) -> Microbatch:
    """Return the double of a microbatch, which is numbered after all others."""
    tokens = microbatches[number].text_tokens
    return Microbatch(len(microbatches), tokens, not_before=now, original=microbatches[number])


def is_due(double: Microbatch) -> bool:
    """Say whether the original has come back, so that it is known who computed it."""
    return double.original is not None and double.original.trained is not None


def route_of(s: RingState, d: Drive, double: Microbatch, now: float) -> Route | None:
    """Return the original's way with one host replaced; another one each round, where it can be.

    None if no stage of it has another host that is there.
    """
    assert double.original is not None and double.original.trained is not None and d.at is not None
    route = double.original.trained
    members = sorted({hop.member for hop in route[1:] if hop.stages})
    first = d.at[0] % len(members) if members else 0
    for member in members[first:] + members[:first]:
        found = repaired(s.plan, s.ring_number, route, s.avoided(now) | {member}, 0)
        if found is not None and [hop.stages for hop in found] == [hop.stages for hop in route]:
            return found
    return None


def compare(s: RingState, double: Microbatch) -> list[Action]:
    """Name the hosts that differ between two ways if the losses do."""
    original = double.original
    assert original is not None and original.trained is not None and double.trained is not None
    assert original.loss is not None and double.loss is not None
    apart = abs(original.loss - double.loss)
    if apart <= TOLERANCE * max(abs(original.loss), abs(double.loss)):
        return []
    ways = (original.trained, double.trained)
    one, other = ({hop.member for hop in way if hop.stages} for way in ways)
    suspects = [s.ring.members[member].peer for member in sorted(one ^ other)]
    text = (
        f"microbatch {original.number} has a loss of {original.loss:.4f} by one way and of"
        f" {double.loss:.4f} by another: one of {', '.join(suspects)} computes something else"
    )
    named = [action for member in sorted(one ^ other) for action in refuse(s, member, REASON)]
    return [Note(text), *named]
