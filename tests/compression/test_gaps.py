"""Gap bytes: round trips, the exact bound, every refusal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.errors import CompressionError
from skerry.compression.gaps import decode_gaps, encode_gaps
from skerry.compression.layout import max_gap_bytes

TILES = st.lists(st.sets(st.integers(0, 4095), max_size=30).map(sorted), max_size=5)


def encoded(tiles, limit=10_000):
    counts = np.array([len(tile) for tile in tiles], dtype=np.int64)
    positions = np.array([place for tile in tiles for place in tile], dtype=np.uint16)
    return counts, encode_gaps(counts, positions, limit)


def decoded(data, counts, valid=4096):
    return decode_gaps(np.array(data, np.uint8), np.array(counts, np.int64), valid).tolist()


def reason(data, counts, valid=4096):
    with pytest.raises(CompressionError) as caught:
        decoded(data, counts, valid)
    return caught.value.reason


@given(TILES)
def test_gaps_round_trip_within_the_bound(tiles):
    limit = sum(max_gap_bytes(4096, len(tile)) for tile in tiles if tile)
    counts, data = encoded(tiles, limit)
    assert data.size <= limit
    assert decoded(data, counts) == [place for tile in tiles for place in tile]


@given(st.integers(1, 16384), st.data())
def test_the_bound_is_reached(valid, data):
    keep = data.draw(st.integers(1, valid))
    limit = max_gap_bytes(valid, keep)
    assert encoded([range(valid - keep, valid)], limit)[1].size == limit


@pytest.mark.parametrize(
    ("position", "data"),
    [(0, [0]), (254, [254]), (255, [255, 0]), (256, [255, 1]), (510, [255, 255, 0])],
)
def test_escape_borders(position, data):
    assert encoded([[position]])[1].tolist() == data
    assert decoded(data, [1]) == [position]


def test_gaps_are_counted_anew_in_each_tile():
    assert encoded([[3, 5], [], [0, 1]])[1].tolist() == [3, 1, 0, 0]
    assert decoded([3, 1, 0, 0], [2, 0, 2]) == [3, 5, 0, 1]


def test_no_gaps():
    assert encoded([])[1].size == 0
    assert decoded([], []) == decoded([], [0, 0]) == []


@pytest.mark.parametrize(("data", "count"), [([1, 2], 1), ([1], 2), ([1, 255], 1), ([], 1)])
def test_wrong_number_of_gaps_is_refused(data, count):
    assert reason(data, [count]) == "gap-count"


def test_bytes_behind_the_last_gap_are_refused():
    assert reason([1, 255], [1]) == reason([1, 0], [1]) == "gap-count"


@pytest.mark.parametrize(("data", "counts"), [([5], [1]), ([0, 4], [2]), ([0, 5], [1, 1])])
def test_a_position_behind_the_tile_is_refused(data, counts):
    assert reason(data, counts, valid=5) == "index-out-of-range"


def test_a_long_run_of_escapes_is_refused_and_wraps_around_nothing():
    assert reason([255] * 300 + [0], [1], valid=16384) == "index-out-of-range"
