"""Whatever is drawn: nobody twice, nothing too large, and as many visits of each stage."""

from collections import Counter
from random import Random

import pytest

from skerry.pipeline.planning.draft import Workshop
from skerry.pipeline.planning.moves import Layout, propose
from skerry.pipeline.planning.planner import first_layout, stage_cuts
from skerry.pipeline.planning.problem import UNLIMITED, Limits
from skerry.pipeline.planning.simulator import Simulator


def visits(layout: Layout) -> Counter:
    found: Counter = Counter()
    for ring in layout.rings:
        for stages, count in ring.paths:
            found.update(dict.fromkeys(stages, count))
    return found


def peers(layout: Layout) -> list[int]:
    return sorted([*layout.spares, *(peer for ring in layout.rings for peer in ring.members)])


@pytest.mark.parametrize(
    ("limits", "memory"),
    [
        (Limits(slots=4, stages=4), 150_000_000),
        (Limits(slots=4, stages=4, skip_ratio=1 / 3), 150_000_000),
        (Limits(slots=4, stages=4, swap_ratio=0.5), 150_000_000),
        (Limits(slots=4, stages=4), UNLIMITED),
        (Limits(slots=4, stages=4, full_replicas=False), UNLIMITED),
    ],
    ids=["rings", "skipping", "swapping", "replicas", "rings of roomy peers"],
)
@pytest.mark.parametrize("seed", range(3))
def test_moves_keep_what_must_hold(make_swarm, limits, memory, seed) -> None:
    problem = make_swarm(9, limits=limits, memory=memory, microbatches=24)
    workshop = Workshop(problem, Simulator(problem), stage_cuts(problem, 4))
    layout = first_layout(workshop)
    everyone, visited = peers(layout), visits(layout)
    rng, kinds = Random(seed), 0
    for _ in range(300):
        change = propose(layout, [1.0] * len(layout.rings), workshop, rng)
        if change is None:
            continue
        kinds += 1
        for place, ring in change.rings.items():
            layout.rings[place] = ring
        if change.spares is not None:
            layout.spares = list(change.spares)
        assert peers(layout) == everyone
        assert visits(layout) == visited
        for ring in layout.rings:
            assert all(map(workshop.fits, ring.members, ring.stages))
            assert all(count > 0 for _, count in ring.paths)
            assert ring.stages[0][0] == 0
            hosted = [stage for own in ring.stages for stage in own]
            assert len(set(hosted)) == len(hosted)
            assert all(set(stages) <= set(hosted) for stages, _ in ring.paths)
            if not limits.full_replicas:
                assert len(ring.members) > 1
    assert kinds > 20


def test_nothing_can_be_drawn_for_one_replica(make_swarm) -> None:
    problem = make_swarm(1, memory=UNLIMITED)
    workshop = Workshop(problem, Simulator(problem), stage_cuts(problem, 1))
    layout = first_layout(workshop)
    assert all(propose(layout, [1.0], workshop, Random(i)) is None for i in range(50))
