"""The layout that annealing begins with: who is a full replica, which rings, who is left over."""

from collections.abc import Sequence
from functools import partial
from math import ceil, inf

from skerry.pipeline.planning.clusters import clusters, gather, short_tour
from skerry.pipeline.planning.cuts import minimax_cuts
from skerry.pipeline.planning.draft import RingDraft, StagePath, Workshop
from skerry.pipeline.planning.moves import Layout
from skerry.pipeline.planning.problem import skipped
from skerry.pipeline.planning.quotas import equal_visits, wrapped_paths

Group = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]
"""Members, the origin first, and the stages of each."""


def first_layout(workshop: Workshop) -> Layout:
    """Return rings of peers near each other; no rings if the peers cannot hold the model."""
    peers, stages = range(len(workshop.problem.peers)), len(workshop.cuts)
    skips = skipped(stages, workshop.problem.limits.skip_ratio)
    if skips:
        return _skipping(workshop, peers, stages - 1 - skips)
    return complete_layout(workshop, peers, [])


def complete_layout(workshop: Workshop, free: Sequence[int], given: Sequence[Group]) -> Layout:
    """Form full replicas and rings of ``free`` peers beside given ones; all host every stage."""
    alone, pool = _divided(workshop, free)
    rings, spares = _complete_rings(workshop, pool)
    stages = tuple(range(len(workshop.cuts)))
    groups = [*given, *(((peer,), (stages,)) for peer in alone), *rings]
    counts = _shared_out(workshop, groups)
    drafts = [
        RingDraft(members, own, _paths(workshop, stages, count))
        for (members, own), count in zip(groups, counts, strict=True)
    ]
    return Layout(drafts, spares)


def _divided(workshop: Workshop, peers: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return who trains the whole model alone, and who does not."""
    stages = tuple(range(len(workshop.cuts)))
    if not workshop.problem.limits.full_replicas:
        return [], list(peers)
    alone = [peer for peer in peers if workshop.fits(peer, stages)]
    return alone, [peer for peer in peers if peer not in set(alone)]


def _complete_rings(workshop: Workshop, pool: Sequence[int]) -> tuple[list[Group], list[int]]:
    """Form rings that host every stage; return them and the peers left over."""
    hops_NN, stages = workshop.simulator.hops_NN(), len(workshop.cuts)
    rooms = {peer: workshop.room(peer) for peer in pool}

    def enough(group: list[int]) -> bool:
        if 1 + sum(rooms[peer] for peer in group) < stages:  # decides most cases, at once
            return False
        return staged(workshop, _led(workshop, group)) is not None

    groups, spares = clusters(hops_NN, pool, enough, stages)
    rings = []
    for group in groups:
        ordered = _led(workshop, short_tour(hops_NN, group))
        found = staged(workshop, ordered)
        if found is None:  # only in this order; the order of gathering is known to do
            ordered = _led(workshop, group)
            found = staged(workshop, ordered)
        if found is not None:
            rings.append((tuple(ordered), found))
    return rings, spares


def _led(workshop: Workshop, group: list[int]) -> list[int]:
    """Rotate a group so that one that can be the origin, the fastest of these, comes first."""
    able = [peer for peer in group if workshop.fits(peer, (0,))]
    if not able:
        return group
    first = group.index(min(able, key=lambda peer: workshop.seconds(peer, (0,))))
    return group[first:] + group[:first]


def staged(workshop: Workshop, members: Sequence[int]) -> tuple[tuple[int, ...], ...] | None:
    """Divide all stages among members in their order, the slowest as fast as possible."""

    def cost(place: int, begin: int, end: int) -> float:
        own = tuple(range(begin, end))
        return workshop.seconds(members[place], own) if workshop.fits(members[place], own) else inf

    stages = len(workshop.cuts)
    if len(members) > stages:
        return None
    ends = minimax_cuts(stages, len(members), cost)
    begins = (0, *ends[:-1])
    return tuple(tuple(range(i, j)) for i, j in zip(begins, ends, strict=True)) if ends else None


def _shared_out(workshop: Workshop, groups: Sequence[Group]) -> list[int]:
    """Share the microbatches of an inner step in proportion to how fast rings can be."""
    traffic = workshop.problem.traffic
    total = traffic.microbatches or traffic.per_ring * len(groups)
    if not groups:
        return []
    rates = [1 / max(map(workshop.seconds, *group)) for group in groups]
    shares = [total * rate / sum(rates) for rate in rates]
    counts = [max(int(share), 1) for share in shares]
    by_remainder = sorted(range(len(groups)), key=lambda i: (counts[i] - shares[i], i))
    for i in by_remainder[: max(total - sum(counts), 0)]:
        counts[i] += 1
    return counts


def _paths(workshop: Workshop, stages: tuple[int, ...], count: int) -> tuple[StagePath, ...]:
    """Return the paths over some stages; with ``swap_ratio`` a part takes the ends in reverse."""
    swapped = round(count * workshop.problem.limits.swap_ratio)
    turned = swapped_ends(stages, workshop.units(0) > 0)
    if not swapped or turned == stages:
        return ((stages, count),)
    if swapped == count:
        return ((turned, count),)
    return ((stages, count - swapped), (turned, swapped))


def swapped_ends(stages: tuple[int, ...], first_has_blocks: bool) -> tuple[int, ...]:
    """Return stages with the first two and the last two that have blocks in reverse.

    Unchanged where these are not four (CheckFree+, arXiv 2506.15461, section 4.3).
    """
    skip = 0 if first_has_blocks else 1
    ends = stages[skip:]
    if len(ends) < 4:
        return stages
    return (*stages[:skip], ends[1], ends[0], *ends[2:-2], ends[-1], ends[-2])


def _skipping(workshop: Workshop, peers: Sequence[int], length: int) -> Layout:
    """Form rings whose members host one stage each, and as few as paths of ``length`` need.

    A full replica skips too: it hosts all stages and takes each of its paths equally often.
    """
    middle = len(workshop.cuts) - 1
    alone, pool = _divided(workshop, peers)
    hosted = _hosted(len(pool), length, middle)
    hops_NN = workshop.simulator.hops_NN()
    groups: list[list[int]] = []
    spares = list(pool)
    for size in (len(own) + 1 for own in hosted):
        group = gather(hops_NN, spares, partial(_is_of, size), size) or []
        groups.append(_led(workshop, short_tour(hops_NN, group)))
        spares = [peer for peer in spares if peer not in set(group)]
    everything = frozenset(range(1, middle + 1))
    shares = [everything] * len(alone) + hosted
    counts = _skip_counts(workshop, len(shares), length, middle)
    visits = equal_visits(shares, counts, length, middle)
    if visits is None:
        return Layout([], list(range(len(workshop.problem.peers))))
    rings = []
    for place, (own, mine) in enumerate(zip(shares, visits, strict=True)):
        paths = tuple(
            path
            for chosen, number in wrapped_paths(mine, counts[place])
            for path in _paths(workshop, (0, *chosen), number)
        )
        if place < len(alone):
            rings.append(RingDraft((alone[place],), (tuple(range(middle + 1)),), paths))
        else:
            members = tuple(groups[place - len(alone)])
            rings.append(RingDraft(members, ((0,), *((s,) for s in sorted(own))), paths))
    return Layout(rings, spares)


def _hosted(peers: int, length: int, middle: int) -> list[frozenset[int]]:
    """Return the middle stages that each ring hosts: each stage equally often, most rings."""
    for rings in range(peers // (1 + length), 0, -1):
        hosts = middle * ceil(rings * length / middle)
        if rings + hosts <= peers:
            break
    else:
        return []
    sizes = [hosts // rings + (ring < hosts % rings) for ring in range(rings)]
    places = iter(range(hosts))
    return [frozenset(next(places) % middle + 1 for _ in range(size)) for size in sizes]


def _skip_counts(workshop: Workshop, rings: int, length: int, middle: int) -> list[int]:
    """Return the same number of microbatches for each ring, such that visits can be equal."""
    traffic = workshop.problem.traffic
    each = max(round(traffic.microbatches / rings) if traffic.microbatches else traffic.per_ring, 1)
    while rings and each * rings * length % middle:
        each += 1
    return [each] * rings


def _is_of(size: int, group: Sequence[int]) -> bool:
    return len(group) == size
