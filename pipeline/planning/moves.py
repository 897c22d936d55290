"""The steps of annealing: small changes to one or two rings, or none if chance chose badly.

Swap two peers, or one with a spare; reverse a part of a ring; move a stage to the neighbour; give
microbatches to another ring; let two rings of a skipping run exchange a stage; take a peer out of a
ring or put a spare into one. No move gives a peer more than it may host, and none changes how many
microbatches visit each stage in total.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from skerry.pipeline.planning.draft import RingDraft, StagePath, Workshop


@dataclass(slots=True)
class Layout:
    """What annealing changes: the rings and who is left over."""

    rings: list[RingDraft]
    spares: list[int]

    def copy(self) -> "Layout":
        """Return one that can be changed independently."""
        return Layout(list(self.rings), list(self.spares))


@dataclass(frozen=True, slots=True)
class Change:
    """What one move replaces."""

    rings: Mapping[int, RingDraft]
    spares: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """What a move may look at: the layout, two places in it, and chance."""

    layout: Layout
    workshop: Workshop
    rng: Random
    first: int
    """A ring, the slowest in every second draw."""
    second: int
    """Any ring."""

    def ring(self) -> RingDraft:
        """Return the first ring."""
        return self.layout.rings[self.first]

    def other(self) -> RingDraft:
        """Return the second ring."""
        return self.layout.rings[self.second]


def propose(
    layout: Layout, times: Sequence[float], workshop: Workshop, rng: Random
) -> Change | None:
    """Draw one move."""
    count = len(layout.rings)
    slowest = max(range(count), key=times.__getitem__)
    first = slowest if rng.random() < 0.5 else rng.randrange(count)
    draw = Draw(layout, workshop, rng, first, rng.randrange(count))
    (move,) = rng.choices(_MOVES, _WEIGHTS)
    change = move(draw)
    if change is not None and all(_allowed(ring, workshop) for ring in change.rings.values()):
        return change
    return None


def _allowed(ring: RingDraft, workshop: Workshop) -> bool:
    return all(map(workshop.fits, ring.members, ring.stages))


def _swap_peers(draw: Draw) -> Change | None:
    """Let two members, of one ring or of two, do each other's work."""
    ring, other = draw.ring(), draw.other()
    a, b = draw.rng.randrange(len(ring.members)), draw.rng.randrange(len(other.members))
    x, y = ring.members[a], other.members[b]
    if x == y:
        return None
    if draw.first == draw.second:
        return Change({draw.first: _with_members(ring, {a: y, b: x})})
    changed = {draw.first: _with_members(ring, {a: y}), draw.second: _with_members(other, {b: x})}
    return Change(changed)


def _swap_spare(draw: Draw) -> Change | None:
    """Let a spare do a member's work."""
    spares = draw.layout.spares
    if not spares:
        return None
    ring, place = draw.ring(), draw.rng.randrange(len(draw.ring().members))
    chosen = draw.rng.randrange(len(spares))
    left = (*spares[:chosen], *spares[chosen + 1 :], ring.members[place])
    return Change({draw.first: _with_members(ring, {place: spares[chosen]})}, left)


def _reverse(draw: Draw) -> Change | None:
    """Reverse the peers of a part of a ring."""
    ring = draw.ring()
    a, b = sorted(draw.rng.randrange(len(ring.members)) for _ in range(2))
    if b - a < 2:
        return None
    members = ring.members
    turned = (*members[:a], *reversed(members[a : b + 1]), *members[b + 1 :])
    return Change({draw.first: replace(ring, members=turned)})


def _shift_stage(draw: Draw) -> Change | None:
    """Give a member's first or last stage to its neighbour."""
    ring = draw.ring()
    if len(ring.members) < 2 or draw.workshop.skips:
        return None
    place, stages = draw.rng.randrange(len(ring.members) - 1), list(ring.stages)
    if draw.rng.random() < 0.5 and len(stages[place]) > 1:
        stages[place + 1] = (stages[place][-1], *stages[place + 1])
        stages[place] = stages[place][:-1]
    elif len(stages[place + 1]) > 1:
        stages[place] = (*stages[place], stages[place + 1][0])
        stages[place + 1] = stages[place + 1][1:]
    else:
        return None
    return Change({draw.first: replace(ring, stages=tuple(stages))})


def _shift_microbatches(draw: Draw) -> Change | None:
    """Let another ring do microbatches of the same stages: one, or any number but the last.

    Where few slots make a ring work in waves, one fewer gains nothing, but a wave fewer does.
    """
    ring, rings = draw.ring(), draw.layout.rings
    path = draw.rng.randrange(len(ring.paths))
    stages, count = ring.paths[path]
    able = [i for i, other in enumerate(rings) if i != draw.first and stages in dict(other.paths)]
    if not able or count < 2:
        return None
    second = draw.rng.choice(able)
    match = next(i for i, (own, _) in enumerate(rings[second].paths) if own == stages)
    number = 1 if draw.rng.random() < 0.5 else draw.rng.randint(1, count - 1)
    changed = {
        draw.first: _counted(ring, path, -number),
        second: _counted(rings[second], match, number),
    }
    return Change(changed)


def _exchange_stages(draw: Draw) -> Change | None:
    """Let two rings that skip different stages exchange one of them."""
    ring, other = draw.ring(), draw.other()
    if ring.microbatches != other.microbatches or not (_is_plain(ring) and _is_plain(other)):
        return None
    own, others = set(ring.paths[0][0]), set(other.paths[0][0])
    if own == others:
        return None
    given = draw.rng.choice(sorted(own - others))
    taken = draw.rng.choice(sorted(others - own))
    changed = {
        draw.first: _restaged(ring, given, taken),
        draw.second: _restaged(other, taken, given),
    }
    return Change(changed)


def _take_out(draw: Draw) -> Change | None:
    """Make a member a spare; its neighbour takes its stages."""
    ring, workshop = draw.ring(), draw.workshop
    fewest = 1 if workshop.problem.limits.full_replicas else 2
    if len(ring.members) <= fewest or workshop.skips:
        return None
    place, stages = draw.rng.randrange(1, len(ring.members)), list(ring.stages)
    stages[place - 1] = (*stages[place - 1], *stages.pop(place))
    members = (*ring.members[:place], *ring.members[place + 1 :])
    left = (*draw.layout.spares, ring.members[place])
    return Change({draw.first: replace(ring, members=members, stages=tuple(stages))}, left)


def _put_in(draw: Draw) -> Change | None:
    """Let a spare take a part of a member's stages."""
    ring, spares = draw.ring(), draw.layout.spares
    place, stages = draw.rng.randrange(len(ring.members)), list(ring.stages)
    if not spares or len(stages[place]) < 2 or draw.workshop.skips:
        return None
    cut, chosen = draw.rng.randrange(1, len(stages[place])), draw.rng.randrange(len(spares))
    stages[place : place + 1] = [stages[place][:cut], stages[place][cut:]]
    members = (*ring.members[: place + 1], spares[chosen], *ring.members[place + 1 :])
    left = (*spares[:chosen], *spares[chosen + 1 :])
    return Change({draw.first: replace(ring, members=members, stages=tuple(stages))}, left)


def _is_plain(ring: RingDraft) -> bool:
    """Say whether each member hosts one stage and all microbatches visit all of them."""
    return len(ring.paths) == 1 and all(len(own) == 1 for own in ring.stages)


def _with_members(ring: RingDraft, changed: Mapping[int, int]) -> RingDraft:
    members = tuple(changed.get(place, peer) for place, peer in enumerate(ring.members))
    return replace(ring, members=members)


def _counted(ring: RingDraft, path: int, more: int) -> RingDraft:
    paths: list[StagePath] = list(ring.paths)
    paths[path] = (paths[path][0], paths[path][1] + more)
    return replace(ring, paths=tuple(paths))


def _restaged(ring: RingDraft, given: int, taken: int) -> RingDraft:
    """Let the host of one stage host another, and keep hops in the order of stages."""
    renamed = [tuple(taken if s == given else s for s in own) for own in ring.stages]
    order = sorted(range(len(renamed)), key=renamed.__getitem__)
    stages, count = tuple(renamed[i] for i in order), ring.paths[0][1]
    path = tuple(stage for own in stages for stage in own)
    return RingDraft(tuple(ring.members[i] for i in order), stages, ((path, count),))


Move = Callable[[Draw], Change | None]
_MOVES: tuple[Move, ...] = (
    _swap_peers,
    _swap_spare,
    _reverse,
    _shift_stage,
    _shift_microbatches,
    _exchange_stages,
    _take_out,
    _put_in,
)
_WEIGHTS = (10, 4, 2, 3, 4, 6, 1, 1)
