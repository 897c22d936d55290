"""The two stages at each end swap, in half of the microbatches, and no others."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.recovery.swaps import swap_partner, visiting_order


@given(st.integers(0, 12))
def test_only_the_two_stages_at_each_end_swap(stages):
    plain, swapped = visiting_order(stages, False), visiting_order(stages, True)
    assert plain == tuple(range(stages))
    assert sorted(swapped) == list(plain)
    assert swapped[2:-2] == plain[2:-2]
    for place, stage in enumerate(swapped):
        if place != stage:
            assert swap_partner(stage, stages) == place
    if stages > 3:
        assert swapped[:2] == (1, 0)
        assert swapped[-2:] == (stages - 1, stages - 2)
    assert (swap_partner(0, stages) is None) == (stages < 2)


def test_the_last_of_three_stages_is_copied_from_the_middle():
    assert [swap_partner(stage, 3) for stage in range(3)] == [1, 0, 1]
    assert [swap_partner(stage, 6) for stage in range(6)] == [1, 0, None, None, 5, 4]
