"""Dense and random comparators decode to what they took out of the error feedback."""

import pytest
import torch
from torch import Tensor

from comparators.dense import ByteScheme, HalfScheme
from comparators.random_k import RandomScheme

SHAPES = ((64, 48), (100,))
NUMEL = 64 * 48 + 100


def noise(size: int = NUMEL) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("scheme", "size", "error"),
    [
        (HalfScheme(), 2 * NUMEL, 1e-6),
        (ByteScheme(SHAPES), NUMEL + 2 * 1024, 1e-3),
        (RandomScheme(NUMEL, 64), 2 * -(-NUMEL // 64), 1.0),
    ],
    ids=["fp16", "int8", "random"],
)
def test_what_is_left_is_what_was_not_sent(
    scheme: HalfScheme | ByteScheme | RandomScheme, size: int, error: float
) -> None:
    before = noise()
    left, sent = before.clone(), torch.zeros(NUMEL)
    payload = scheme.encode(left)
    scheme.add(payload, sent)  # type: ignore[arg-type]
    torch.testing.assert_close(left + sent, before)
    assert payload.num_bytes == size
    assert (left.norm() / before.norm()) ** 2 < error


def test_random_entries_are_distinct_ascending_and_change_with_the_seed() -> None:
    scheme = RandomScheme(10_000, 64)
    first, second = scheme.positions(1), scheme.positions(2)
    assert bool((first.diff() > 0).all())
    assert 0 <= int(first.min()) <= int(first.max()) < 10_000
    assert not torch.equal(first, second)
    assert torch.equal(first, scheme.positions(1))


def test_random_needs_a_k_that_divides() -> None:
    with pytest.raises(ValueError, match="divisor of 4096"):
        RandomScheme(100, 65)
