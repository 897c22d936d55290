"""Quotas hold after every round and nearly so at any time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.pipeline.planning.router import drawn_order

QUOTAS = st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any)


@given(QUOTAS)
def test_no_path_is_ever_a_whole_microbatch_ahead_of_its_share(quotas) -> None:
    total = sum(quotas)
    counts = [0] * len(quotas)
    for drawn, path in enumerate(drawn_order(tuple(quotas)), 1):
        counts[path] += 1
        for quota, count in zip(quotas, counts, strict=True):
            assert count < quota * drawn / total + 1
    assert counts == quotas


def test_of_equally_owed_paths_the_first_is_drawn() -> None:
    assert drawn_order((1, 1, 2)) == (2, 0, 1, 2)


@pytest.mark.parametrize("quotas", [[], [0, 0], [1, -1]])
def test_quotas_without_sense_are_refused(quotas) -> None:
    with pytest.raises(ValueError, match="quotas are"):
        drawn_order(tuple(quotas))
