"""The scale grid: exact, covering, nearest."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.scales import SCALES, scale_codes


def test_grid_is_the_documented_one():
    exact = [2 ** ((code - 1) / 8 - 26) for code in range(1, 256)]
    assert SCALES[0] == 0
    assert torch.equal(SCALES[1:], torch.tensor(exact, dtype=torch.float64).float())


def test_every_grid_value_has_its_own_code():
    assert scale_codes(SCALES.unsqueeze(1)).tolist() == list(range(256))


@given(st.floats(math.log(2**-26), math.log(2**5.75)))
def test_a_scale_within_the_range_is_off_by_half_a_step(log_magnitude):
    magnitude = torch.tensor([[math.exp(log_magnitude)]])
    decoded = SCALES[scale_codes(magnitude).long()].item()
    assert abs(math.log2(decoded / magnitude.item())) <= 1 / 16 + 1e-6


@pytest.mark.parametrize(("magnitude", "code"), [(0.0, 0), (2**-27, 0), (3e38, 255), (1e-45, 0)])
def test_outside_the_range_scales_vanish_or_saturate(magnitude, code):
    assert scale_codes(torch.full((1, 4096), magnitude)).tolist() == [code]


@pytest.mark.parametrize("kept", [1, 2, 3, 7, 64, 100, 4096])
def test_code_is_that_of_the_mean(kept):
    row = torch.linspace(0.5, 1.5, kept) if kept > 1 else torch.ones(1)
    assert scale_codes(row.unsqueeze(0)).tolist() == scale_codes(torch.ones(1, 1)).tolist()
