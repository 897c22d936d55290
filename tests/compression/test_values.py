"""Values: what is sent decodes to what was promised; norms without positions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.entries import Entries
from skerry.compression.errors import CompressionError
from skerry.compression.layout import value_bytes
from skerry.compression.scales import SCALES
from skerry.compression.values import Levels, dequantise, quantise, square_sums

FORMATS = ["sign", "sym2", "fp16"]
NUMBER = st.floats(-1e9, 1e9, width=32).filter(lambda number: number != 0)
TILES = st.lists(st.lists(NUMBER, max_size=9), max_size=6)


def entries(tiles):
    counts = np.array([len(tile) for tile in tiles], dtype=np.int64)
    values = np.array([value for tile in tiles for value in tile], dtype=np.float32)
    return Entries(counts, np.arange(values.size, dtype=np.uint16), values)


def decoded(values, tiles):
    return quantise(values, entries(tiles)).sent.values_M.tolist()


@pytest.mark.parametrize("values", FORMATS)
@given(tiles=TILES)
def test_what_is_sent_is_what_decodes(values, tiles):
    kept = entries(tiles)
    quantised = quantise(values, kept)
    sent, levels = quantised.sent, quantised.levels
    assert len(quantised.data) == value_bytes(values, sent.values_M.size)
    again = dequantise(values, levels, sent.counts_T, quantised.data)
    assert np.array_equal(again.view(np.uint32), sent.values_M.view(np.uint32))
    assert sent.counts_T.tolist() == np.where(levels.codes_T > 0, kept.counts_T, 0).tolist()
    terms = square_sums(values, levels, sent.counts_T, quantised.data)
    assert math.isclose(math.fsum(terms), float((again.astype(np.float64) ** 2).sum()))


@pytest.mark.parametrize("values", ["sign", "sym2"])
@given(tiles=TILES)
def test_signs_are_kept(values, tiles):
    kept = entries(tiles)
    quantised = quantise(values, kept)
    wanted = np.signbit(kept.of_tiles(quantised.levels.codes_T > 0).values_M)
    assert np.array_equal(np.signbit(quantised.sent.values_M), wanted)


def test_a_sign_stands_for_the_mean():
    assert decoded("sign", [[0.5, -1.5, 1.0, -1.0], [2.0]]) == [1.0, -1.0, 1.0, -1.0, 2.0]


def test_two_levels_stand_for_two_means():
    """Means 0.5 and 2: the border lies at 0.5 + 1.594 (0.8 - 0.5)."""
    assert decoded("sym2", [[0.5, -0.5, 0.5, -2.0, 0.5]]) == [0.5, -0.5, 0.5, -2.0, 0.5]


def test_equal_magnitudes_are_one_level():
    quantised = quantise("sym2", entries([[2.0, -2.0, 2.0]]))
    assert quantised.levels.codes_T.tolist() == quantised.levels.highs_T.tolist()
    assert quantised.sent.values_M.tolist() == [2.0, -2.0, 2.0]


def test_two_levels_lose_less_than_one():
    tail = (np.random.default_rng(0).exponential(size=(200, 64)) + 2.4) / 10
    kept = entries(tail.tolist())
    errors = {
        values: float(np.square(quantise(values, kept).sent.values_M - kept.values_M).sum())
        for values in FORMATS
    }
    assert errors["sym2"] < 0.45 * errors["sign"]
    assert errors["fp16"] < 1e-4 * errors["sym2"]


@pytest.mark.parametrize("values", ["sign", "sym2"])
def test_a_tile_below_the_grid_sends_nothing(values):
    quantised = quantise(values, entries([[1e-12, -1e-12], [1.0], []]))
    assert quantised.sent.counts_T.tolist() == [0, 1, 0]
    assert quantised.sent.positions_M.tolist() == [2]


def test_magnitudes_beyond_half_precision_saturate():
    assert decoded("fp16", [[1e6, -1e6, 1.0, 1e-9]]) == [65504.0, -65504.0, 1.0, 0.0]


def levels(*codes):
    return Levels(np.array(codes, np.uint8), np.array(codes, np.uint8))


@pytest.mark.parametrize(("values", "data"), [("sign", b"\x08"), ("sym2", b"\x00\x08")])
def test_padding_must_be_zero(values, data):
    counts = np.array([3])
    assert SCALES[9] in dequantise(values, levels(9), counts, bytes(len(data)))
    with pytest.raises(CompressionError) as caught:
        dequantise(values, levels(9), counts, data)
    assert caught.value.reason == "bad-padding"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_non_finite_half_precision_is_refused(value):
    data = np.array([1.0, value], "<f2").tobytes()
    for call in (dequantise, square_sums):
        with pytest.raises(CompressionError) as caught:
            call("fp16", levels(1), np.array([2]), data)
        assert caught.value.reason == "non-finite"
