"""The reference scheme does what the paper says, so that what it is compared with is fair."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comparators.bits import pack_2, pack_12, unpack_2, unpack_12
from comparators.reference import ReferenceScheme

SHAPES = ((128, 192), (70, 65), (5000,), (), (3, 64, 64))


def feedback(scheme: ReferenceScheme, seed: int = 0) -> torch.Tensor:
    return torch.randn(scheme.numel, generator=torch.Generator().manual_seed(seed))


@given(st.lists(st.integers(0, 4095), max_size=50))
def test_12_bits_come_back_in_one_and_a_half_bytes(positions: list[int]) -> None:
    packed = pack_12(torch.tensor(positions, dtype=torch.int64))
    assert packed.numel() == 3 * -(-len(positions) // 2)
    assert unpack_12(packed, len(positions)).tolist() == positions


@given(st.lists(st.integers(0, 3), max_size=50))
def test_2_bits_come_back_four_to_a_byte(symbols: list[int]) -> None:
    packed = pack_2(torch.tensor(symbols, dtype=torch.uint8))
    assert packed.numel() == -(-len(symbols) // 4)
    assert unpack_2(packed, len(symbols)).tolist() == symbols


def test_residual_is_what_was_not_sent() -> None:
    scheme = ReferenceScheme(SHAPES, 64)
    before = feedback(scheme)
    left = before.clone()
    indices, values = scheme.decode(scheme.encode(left))
    sent = torch.zeros_like(before).index_add_(0, indices, values)
    torch.testing.assert_close(left, before - sent)
    assert indices.dtype == torch.int64
    assert bool((indices.diff() > 0).all())


def test_keeps_the_largest_of_each_tile() -> None:
    scheme = ReferenceScheme(((128, 192),), 64)
    before = feedback(scheme)
    indices, _ = scheme.decode(scheme.encode(before.clone()))
    kept = torch.zeros(scheme.numel, dtype=torch.bool)
    kept[indices] = True
    tile = slice(64, 128)  # rows and columns of one tile
    magnitudes, chosen = before.view(128, 192)[tile, tile].abs(), kept.view(128, 192)[tile, tile]
    assert int(chosen.sum()) == 64
    assert magnitudes[chosen].min() > magnitudes[~chosen].max()


def test_mean_is_over_those_who_sent() -> None:
    scheme = ReferenceScheme(SHAPES, 256)
    payloads = [scheme.encode(feedback(scheme, seed)) for seed in range(3)]
    total, count = torch.zeros(scheme.numel), torch.zeros(scheme.numel)
    for payload in payloads:
        indices, values = scheme.decode(payload)
        total.index_add_(0, indices, values)
        count.index_add_(0, indices, torch.ones_like(values))
    assert int(count.max()) > 1
    torch.testing.assert_close(scheme.mean(payloads), total / count.clamp(min=1))


def test_sizes_are_those_of_the_paper_and_of_the_published_code() -> None:
    scheme = ReferenceScheme(((1024, 1024),), 64)
    payload = scheme.encode(feedback(scheme))
    assert payload.kept == 256 * 64
    # Shift and codebook: 20 bytes.
    assert 8 * (payload.num_bytes - 20) / scheme.numel == 64 * 14 / 4096
    assert 8 * (payload.shipped_bytes - 20) / scheme.numel == 64 * 20 / 4096


@pytest.mark.parametrize("shape", [(1733, 64), (64, 29), (1,)])
def test_awkward_sides_keep_the_density(shape: tuple[int, ...]) -> None:
    scheme = ReferenceScheme((shape,), 64)
    payload = scheme.encode(feedback(scheme))
    assert payload.kept >= max(1, scheme.numel // 4096)
    assert payload.kept <= max(scheme.numel / 64, 2 * scheme.numel / min(scheme.numel, 64)) + 1
