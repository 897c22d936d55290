"""The scale grid: exact, covering, nearest; sums that do not depend on the platform."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.scales import SCALES, row_sums, scale_codes


def test_grid_is_the_documented_one():
    exact = [2 ** ((code - 1) / 10 - 23) for code in range(1, 256)]
    assert SCALES[0] == 0
    assert np.array_equal(SCALES[1:], np.array(exact, dtype=np.float64).astype(np.float32))


def test_every_grid_value_has_its_own_code():
    assert scale_codes(SCALES.astype(np.float64)).tolist() == list(range(256))


@given(st.floats(math.log(2**-23), math.log(2**2.4)))
def test_a_scale_within_the_range_is_off_by_half_a_step(log_magnitude):
    magnitude = math.exp(log_magnitude)
    (code,) = scale_codes(np.array([magnitude]))
    assert abs(math.log2(SCALES[code] / magnitude)) <= 1 / 20 + 1e-6


@pytest.mark.parametrize(("magnitude", "code"), [(0.0, 0), (2**-24, 0), (3e38, 255), (1e-45, 0)])
def test_outside_the_range_scales_vanish_or_saturate(magnitude, code):
    assert scale_codes(np.array([magnitude])).tolist() == [code]


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=70))
def test_rows_are_added_up_by_halving(row):
    padded = row + [0.0] * ((1 << (len(row) - 1).bit_length()) - len(row))
    while len(padded) > 1:
        half = len(padded) // 2
        padded = [a + b for a, b in zip(padded[:half], padded[half:], strict=True)]
    assert row_sums(np.array([row])).tolist() == padded


@given(st.lists(st.floats(0, 1e30), min_size=1, max_size=40), st.integers(0, 90))
def test_zeros_behind_a_row_change_nothing(row, zeros):
    assert row_sums(np.array([row + [0.0] * zeros])) == row_sums(np.array([row]))


def test_no_entry_adds_up_to_zero():
    assert row_sums(np.zeros((3, 0))).tolist() == [0.0, 0.0, 0.0]
