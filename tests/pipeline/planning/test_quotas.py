"""Equal visits of the middle stages, and paths that add up to them."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from skerry.pipeline.planning.quotas import equal_visits, wrapped_paths


@st.composite
def shares(draw):
    stages = draw(st.integers(2, 6))
    length = draw(st.integers(1, stages))
    rings = draw(st.integers(1, 5))
    hosted = [
        frozenset(draw(st.sets(st.integers(1, stages), min_size=length))) for _ in range(rings)
    ]
    counts = [draw(st.integers(1, 2)) * stages for _ in range(rings)]
    return hosted, counts, length, stages


@given(shares())
def test_every_stage_is_visited_equally_often_by_rings_that_host_it(case) -> None:
    hosted, counts, length, stages = case
    visits = equal_visits(hosted, counts, length, stages)
    if visits is None:
        return
    totals = Counter()
    for own, count, mine in zip(hosted, counts, visits, strict=True):
        assert mine.keys() <= own
        assert all(0 < number <= count for number in mine.values())
        assert sum(mine.values()) == length * count
        totals.update(mine)
    assert totals == {stage: length * sum(counts) // stages for stage in range(1, stages + 1)}


@given(st.integers(2, 6), st.integers(1, 4), st.data())
def test_rings_that_host_everything_can_always_be_equal(stages, rings, data) -> None:
    length = data.draw(st.integers(1, stages))
    everything = [frozenset(range(1, stages + 1))] * rings
    assert equal_visits(everything, [stages] * rings, length, stages) is not None


def test_visits_are_rearranged_to_reach_a_stage_that_few_host() -> None:
    # Ring 0 would take stage 1 and 2; ring 1 hosts only these, so ring 0 has to move to 3 and 4.
    visits = equal_visits([frozenset({1, 2, 3, 4}), frozenset({1, 2})], [2, 2], 2, 4)
    assert visits == [{3: 2, 4: 2}, {1: 2, 2: 2}]


def test_what_cannot_be_equal_is_none() -> None:
    assert equal_visits([frozenset({1, 2})], [3], 1, 2) is None  # 3 visits, 2 stages
    assert equal_visits([frozenset({1}), frozenset({1})], [2, 2], 1, 2) is None  # nobody hosts 2


@given(st.integers(1, 6), st.integers(1, 12), st.data())
def test_wrapped_paths_use_up_the_visits_without_repeating_a_stage(length, count, data) -> None:
    stages = range(1, length + data.draw(st.integers(0, 3)) + 1)
    left, visits = length * count, {}
    for place, stage in enumerate(stages):
        rest = (len(stages) - place - 1) * count
        number = data.draw(st.integers(max(left - rest, 0), min(count, left)))
        visits[stage] = number
        left -= number
    paths = wrapped_paths({stage: n for stage, n in visits.items() if n}, count)
    assert sum(number for _, number in paths) == count
    totals = Counter()
    for chosen, number in paths:
        assert len(set(chosen)) == len(chosen) == length
        totals.update(dict.fromkeys(chosen, number))
    assert totals == {stage: number for stage, number in visits.items() if number}
