"""Every entry lies in exactly one tile, in the order of the wire."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compression import tiles as module
from skerry.compression.options import TILE_AREAS, CodecOptions
from skerry.compression.tiles import kept_entries, tile_spans

SHAPES = st.lists(
    st.one_of(
        st.just(()),
        st.tuples(st.sampled_from([0, 1, 2, 5, 4095, 4096, 4097, 9000])),
        st.tuples(*[st.sampled_from([1, 2, 7, 31, 32, 63, 64, 65, 131])] * 2),
        st.tuples(*[st.integers(0, 9)] * 4),
    ),
    max_size=4,
).map(tuple)
DEFAULT = CodecOptions()


def flat_indices(span):
    """Return the flat indices of each tile, one row per tile."""
    rows = span.rows()
    assert rows.first_T.size == span.num_tiles + 1
    assert rows.first_T[0] == 0 and rows.first_T[-1] == rows.begin_R.size == rows.length_R.size
    parts = [
        np.arange(begin, begin + length)
        for begin, length in zip(rows.begin_R, rows.length_R, strict=True)
    ]
    tiles = [
        np.concatenate(parts[first:stop])
        for first, stop in zip(rows.first_T[:-1], rows.first_T[1:], strict=True)
    ]
    return np.stack(tiles)


@settings(deadline=None)
@given(SHAPES, st.sampled_from(TILE_AREAS), st.sampled_from([1, 3, 1024]))
def test_tiles_partition_the_shard(shapes, chunk, tiles_per_span):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SPAN_ENTRIES", tiles_per_span * chunk)
        spans = tile_spans(shapes, CodecOptions(chunk=chunk))
    covered = [index for span in spans for index in flat_indices(span).ravel().tolist()]
    assert sorted(covered) == list(range(sum(int(torch.zeros(one).numel()) for one in shapes)))
    for span in spans:
        assert 1 <= span.num_tiles <= tiles_per_span
        assert flat_indices(span).shape == (span.num_tiles, span.valid)


@given(SHAPES)
def test_spans_cut_the_same_order_of_tiles(shapes):
    whole = [tile for span in tile_spans(shapes, DEFAULT) for tile in flat_indices(span).tolist()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SPAN_ENTRIES", 2 * DEFAULT.chunk)
        cut = [tile for span in tile_spans(shapes, DEFAULT) for tile in flat_indices(span).tolist()]
    assert cut == whole


def test_matrix_tiles_are_the_squares_of_the_padded_matrix():
    grid = np.arange(70 * 130).reshape(70, 130) + 5
    corners = {
        (64, 64): [grid[:64, :64], grid[:64, 64:128]],
        (64, 2): [grid[:64, 128:]],
        (6, 64): [grid[64:, :64], grid[64:, 64:128]],
        (6, 2): [grid[64:, 128:]],
    }
    *spans, stream = tile_spans(((5,), (70, 130)), DEFAULT)
    assert [(span.height, span.width) for span in spans] == list(corners)
    for span, tiles in zip(spans, corners.values(), strict=True):
        assert np.array_equal(flat_indices(span), [tile.ravel() for tile in tiles])
    assert np.array_equal(flat_indices(stream), [np.arange(5)])


def test_equal_tiles_of_several_matrices_share_a_span():
    first, second = tile_spans(((64, 64), (3, 3), (64, 128)), DEFAULT)
    assert [int(tile[0]) for tile in flat_indices(first)] == [0, 4105, 4169]
    assert flat_indices(second).tolist() == [list(range(4096, 4105))]


def test_higher_ranks_are_matrices_of_their_last_dimension():
    four = tile_spans(((2, 5, 7, 66),), DEFAULT)
    two = tile_spans(((70, 66),), DEFAULT)
    for a, b in zip(four, two, strict=True):
        assert np.array_equal(flat_indices(a), flat_indices(b))


def test_one_dimensional_tensors_form_one_stream():
    spans = tile_spans(((3000,), (8, 8), (2000,), ()), DEFAULT)
    stream = [*range(3000), *range(3064, 5065)]
    chunks = [flat_indices(span).ravel().tolist() for span in spans[1:]]
    assert chunks == [stream[:4096], stream[4096:]]
    assert [span.keep for span in spans] == [1, 64, kept_entries(DEFAULT, 5001 - 4096)]


@given(st.sampled_from(TILE_AREAS), st.data())
def test_kept_entries_follow_the_density(chunk, data):
    k, valid = data.draw(st.integers(1, chunk)), data.draw(st.integers(1, chunk))
    keep = kept_entries(CodecOptions(k, chunk), valid)
    assert 1 <= keep <= valid
    assert keep == 1 or abs(keep - k * valid / chunk) <= 0.5


def test_negative_dimension_is_refused():
    with pytest.raises(ValueError, match="negative"):
        tile_spans(((4, -1),), DEFAULT)
