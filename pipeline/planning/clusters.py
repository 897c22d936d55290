"""First drafts of rings: peers that are close to each other, in an order that keeps hops short.

The peer farthest from all others chooses its neighbours first, because for it the choice matters
most; annealing then improves on it. Distances are seconds of one hop, both directions averaged.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

Distances = NDArray[np.float64]
Enough = Callable[[list[int]], bool]
"""Whether some peers can form a ring."""


def clusters(
    hops_NN: Distances,
    pool: Sequence[int],
    enough: Enough,
    most: int,
    leaders: Collection[int] | None = None,
) -> tuple[list[list[int]], list[int]]:
    """Split a pool into groups that can each form a ring, and those left over.

    Args:
        enough: asked for a growing group until it says yes.
        most: largest size of a group; one that is still not enough is given up.
        leaders: of whom each group needs one; None: anyone will do.
    """
    rest, found = list(pool), []
    while rest:
        group = gather(hops_NN, rest, enough, most, leaders)
        if group is None:
            break
        found.append(group)
        rest = [peer for peer in rest if peer not in set(group)]
    return found, rest


def gather(
    hops_NN: Distances,
    rest: list[int],
    enough: Enough,
    most: int,
    leaders: Collection[int] | None = None,
) -> list[int] | None:
    """Gather the nearest around the most remote peer; None if even ``most`` are not enough.

    The last place is kept for one of ``leaders`` if there is none yet.
    """
    among, most = np.array(rest), min(most, len(rest))
    leading_N = np.isin(among, list(rest if leaders is None else leaders))
    remote = int(among[np.argmax(hops_NN[np.ix_(among, among)].mean(axis=1))])
    group = [remote]
    distance_N = hops_NN[remote, among].copy()
    distance_N[among == remote] = np.inf
    while not enough(group):
        if len(group) == most:
            return None
        last = len(group) == most - 1 and not np.isin(group, among[leading_N]).any()
        nearest = int(np.argmin(np.where(leading_N | (not last), distance_N, np.inf)))
        if np.isinf(distance_N[nearest]):
            return None  # nobody is left who could lead
        group.append(int(among[nearest]))
        distance_N += hops_NN[group[-1], among]
        distance_N[nearest] = np.inf
    return group


def short_tour(hops_NN: Distances, group: Sequence[int]) -> list[int]:
    """Order a group as a closed tour: nearest neighbour, then 2-opt until nothing improves."""
    tour, left = [group[0]], list(group[1:])
    while left:
        nearest = min(left, key=lambda peer: (hops_NN[tour[-1], peer], peer))
        left.remove(nearest)
        tour.append(nearest)
    improved = len(tour) > 3
    while improved:
        improved = False
        for i in range(1, len(tour) - 1):
            for j in range(i + 1, len(tour)):
                if _gain(hops_NN, tour, i, j) > 1e-12:
                    tour[i : j + 1] = reversed(tour[i : j + 1])
                    improved = True
    return tour


def _gain(hops_NN: Distances, tour: list[int], i: int, j: int) -> float:
    """Return what reversing places i .. j of a tour saves."""
    before, first, last, after = tour[i - 1], tour[i], tour[j], tour[(j + 1) % len(tour)]
    old = hops_NN[before, first] + hops_NN[last, after]
    return float(old - hops_NN[before, last] - hops_NN[first, after])
