"""The two stages at each end swap, in half of the microbatches, and no others."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.recovery.swaps import learned_roles, swap_partner, visiting_order


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


@given(st.integers(4, 12))
def test_who_has_learned_whose_role_is_seen_in_the_paths(stages):
    paths = [visiting_order(stages, False), visiting_order(stages, True)]
    assert learned_roles(paths[:1]) == {}
    ends = (0, 1, stages - 2, stages - 1)
    assert learned_roles(paths) == {stage: swap_partner(stage, stages) for stage in ends}


def test_where_stages_are_skipped_others_take_the_place_of_an_end():
    assert learned_roles([(0, 1, 2, 4), (1, 0, 4, 2)]) == {0: 1, 1: 0, 2: 4, 4: 2}
