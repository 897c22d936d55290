"""Sums of a tile's entries: in one order everywhere, whatever stands beside and behind them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.tile_sums import tile_minima, tile_sums

MAGNITUDE = st.floats(0, 2.0**127, width=32)
TILES = st.lists(st.lists(MAGNITUDE, max_size=70), max_size=6)


def flat(tiles):
    """Return magnitudes [M] and counts [T]."""
    counts = np.array([len(tile) for tile in tiles], np.int64)
    return np.array([one for tile in tiles for one in tile], np.float32), counts


def halved(tile):
    """Add up by definition: the second half to the first."""
    padded = tile + [0.0] * ((1 << max(0, len(tile) - 1).bit_length()) - len(tile))
    while len(padded) > 1:
        half = len(padded) // 2
        padded = [a + b for a, b in zip(padded[:half], padded[half:], strict=True)]
    return padded[0]


@given(TILES)
def test_tiles_are_added_up_by_halving(tiles):
    assert tile_sums(*flat(tiles)).tolist() == [halved(tile) for tile in tiles]


@given(TILES)
def test_minima_are_those_of_each_tile(tiles):
    assert tile_minima(*flat(tiles)).tolist() == [min(tile, default=0.0) for tile in tiles]


@given(st.lists(MAGNITUDE, min_size=1, max_size=40), st.integers(1, 90))
def test_zeros_behind_a_tile_change_nothing(tile, zeros):
    first, second = tile_sums(*flat([tile, tile + [0.0] * zeros]))
    assert first == second


def test_the_order_matters_to_the_last_bit():
    """So that the tests above would notice another one: from the left this gives 2^53."""
    assert tile_sums(*flat([[2.0**53, 1.0, 0.0, 1.0]])).tolist() == [2.0**53 + 2.0]


def test_no_entries_add_up_to_zero():
    assert tile_sums(*flat([[], []])).tolist() == tile_minima(*flat([[], []])).tolist() == [0.0] * 2
    assert tile_sums(*flat([])).size == tile_minima(*flat([])).size == 0
