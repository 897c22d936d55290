"""First layouts whose rings host every stage: full replicas, rings of near peers, the rest."""

from collections.abc import Sequence
from math import inf

from skerry.pipeline.planning.clusters import clusters, short_tour
from skerry.pipeline.planning.cuts import minimax_cuts
from skerry.pipeline.planning.draft import RingDraft, StagePath, Workshop
from skerry.pipeline.planning.moves import Layout
from skerry.protocol.manifest import LEAST_SWAPPED

Group = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]
"""Members, the origin first, and the stages of each."""


def complete_layout(workshop: Workshop, free: Sequence[int], given: Sequence[Group]) -> Layout:
    """Form full replicas and rings of ``free`` peers beside given ones; all host every stage."""
    alone, pool = divided(workshop, free)
    rings, spares = _complete_rings(workshop, pool)
    stages = tuple(range(len(workshop.cuts)))
    groups = [*given, *(((peer,), (stages,)) for peer in alone), *rings]
    counts = _shared_out(workshop, groups)
    drafts = [
        RingDraft(members, own, paths_over(workshop, stages, count))
        for (members, own), count in zip(groups, counts, strict=True)
    ]
    return Layout(drafts, spares)


def divided(workshop: Workshop, peers: Sequence[int]) -> tuple[list[int], list[int]]:
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

    fewest = 1 if workshop.problem.limits.full_replicas else 2

    def enough(group: list[int]) -> bool:
        if len(group) < fewest or 1 + sum(rooms[peer] for peer in group) < stages:
            return False  # so at once in most cases
        return staged(workshop, led(workshop, group)) is not None

    origins = [peer for peer in pool if workshop.fits(peer, (0,))]
    groups, spares = clusters(hops_NN, pool, enough, stages, origins)
    rings = []
    for group in groups:  # memory may forbid the short order; that of gathering is known to do
        orders = (led(workshop, short_tour(hops_NN, group)), led(workshop, group))
        rings.append(next((tuple(one), own) for one in orders if (own := staged(workshop, one))))
    return rings, spares


def led(workshop: Workshop, group: list[int]) -> list[int]:
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


def paths_over(
    workshop: Workshop, stages: tuple[int, ...], count: int, before: int = 0, total: int = 0
) -> tuple[StagePath, ...]:
    """Return the paths over some stages; with ``swap_ratio`` a part takes the ends in reverse.

    Args:
        count: microbatches, of ``total`` in the ring (0: these are all), after ``before`` others.
    """
    ratio, total = workshop.problem.limits.swap_ratio, total or count
    all_swapped = max(round(total * ratio), 1) if ratio else 0
    swapped = round((before + count) * all_swapped / total) - round(before * all_swapped / total)
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
    if len(ends) < LEAST_SWAPPED:
        return stages
    return (*stages[:skip], ends[1], ends[0], *ends[2:-2], ends[-1], ends[-2])
