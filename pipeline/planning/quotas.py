"""How many microbatches of each ring visit which stages, so that all middle stages get as many.

Two steps. A flow decides how many microbatches of a ring visit a stage: at most all of them, and
as many visits in total as the paths are long. Then each ring's visits are wrapped around its
microbatches (as McNaughton's rule wraps jobs around machines), which never gives a microbatch the
same stage twice.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence


def equal_visits(
    hosted: Sequence[frozenset[int]], microbatches: Sequence[int], length: int, stages: int
) -> list[dict[int, int]] | None:
    """Return, ring by ring, how many microbatches visit each middle stage; None if impossible.

    Args:
        hosted: the middle stages, 1 .. stages, that each ring hosts.
        microbatches: of each ring.
        length: middle stages that each microbatch visits.
    """
    total = length * sum(microbatches)
    if total % stages:
        return None
    need = {stage: total // stages for stage in range(1, stages + 1)}
    visits: list[Counter[int]] = [Counter() for _ in hosted]
    supply = [length * count for count in microbatches]
    for ring in range(len(hosted)):
        while supply[ring] > 0:
            route = _augmenting(ring, hosted, microbatches, visits, need)
            if route is None:
                return None
            _push(route, visits, need)
            supply[ring] -= 1
    return [dict(sorted((+counter).items())) for counter in visits]


def _augmenting(
    ring: int,
    hosted: Sequence[frozenset[int]],
    microbatches: Sequence[int],
    visits: Sequence[Counter[int]],
    need: Mapping[int, int],
) -> list[int] | None:
    """Find ring, stage, ring, stage .. that ends at a stage with need; breadth first."""
    before: dict[tuple[str, int], tuple[str, int]] = {}
    queue, seen = deque([("ring", ring)]), {("ring", ring)}
    while queue:
        kind, index = node = queue.popleft()
        if kind == "stage" and need[index] > 0:
            return _route_to(node, before)
        if kind == "ring":
            free = [s for s in sorted(hosted[index]) if visits[index][s] < microbatches[index]]
            following = [("stage", stage) for stage in free]
        else:
            following = [("ring", r) for r in range(len(hosted)) if visits[r][index] > 0]
        for one in following:
            if one not in seen:
                seen.add(one)
                before[one] = node
                queue.append(one)
    return None


def _route_to(
    node: tuple[str, int], before: Mapping[tuple[str, int], tuple[str, int]]
) -> list[int]:
    route = [node]
    while route[-1] in before:
        route.append(before[route[-1]])
    return [index for _, index in reversed(route)]


def _push(route: list[int], visits: Sequence[Counter[int]], need: dict[int, int]) -> None:
    for i in range(0, len(route), 2):
        visits[route[i]][route[i + 1]] += 1
        if i + 2 < len(route):
            visits[route[i + 2]][route[i + 1]] -= 1
    need[route[-1]] -= 1


def wrapped_paths(
    visits: Mapping[int, int], microbatches: int
) -> list[tuple[tuple[int, ...], int]]:
    """Return the stages of each path and how many microbatches take it.

    Args:
        visits: of each stage, none more than ``microbatches``, in sum a multiple of them.
    """
    chosen: list[list[int]] = [[] for _ in range(microbatches)]
    place = 0
    for stage in sorted(visits):
        for _ in range(visits[stage]):
            chosen[place % microbatches].append(stage)
            place += 1
    return sorted(Counter(tuple(sorted(one)) for one in chosen).items())
