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
)

norms = st.floats(0.0, 1e300) | st.just(math.inf) | st.just(math.nan)


def stage(*values: float) -> list[Tensor]:
    """A block of three parameters for each value."""
    return [torch.full((3,), value) for value in values]


def test_the_neighbour_with_the_larger_gradient_gives_more():
    before, after = Neighbour(stage(1.0, 2.0), norm=3.0), Neighbour(stage(5.0, 6.0), norm=1.0)
    assert torch.equal(averaged(before, after, 2)[0], torch.full((3,), 0.75 * 1 + 0.25 * 5))
    assert torch.allclose(averaged(before, after, 2)[1], torch.full((3,), 0.75 * 2 + 0.25 * 6))
    before = Neighbour(before.blocks, norm=1.5)
    squared = averaged(before, after, 2, exponent=2)[0]
    assert torch.allclose(squared, torch.full((3,), (2.25 * 1 + 1 * 5) / 3.25))


@given(norms, norms, st.sampled_from([1, 2]))
def test_shares_add_up_whatever_the_norms_are(before, after, exponent):
    first, second = shares(before, after, exponent)
    assert 0.2 <= first <= 0.8, "no host's word takes over"
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
    ends = stage(0.0, 10.0), stage(3.0, 40.0)
    first, second = (interpolated(*ends, share, 2) for share in (1 / 3, 2 / 3))
    assert [round(float(block[0]), 5) for block in first] == [1.0, 20.0]
    assert [round(float(block[0]), 5) for block in second] == [2.0, 30.0]


@given(st.floats(0, 1), st.integers(1, 3))
def test_between_equal_stages_nothing_changes(share, size):
    value = [torch.tensor([0.1, -7.3, 1e-30])] * size
    found = interpolated(value, [block.clone() for block in value], share, size)
    assert all(torch.allclose(block, value[0], rtol=1e-6) for block in found)


def test_at_an_end_of_the_model_the_one_side_is_copied():
    after = stage(4.0, 5.0)
    found = interpolated(after, after, 0.4, 2)
    assert all(map(torch.equal, found, after))
    found[0].zero_()
    assert float(after[0][0]) == 4.0
