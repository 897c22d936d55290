"""Lost stages from their neighbours: the published rule to the letter, and what lies beyond it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skerry.recovery.neighbours import (
    Neighbour,
    averaged,
    copied,
    interpolated,
    shares,
    swap_partner,
    visiting_order,
)

norms = st.floats(0.0, 1e300) | st.just(math.inf) | st.just(math.nan)


def stage(*values: float) -> list[Tensor]:
    """A block of three parameters for each value."""
    return [torch.full((3,), value) for value in values]


def test_the_neighbour_with_the_larger_gradient_gives_more():
    before, after = Neighbour(stage(1.0, 2.0), norm=3.0), Neighbour(stage(5.0, 6.0), norm=1.0)
    assert torch.equal(averaged(before, after, 2)[0], torch.full((3,), 0.75 * 1 + 0.25 * 5))
    assert torch.allclose(averaged(before, after, 2)[1], torch.full((3,), 0.75 * 2 + 0.25 * 6))
    squared = averaged(before, after, 2, exponent=2)[0]
    assert torch.allclose(squared, torch.full((3,), 0.9 * 1 + 0.1 * 5))


@given(norms, norms, st.sampled_from([1, 2]))
def test_shares_add_up_whatever_the_norms_are(before, after, exponent):
    first, second = shares(before, after, exponent)
    assert 0 <= first <= 1
    assert math.isclose(first + second, 1)
    assert shares(after, before, exponent) == (second, first)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_unusable_norms_give_equal_shares(bad):
    assert shares(bad, 1.0, 1) == shares(1.0, bad, 2) == shares(0.0, 0.0, 1) == (0.5, 0.5)


def test_stages_of_other_sizes_are_aligned_by_depth():
    before, after = Neighbour(stage(0.0), 1.0), Neighbour(stage(2.0, 4.0, 6.0, 8.0), 1.0)
    first, second = averaged(before, after, 2)
    assert (float(first[0]), float(second[0])) == (2.0, 4.0)  # with the blocks of 4 and 8
    assert len(averaged(after, before, 7)) == 7


def test_a_copy_is_the_partner_and_shares_no_memory_with_it():
    partner = stage(1.0, 2.0)
    copy = copied(partner, 2)
    assert all(map(torch.equal, copy, partner))
    copy[0].zero_()
    assert float(partner[0][0]) == 1.0
    copied(stage(1.0), 2)[0].zero_()


def test_stages_lost_side_by_side_lie_between_those_that_are_left():
    found = interpolated(stage(0.0, 10.0), stage(3.0, 40.0), [2, 2])
    assert [[round(float(block[0]), 5) for block in one] for one in found] == [
        [1.0, 20.0],
        [2.0, 30.0],
    ]


@given(st.integers(1, 6), st.integers(1, 3))
def test_between_equal_stages_nothing_changes(count, size):
    value = [torch.tensor([0.1, -7.3, 1e-30])] * size
    for one in interpolated(value, [block.clone() for block in value], [size] * count):
        assert all(torch.allclose(block, value[0], rtol=1e-6) for block in one)


def test_at_an_end_of_the_model_the_one_side_is_copied():
    after = stage(4.0, 5.0)
    for found in (interpolated(None, after, [2, 2]), interpolated(after, None, [2, 2])):
        assert [[float(block[0]) for block in one] for one in found] == [[4.0, 5.0]] * 2
        found[0][0].zero_()
        assert float(after[0][0]) == 4.0
    with pytest.raises(ValueError, match="no stage is left"):
        interpolated(None, None, [1])


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
