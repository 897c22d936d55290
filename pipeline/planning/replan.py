"""Another plan from a running one: a peer came, went or became slow.

Stage cuts stay, so that what peers hold stays useful. What a ring has lost goes to those who stand
by and have room: first to one that keeps a copy of it, then to the nearest. What none of them can
take goes to the neighbour with room that is the least busy then. If there is none, the ring is
given up for the others; where paths skip stages all rings are: else visits would not be equal any
more. Peers that are new join as full replicas or rings if they can. Then a shorter annealing
follows, in which every stage that a peer would have to fetch costs a fine: one that no gain
outweighs while a ring is to be mended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from skerry.pipeline.planning.annealing import Score, anneal
from skerry.pipeline.planning.draft import RingDraft, Workshop
from skerry.pipeline.planning.layouts import complete_layout
from skerry.pipeline.planning.moves import Layout
from skerry.pipeline.planning.plan import Plan, Ring
from skerry.pipeline.planning.planner import USUAL, Budget, finished, first_layout, make_plan
from skerry.pipeline.planning.problem import Problem
from skerry.pipeline.planning.simulator import Simulator

_MOVE_FINE = 0.1
"""Of the slowest ring's step, for each stage that a peer has to fetch: it is out of work while it
does, so what it gains has to show; and links measure differently from one minute to the next."""
_MENDING_FINE = 1.0
"""The same while a ring lacks a member: a second one out of work keeps it broken for longer."""

_Homes = Mapping[int, tuple[int, ...]]
_Kept = Mapping[int, frozenset[int]]
"""The lost stages of which each peer keeps a copy."""


def replan(running: Plan, problem: Problem, budget: Budget = USUAL) -> Plan:
    """Return the next version of a running plan, for the peers that there are now.

    Raises: ConfigError("SK-PLN-001") if they cannot hold the model.
    """
    version = running.version + 1
    fits_model = bool(running.stages) and running.stages[-1].stop == problem.model.blocks
    workshop = Workshop(problem, Simulator(problem), running.stages)
    layout = (_repaired(workshop, running) or first_layout(workshop)) if fits_model else None
    if layout is None or not layout.rings:
        return make_plan(problem, budget, version)
    broken = _is_broken(running, problem)
    homes = _homes(running, problem)
    if broken:
        homes = _mending(homes, layout, _kept(running, problem))
    slowest = max(map(workshop.step_s, layout.rings))
    fine = _MENDING_FINE if broken else _MOVE_FINE
    score = Score(workshop, homes, slowest * fine)
    moves = budget.warm_moves(len(problem.peers))
    found = anneal(layout, score, moves, budget.seed, budget.watch)
    return finished(workshop, found, version)


def _is_broken(running: Plan, problem: Problem) -> bool:
    """Say whether a ring has lost a member."""
    here = {peer.name for peer in problem.peers}
    return any(member.peer not in here for ring in running.rings for member in ring.members)


def _homes(running: Plan, problem: Problem) -> _Homes:
    """Return the stages of every peer that is still there; spares host none."""
    index = {peer.name: place for place, peer in enumerate(problem.peers)}
    hosts = {member.peer: member.stages for ring in running.rings for member in ring.members}
    hosts |= dict.fromkeys(running.spares, ())
    return {index[name]: stages for name, stages in hosts.items() if name in index}


def _mending(homes: _Homes, layout: Layout, kept: _Kept) -> _Homes:
    """Return what nobody has to fetch while a ring is mended.

    Whoever stood by and is given a stage of which it keeps a copy has it; newcomers have nothing.
    """
    placed = {
        peer: own
        for ring in layout.rings
        for peer, own in zip(ring.members, ring.stages, strict=True)
    }
    found = dict.fromkeys((*placed, *layout.spares), ()) | dict(homes)
    has = {
        peer: tuple(stage for stage in own if stage in kept.get(peer, ()))
        for peer, own in placed.items()
        if not found[peer]
    }
    return found | has


def _kept(running: Plan, problem: Problem) -> _Kept:
    """Return who was to keep copies of the stages that no ring hosts any more."""
    index = {peer.name: place for place, peer in enumerate(problem.peers)}
    members = [member for ring in running.rings for member in ring.members]
    hosted = {stage for member in members if member.peer in index for stage in member.stages}
    shadows = [one for one in running.shadows if one.holder in index and one.stage not in hosted]
    return {
        holder: frozenset(one.stage for one in shadows if index[one.holder] == holder)
        for holder in {index[one.holder] for one in shadows}
    }


def _repaired(workshop: Workshop, running: Plan) -> Layout | None:
    """Return the running layout with gaps closed; None if a new one has to be made."""
    index = {peer.name: place for place, peer in enumerate(workshop.problem.peers)}
    used = {member.peer for ring in running.rings for member in ring.members}
    spares = [place for name, place in index.items() if name not in used]
    rings, broken = [], []
    for ring in running.rings:
        draft, gaps = _drafted(ring, index)
        if not gaps and all(map(workshop.fits, draft.members, draft.stages)):
            rings.append(draft)
        else:
            broken.append((draft, gaps))
    kept = _kept(running, workshop.problem)
    for draft, gaps in sorted(broken, key=lambda one: len(one[1])):
        whole = _closed(workshop, draft, gaps, spares, kept)
        if whole is None:
            spares += [peer for peer in draft.members if peer >= 0]
        else:
            rings.append(whole)
            spares = [peer for peer in spares if peer not in whole.members]
    same = len(rings) == len(running.rings)
    if workshop.skips:
        return Layout(rings, spares) if same else None  # visits would no longer be equal
    groups = [(ring.members, ring.stages) for ring in rings]
    layout = complete_layout(workshop, spares, groups)
    if same and len(layout.rings) == len(rings):
        return Layout(rings, layout.spares)  # with the microbatches they had
    return layout if layout.rings else None


def _drafted(ring: Ring, index: dict[str, int]) -> tuple[RingDraft, list[int]]:
    """Return a ring with -1 for peers that are gone, and their places."""
    members = tuple(index.get(member.peer, -1) for member in ring.members)
    stages = tuple(member.stages for member in ring.members)
    paths = tuple(
        (tuple(stage for hop in path.hops for stage in hop.stages), path.microbatches)
        for path in ring.paths
    )
    gaps = [place for place, peer in enumerate(members) if peer < 0]
    return RingDraft(members, stages, paths), gaps


def _closed(
    workshop: Workshop, draft: RingDraft, gaps: Sequence[int], spares: Sequence[int], kept: _Kept
) -> RingDraft | None:
    """Fill the gaps of a ring with spares, then let neighbours take over; None if neither works."""
    members, left = list(draft.members), list(spares)
    unfit = [
        p for p, own in enumerate(draft.stages) if p in gaps or not workshop.fits(members[p], own)
    ]
    while unfit:
        near = [peer for peer in members if peer >= 0]
        able = [(p, one) for p in unfit for one in left if workshop.fits(one, draft.stages[p])]
        if not able:
            return _taken_over(workshop, replace(draft, members=tuple(members)), unfit)
        place, best = min(able, key=lambda pair: _cost(workshop, draft, pair, near, kept))
        members[place] = best
        unfit.remove(place)
        left.remove(best)
    return replace(draft, members=tuple(members))


def _cost(
    workshop: Workshop, draft: RingDraft, pair: tuple[int, int], near: Sequence[int], kept: _Kept
) -> tuple[int, int, float, int]:
    """Return by what a spare is chosen for a place: who keeps copies first, then who is near."""
    place, peer = pair
    lacks = set(draft.stages[place]) - kept.get(peer, frozenset())
    return len(lacks), place, _distance(workshop, peer, near), peer


def _distance(workshop: Workshop, peer: int, others: Sequence[int]) -> float:
    return sum(workshop.simulator.hop_s(peer, other) for other in others if other != peer)


def _taken_over(workshop: Workshop, draft: RingDraft, gaps: Sequence[int]) -> RingDraft | None:
    """Give the stages of these members to neighbours with room, each to the least busy one."""
    if workshop.skips:
        return None
    stages = dict(enumerate(draft.stages))
    left = [stages.pop(place) for place in gaps]
    while left:
        found = ((own, _taker(workshop, draft, stages, own)) for own in left)
        own, taker = next((pair for pair in found if pair[1] is not None), (left[0], None))
        if taker is None:
            return None
        left.remove(own)
        stages[taker] = tuple(sorted((*stages[taker], *own)))
    places = sorted(stages, key=lambda place: (0 not in stages[place], place))  # the origin first
    members = tuple(draft.members[place] for place in places)
    hosted = tuple(stages[place] for place in places)
    return RingDraft(members, hosted, draft.paths)


def _taker(
    workshop: Workshop, draft: RingDraft, stages: dict[int, tuple[int, ...]], own: tuple[int, ...]
) -> int | None:
    """Return the place of the member with room beside lost stages that is least busy with them."""
    beside = {stage + side for stage in own for side in (-1, 1)}
    able = [
        place
        for place, there in stages.items()
        if beside & set(there) and workshop.fits(draft.members[place], (*there, *own))
    ]
    busy = {place: workshop.seconds(draft.members[place], (*stages[place], *own)) for place in able}
    return min(able, key=lambda place: (busy[place], place), default=None)
