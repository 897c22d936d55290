"""Numbered batches: pure, without overlap within a pass, without end."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline.batches import Batches, permuted

keys = st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4)


def numbered_text(num_windows: int, context: int) -> np.ndarray:
    """A text in which the first four bytes of a window tell which it is; context at least 4."""
    text = np.zeros(num_windows * context + 1, dtype=np.uint8)
    for window in range(num_windows):
        text[window * context : window * context + 4] = list(window.to_bytes(4, "big"))
    return text


def windows_of(batch: torch.Tensor) -> list[int]:
    return [int.from_bytes(bytes(row[:4].tolist()), "big") for row in batch]


@given(size=st.integers(1, 3000), keys=keys)
@settings(deadline=None)
def test_permutation_is_one_to_one(size, keys):
    places = np.arange(size, dtype=np.uint64)
    result = permuted(places, size, np.array(keys, dtype=np.uint64))
    assert sorted(result.tolist()) == list(range(size))


def test_permutation_leaves_no_order_to_see():
    size = 10_000
    result = permuted(np.arange(size, dtype=np.uint64), size, np.arange(4, dtype=np.uint64))
    steps = np.diff(result.astype(np.int64))
    assert (steps == 1).mean() < 0.01
    assert abs(np.corrcoef(np.arange(size), result)[0, 1]) < 0.05


@given(
    num_windows=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    context=st.integers(4, 12),
    seed=st.integers(0, 2**63 - 1),
)
@settings(deadline=None)
def test_each_pass_takes_every_window_once(num_windows, batch_size, context, seed):
    batches = Batches(numbered_text(num_windows, context), context, batch_size, seed)
    assert batches.num_windows == num_windows
    num_batches = 3 * num_windows // batch_size + 1
    taken = [w for index in range(num_batches) for w in windows_of(batches.batch(index))]
    for first in range(0, len(taken) - num_windows + 1, num_windows):
        assert sorted(taken[first : first + num_windows]) == list(range(num_windows))


@given(seed=st.integers(0, 2**63 - 1), index=st.integers(0, 2**40))
@settings(deadline=None)
def test_a_batch_depends_on_seed_and_index_only(seed, index):
    text = numbered_text(50, 8)
    batches = Batches(text, 8, 4, seed)
    first = batches.batch(index)
    batches.batch(index + 1)
    assert torch.equal(batches.batch(index), first)
    assert torch.equal(Batches(text, 8, 4, seed).batch(index), first)


def test_passes_and_seeds_have_orders_of_their_own():
    text = numbered_text(1000, 8)
    orders = [
        windows_of(Batches(text, 8, 1000, seed).batch(number))
        for seed, number in [(0, 0), (0, 1), (1, 0)]
    ]
    for i, order in enumerate(orders):
        for other in orders[i + 1 :]:
            assert sum(a == b for a, b in zip(order, other, strict=True)) < 20


def test_windows_are_stretches_of_the_text():
    text = np.random.Generator(np.random.Philox(0)).integers(0, 256, 1003).astype(np.uint8)
    batch = Batches(text, 10, 7, 0).batch(0)
    assert batch.shape == (7, 11)
    assert batch.dtype == torch.int64
    for row in batch:
        place = bytes(text).find(bytes(row.tolist()))
        assert place >= 0 and place % 10 == 0


def test_these_windows_for_this_seed():
    """A change of these numbers changes what every peer of a run trains on."""
    batches = Batches(numbered_text(1000, 8), 8, 6, 5)
    assert windows_of(batches.batch(0)) == [852, 59, 721, 966, 706, 760]


@pytest.mark.parametrize("size", [0, 1, 8])
def test_text_without_one_window_is_refused(size):
    with pytest.raises(ValueError, match="at least 9"):
        Batches(np.zeros(size, dtype=np.uint8), 8, 1, 0)
