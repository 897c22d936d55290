"""Every entry lies in exactly one tile; selection is determined, ties included."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compression.tiles import (
    TILE_ENTRIES,
    kept_entries,
    tile_groups,
    top_positions,
)

SHAPES = st.lists(
    st.one_of(
        st.just(()),
        st.tuples(st.sampled_from([0, 1, 2, 5, 4095, 4096, 4097, 9000])),
        st.tuples(*[st.sampled_from([1, 2, 7, 63, 64, 65, 131])] * 2),
        st.tuples(*[st.integers(0, 9)] * 4),
    ),
    max_size=4,
).map(tuple)


def flat_indices(group):
    tiles = torch.arange(group.num_tiles)
    return group.flat_indices(tiles, torch.arange(group.valid).unsqueeze(0))


@settings(deadline=None)
@given(SHAPES)
def test_tiles_partition_the_shard(shapes):
    groups = tile_groups(shapes, 64)
    covered = torch.cat([flat_indices(group).flatten() for group in groups] + [torch.zeros(0)])
    numel = sum(int(torch.zeros(shape).numel()) for shape in shapes)
    assert covered.sort().values.tolist() == list(range(numel))


def test_matrix_tiles_are_the_squares_of_the_padded_matrix():
    grid = torch.arange(70 * 130).reshape(70, 130) + 5
    corners = {
        (64, 64): [grid[:64, :64], grid[:64, 64:128]],
        (64, 2): [grid[:64, 128:]],
        (6, 64): [grid[64:, :64], grid[64:, 64:128]],
        (6, 2): [grid[64:, 128:]],
    }
    groups = tile_groups(((5,), (70, 130)), 64)
    assert [(g.height, g.width) for g in groups[:-1]] == list(corners)
    for group, tiles in zip(groups, corners.values(), strict=False):
        expected = torch.stack([tile.flatten() for tile in tiles])
        assert torch.equal(flat_indices(group), expected)


def test_higher_ranks_are_matrices_of_their_last_dimension():
    four = tile_groups(((2, 5, 7, 66),), 64)
    two = tile_groups(((70, 66),), 64)
    for a, b in zip(four, two, strict=True):
        assert torch.equal(flat_indices(a), flat_indices(b))


def test_one_dimensional_tensors_form_one_stream():
    groups = tile_groups(((3000,), (8, 8), (2000,), ()), 64)
    stream = [*range(3000), *range(3064, 5065)]
    chunks = [flat_indices(group).flatten().tolist() for group in groups[1:]]
    assert chunks == [stream[:4096], stream[4096:]]
    assert [group.keep for group in groups] == [1, 64, kept_entries(64, 5001 - 4096)]


@given(st.integers(1, TILE_ENTRIES), st.integers(1, TILE_ENTRIES))
def test_kept_entries_follow_the_density(k, valid):
    keep = kept_entries(k, valid)
    assert 1 <= keep <= valid
    assert keep == 1 or abs(keep - k * valid / TILE_ENTRIES) <= 0.5


@pytest.mark.parametrize("k", [0, -1, TILE_ENTRIES + 1])
def test_k_outside_a_tile_is_refused(k):
    with pytest.raises(ValueError, match=r"allowed 1\.\.4096"):
        tile_groups(((4, 4),), k)


def test_negative_dimension_is_refused():
    with pytest.raises(ValueError, match="negative"):
        tile_groups(((4, -1),), 1)


def by_definition(row, keep):
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))
    return sorted(order[:keep])


@settings(deadline=None)
@given(st.data())
def test_top_positions_follow_the_definition(data):
    """Few distinct magnitudes, so that most rows have ties at the threshold."""
    width = data.draw(st.integers(1, 40))
    keep = data.draw(st.integers(1, width))
    row = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=width, max_size=width)
    rows = data.draw(st.lists(row, min_size=1, max_size=5))
    expected = [by_definition(row, keep) for row in rows]
    assert top_positions(torch.tensor(rows), keep).tolist() == expected


def test_all_equal_tiles_keep_the_lowest_positions():
    chosen = top_positions(torch.ones(300, 4096), 64)
    assert torch.equal(chosen, torch.arange(64).expand(300, 64))
