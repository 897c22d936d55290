"""Annealing never loses, counts its fines right, and does not move what it need not."""

import pytest

from skerry.pipeline.planning.annealing import Score, anneal, part
from skerry.pipeline.planning.draft import RingDraft, Workshop
from skerry.pipeline.planning.moves import Layout
from skerry.pipeline.planning.plan import Blocks
from skerry.pipeline.planning.simulator import Simulator

CUTS = (Blocks(0, 4), Blocks(4, 8))
LONG = (((0, 1), 4),)


@pytest.fixture
def workshop(make_swarm) -> Workshop:
    """Two sites, p0 to p2 and p3 to p5; crossing between them takes ten times as long."""
    problem = make_swarm(6, memory=1 << 40, latency_s=1.0)
    return Workshop(problem, Simulator(problem), CUTS)


def crossed() -> Layout:
    """Two rings, each in both sites."""
    return Layout(
        [RingDraft((0, 4), ((0,), (1,)), LONG), RingDraft((3, 1), ((0,), (1,)), LONG)], [2, 5]
    )


def test_rings_end_up_in_one_site_each(workshop) -> None:
    score = Score(workshop)
    before = score.fill(crossed().rings)
    found = anneal(crossed(), Score(workshop), 400, seed=1)
    assert Score(workshop).fill(found.rings) < 0.8 * before
    for ring in found.rings:
        assert len({workshop.problem.peers[peer].site for peer in ring.members}) == 1


def test_the_result_is_never_worse_than_what_was_given(workshop) -> None:
    for seed in range(5):
        found = anneal(crossed(), Score(workshop), 10, seed)
        assert Score(workshop).fill(found.rings) <= Score(workshop).fill(crossed().rings)


def test_the_running_figures_are_those_of_a_fresh_count(workshop) -> None:
    layout, homes = crossed(), {0: (0,), 4: (1,), 3: (1,), 2: ()}
    score = Score(workshop, homes, move_fine_s=1.0)
    score.fill(layout.rings)
    other = RingDraft((2, 1), ((0,), (1,)), LONG)
    score.replace(1, layout.rings[1], other)
    fresh = Score(workshop, homes, move_fine_s=1.0)
    assert score.value() == pytest.approx(fresh.fill([layout.rings[0], other]))
    assert score.hosts == fresh.hosts
    assert score.moved == fresh.moved == 1  # p2 hosted nothing; p1 is new


def test_a_stage_whose_hosts_all_fail_together_costs_a_fine(workshop) -> None:
    score = Score(workshop)
    score.fill(crossed().rings)  # both stages in both sites
    assert score.clashes() == 0
    score.fill([RingDraft((0, 1), ((0,), (1,)), LONG), RingDraft((2, 4), ((0,), (1,)), LONG)])
    assert score.clashes() == 1  # stage 0 on p0 and p2


def test_a_part_of_a_search_is_a_part_of_its_watch() -> None:
    seen: list[float] = []
    part(seen.append, 1, (7, 8))(0.5)
    assert seen == [0.75]
