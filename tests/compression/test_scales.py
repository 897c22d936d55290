"""The scale grid: exact, covering, nearest."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.scales import SCALES, scale_codes


def test_grid_is_the_documented_one():
    exact = [2 ** ((code - 1) / 12 - 20) for code in range(1, 256)]
    assert SCALES[0] == 0
    assert np.array_equal(SCALES[1:], np.array(exact, dtype=np.float64).astype(np.float32))


def test_every_grid_value_has_its_own_code():
    assert scale_codes(SCALES.astype(np.float64)).tolist() == list(range(256))


@given(st.floats(math.log(2**-20), math.log(2 ** (254 / 12 - 20))))
def test_a_scale_within_the_range_is_off_by_half_a_step(log_magnitude):
    magnitude = math.exp(log_magnitude)
    (code,) = scale_codes(np.array([magnitude]))
    assert abs(math.log2(SCALES[code] / magnitude)) <= 1 / 24 + 1e-6


@pytest.mark.parametrize(("magnitude", "code"), [(0.0, 0), (2**-21, 0), (3e38, 255), (1e-45, 0)])
def test_outside_the_range_scales_vanish_or_saturate(magnitude, code):
    assert scale_codes(np.array([magnitude])).tolist() == [code]
