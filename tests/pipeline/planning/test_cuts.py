"""Minimax cuts against all cuts there are."""

from itertools import combinations
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.pipeline.planning.cuts import minimax_cuts


def slowest(ends, weights, speeds) -> float:
    begins = (0, *ends[:-1])
    return max(sum(weights[i:j]) * speed for i, j, speed in zip(begins, ends, speeds, strict=True))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=7),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.booleans(),
)
def test_no_cut_is_better(weights, speeds, empty_first) -> None:
    items, bins = len(weights), len(speeds)
    ends = minimax_cuts(
        items, bins, lambda k, i, j: sum(weights[i:j]) * float(speeds[k]), empty_first
    )
    lowest = 0 if empty_first and bins > 1 else 1
    every = [
        (*inner, items)
        for inner in combinations(range(lowest, items), bins - 1)
        if bins == 1 or inner[0] >= lowest
    ]
    if not every:
        assert ends == ()
    else:
        assert slowest(ends, weights, speeds) == min(slowest(one, weights, speeds) for one in every)


@pytest.mark.parametrize(("items", "bins"), [(2, 3), (1, 2)])
def test_fewer_items_than_bins_cannot_be_cut(items, bins) -> None:
    assert minimax_cuts(items, bins, lambda k, i, j: float(j - i)) == ()


def test_what_does_not_fit_is_no_cut() -> None:
    def at_most_two(bin_: int, begin: int, end: int) -> float:
        return inf if end - begin > 2 else float(end - begin)

    assert minimax_cuts(5, 2, at_most_two) == ()
    assert minimax_cuts(4, 2, at_most_two) == (2, 4)


def test_the_first_bin_may_be_empty_only_if_asked() -> None:
    def heavy_first(bin_: int, begin: int, end: int) -> float:
        return (end - begin) + (10.0 if bin_ == 0 else 0.0)

    assert minimax_cuts(4, 2, heavy_first) == (1, 4)
    assert minimax_cuts(4, 2, heavy_first, empty_first=True) == (0, 4)


def test_as_many_bins_as_items_get_one_each() -> None:
    ends = minimax_cuts(64, 64, lambda k, i, j: float(j - i))
    assert ends == tuple(range(1, 65))
