"""The aggregate: divisors, weights, clipping, and the same bits for the same order."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compression.aggregate import WeightedUpdate, aggregate
from skerry.compression.errors import CompressionError
from skerry.compression.options import CodecOptions
from skerry.compression.pseudogradient import PseudoGradientCodec, SparseUpdate


def update(entries, weight=1):
    indices = torch.tensor(sorted(entries), dtype=torch.int64)
    values = torch.tensor([entries[i] for i in sorted(entries)], dtype=torch.float32)
    return WeightedUpdate(SparseUpdate(indices, values), weight)


def sent(seed, shapes=((200, 130),), weight=1, scale=1e-3):
    codec = PseudoGradientCodec(shapes, CodecOptions(64))
    feedback = torch.randn(codec.numel, generator=torch.Generator().manual_seed(seed)) * scale
    return WeightedUpdate(codec.decode(codec.encode(feedback)), weight)


def same_bits(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def test_no_updates_give_zeros():
    for updates in ([], [update({1: 1.0}, weight=0)]):
        for divisor in ("contributors", "replicas"):
            assert torch.equal(aggregate(updates, 3, divisor), torch.zeros(3))


def test_one_update_is_itself():
    only = sent(0, weight=12345)
    for divisor in ("contributors", "replicas"):
        result = aggregate([only], 26000, divisor)
        assert torch.equal(result[only.update.indices], only.update.values)
        assert result.count_nonzero() == only.update.indices.numel()


def test_contributors_and_replicas_differ_where_only_some_sent():
    updates = [update({0: 1.0, 1: 1.0}), update({1: 1.0, 2: -1.0})]
    assert aggregate(updates, 4, "contributors").tolist() == [1.0, 1.0, -1.0, 0.0]
    assert aggregate(updates, 4, "replicas").tolist() == [0.5, 1.0, -0.5, 0.0]


def test_weights_count():
    updates = [update({0: 1.0}, weight=4), update({0: -1.0}, weight=1)]
    for divisor in ("contributors", "replicas"):
        assert same_bits(aggregate(updates, 1, divisor), torch.tensor([0.6]))


def test_only_the_ratio_of_weights_counts():
    small = aggregate([sent(0, weight=1), sent(1, weight=3)], 26000, "contributors")
    large = aggregate([sent(0, weight=10**30), sent(1, weight=3 * 10**30)], 26000, "contributors")
    assert same_bits(small, large)


def test_a_weight_of_zero_has_no_influence():
    idle = sent(9, weight=0, scale=1.0)
    for divisor in ("contributors", "replicas"):
        without = aggregate([sent(0), sent(1)], 26000, divisor)
        assert same_bits(aggregate([sent(0), idle, sent(1)], 26000, divisor), without)


def test_norms_are_clipped_to_the_median():
    updates = [update({0: 1.0}), update({1: 2.0}), update({2: 100.0})]
    assert aggregate(updates, 3, "contributors").tolist() == [1.0, 2.0, 2.0]


def test_the_median_of_an_even_number_is_the_lower_one():
    updates = [update({0: 3.0, 1: 4.0}), update({2: 1000.0})]
    assert aggregate(updates, 3, "contributors").tolist() == [3.0, 4.0, 5.0]


def test_a_peer_that_sent_nothing_does_not_silence_the_others():
    updates = [update({}), update({0: 1.0})]
    assert aggregate(updates, 1, "contributors").tolist() == [1.0]
    assert aggregate(updates, 1, "replicas").tolist() == [0.5]


def test_the_norm_counts_every_entry():
    """Norms 2 and 4, from repeated magnitudes of either sign."""
    updates = [
        update({0: 1.0, 1: -1.0, 2: 1.0, 3: -1.0}),
        update({i: 1.0 - 2.0 * (i % 2) for i in range(4, 20)}),
    ]
    result = aggregate(updates, 20, "contributors").abs()
    assert result.tolist() == [1.0] * 4 + [0.5] * 16


def by_definition(updates, numel, divisor):
    """The same operations in numpy, one at a time."""
    norms = [math.sqrt(math.fsum(float(v) ** 2 for v in u.update.values)) for u in updates]
    median = sorted(norms)[(len(norms) - 1) // 2]
    largest = max(u.weight for u in updates)
    total, weights = np.zeros(numel, np.float32), np.zeros(numel, np.float32)
    for item, norm in zip(updates, norms, strict=True):
        weight = item.weight / largest
        factor = np.float32(weight * min(1.0, median / norm))
        indices = item.update.indices.numpy()
        total[indices] += item.update.values.numpy() * factor
        weights[indices] += np.float32(weight)
    if divisor == "replicas":
        weights[:] = np.float32(math.fsum(u.weight / largest for u in updates))
    return torch.from_numpy(total / np.where(weights == 0, np.float32(1), weights))


WEIGHTS = st.lists(st.integers(1, 10**6), min_size=1, max_size=5)


@settings(deadline=None, max_examples=30)
@given(WEIGHTS, st.sampled_from(["contributors", "replicas"]), st.integers(0, 10**6))
def test_the_bits_are_those_of_single_fp32_operations(weights, divisor, seed):
    updates = [
        sent(seed + i, shapes=((70, 70), (30,)), weight=weight, scale=10.0 ** -(i % 3))
        for i, weight in enumerate(weights)
    ]
    result = aggregate(updates, 4930, divisor)
    assert same_bits(result, by_definition(updates, 4930, divisor))


@pytest.mark.parametrize("divisor", ["contributors", "replicas"])
def test_the_bits_do_not_depend_on_threads(divisor):
    updates = [sent(seed, shapes=((1030, 1030),), weight=seed + 1) for seed in range(4)]
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(aggregate(updates, 1030 * 1030, divisor))
    finally:
        torch.set_num_threads(threads)
    assert all(same_bits(result, results[0]) for result in results[1:])


def test_additions_happen_in_the_given_order():
    """In fp32, 1 + 2^-24 + 2^-24 is 1 from the left and more than 1 from the right."""
    tiny = 2.0**-24
    # Entry 1 gives all updates the same norm, so that none is clipped.
    updates = [update({0: v, 1: math.sqrt(4 - v * v)}) for v in (1.0, tiny, tiny)]
    norms = {float(np.square(u.update.values.double().numpy()).sum()) for u in updates}
    assert max(norms) - min(norms) < 1e-6
    forward = aggregate(updates, 2, "replicas")[0]
    backward = aggregate(updates[::-1], 2, "replicas")[0]
    assert forward != backward


def test_negative_weight_is_a_value_error():
    with pytest.raises(ValueError, match="negative weight"):
        aggregate([update({0: 1.0}, weight=-1)], 1, "replicas")


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_non_finite_updates_are_refused(value):
    with pytest.raises(CompressionError) as caught:
        aggregate([update({0: value}), update({0: 1.0})], 1, "replicas")
    assert caught.value.reason == "non-finite"
