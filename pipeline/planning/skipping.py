"""First layouts for microbatches that skip stages: a ring hosts no more stages than its paths need.

Every middle stage is hosted, and visited, equally often; the first stage is never skipped
(SkipPipe, arXiv 2502.19913). A full replica hosts all stages and takes each of its paths equally
often.
"""

from collections.abc import Sequence
from functools import partial
from math import ceil

from skerry.pipeline.planning.clusters import Distances, gather, short_tour
from skerry.pipeline.planning.draft import RingDraft, StagePath, Workshop
from skerry.pipeline.planning.layouts import divided, led, paths_over
from skerry.pipeline.planning.moves import Layout
from skerry.pipeline.planning.quotas import equal_visits, wrapped_paths


def skipping_layout(workshop: Workshop) -> Layout:
    """Return rings whose members host one stage each; none if that cannot be."""
    middle = len(workshop.cuts) - 1
    length = middle - workshop.skips
    peers = range(len(workshop.problem.peers))
    alone, pool = divided(workshop, peers)
    hosted = _hosted(len(_able(workshop, pool)), length, middle)
    groups = _groups(workshop, _able(workshop, pool), [len(own) + 1 for own in hosted])
    shares = [frozenset(range(1, middle + 1))] * len(alone) + hosted
    if not shares:
        return Layout([], list(peers))
    counts = _counts(workshop, len(shares), length, middle)
    visits = equal_visits(shares, counts, length, middle)
    if groups is None or visits is None:
        return Layout([], list(peers))
    members = [(peer,) for peer in alone] + [tuple(group) for group in groups]
    stages = [(tuple(range(middle + 1)),)] * len(alone) + [_one_each(own) for own in hosted]
    rings = [
        RingDraft(members[i], stages[i], _skipping_paths(workshop, visits[i], counts[i]))
        for i in range(len(shares))
    ]
    busy = {peer for group in members for peer in group}
    return Layout(rings, [peer for peer in peers if peer not in busy])


def _able(workshop: Workshop, pool: Sequence[int]) -> list[int]:
    """Return who can host any of the middle stages."""
    largest = max(range(1, len(workshop.cuts)), key=workshop.units)
    return [peer for peer in pool if workshop.fits(peer, (largest,))]


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


def _groups(workshop: Workshop, pool: list[int], sizes: Sequence[int]) -> list[list[int]] | None:
    """Gather groups of these sizes, each led by one that can be the origin."""
    hops_NN, rest = workshop.simulator.hops_NN(), set(pool)
    origins = {peer for peer in pool if workshop.fits(peer, (0,))}
    if len(origins) < len(sizes):
        return None
    found: list[list[int]] = []
    for size in sizes:
        group = gather(hops_NN, sorted(rest), partial(_is_of, size), size)
        if group is None:
            return None
        rest -= set(group)
        later = len(sizes) - len(found) - 1
        while not origins & set(group):
            _exchange(hops_NN, group, rest, rest & origins)
        while len(origins & rest) < later:  # it took those that others need
            _exchange(hops_NN, group, rest, rest - origins, origins)
        found.append(led(workshop, short_tour(hops_NN, group)))
    return found


def _exchange(
    hops_NN: Distances,
    group: list[int],
    rest: set[int],
    wanted: set[int],
    unwanted: set[int] | None = None,
) -> None:
    """Let the nearest of those wanted take the place of the last to join (that is not wanted)."""
    leaver = next(peer for peer in reversed(group) if unwanted is None or peer in unwanted)
    group.remove(leaver)
    comer = min(sorted(wanted), key=lambda peer: float(hops_NN[group, peer].sum()))
    group.append(comer)
    rest -= {comer}
    rest |= {leaver}


def _is_of(size: int, group: Sequence[int]) -> bool:
    return len(group) == size


def _counts(workshop: Workshop, rings: int, length: int, middle: int) -> list[int]:
    """Return the same number of microbatches for each ring, such that visits can be equal."""
    traffic = workshop.problem.traffic
    each = max(round(traffic.microbatches / rings) if traffic.microbatches else traffic.per_ring, 1)
    while each * rings * length % middle:
        each += 1
    return [each] * rings


def _one_each(own: frozenset[int]) -> tuple[tuple[int, ...], ...]:
    return ((0,), *((stage,) for stage in sorted(own)))


def _skipping_paths(
    workshop: Workshop, visits: dict[int, int], count: int
) -> tuple[StagePath, ...]:
    paths, before = list[StagePath](), 0
    for chosen, number in wrapped_paths(visits, count):
        paths += paths_over(workshop, (0, *chosen), number, before, count)
        before += number
    return tuple(paths)
