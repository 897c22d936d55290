"""The vote minimum, against counting on dense vectors."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compression.entries import Entries
from skerry.compression.votes import with_votes

VALID, TILES = 12, 3


@st.composite
def terms(draw):
    """Some payloads' entries of one span, as sets of places in each tile."""
    places = st.sets(st.integers(0, VALID - 1))
    made = []
    for _ in range(draw(st.integers(1, 5))):
        tiles = [sorted(draw(places)) for _ in range(TILES)]
        positions = np.array([p for tile in tiles for p in tile], np.uint16)
        values = np.arange(1, positions.size + 1, dtype=np.float32)
        made.append(Entries(np.array([len(t) for t in tiles], np.int64), positions, values))
    return made


def dense(entries):
    result = np.zeros((TILES, VALID), np.float32)
    tiles = np.repeat(np.arange(TILES), entries.counts_T)
    result[tiles, entries.positions_M] = entries.values_M
    return result


@settings(deadline=None)
@given(terms(), st.integers(0, 6))
def test_only_entries_with_enough_votes_are_left(some, least):
    votes = sum((dense(one) > 0).astype(int) for one in some)
    for before, after in zip(some, with_votes(some, VALID, least), strict=True):
        assert np.array_equal(dense(after), np.where(votes >= least, dense(before), 0))
        assert int(after.counts_T.sum()) == after.positions_M.size


def test_without_payloads_nothing_is_left():
    assert with_votes([], VALID, 2) == []
