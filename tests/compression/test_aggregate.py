"""The aggregate: divisors, weights, clipping, and the same bits for the same order."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compression import aggregate as module
from skerry.compression.aggregate import Rule, WeightedPayload, aggregate
from skerry.compression.errors import CompressionError
from skerry.compression.options import CodecOptions
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.compression.torch_tiles import TorchTiles

SMALL = PseudoGradientCodec(((20,),), CodecOptions(4096, values="fp16"))
"""Sends every entry that is not 0, exactly if it is a half-precision number."""
MATRIX = PseudoGradientCodec(((200, 130),), CodecOptions())
MIXED = {
    values: PseudoGradientCodec(((70, 70), (30,)), CodecOptions(values=values))
    for values in ("sign", "sym2", "fp16")
}


def update(entries, weight=1):
    feedback = torch.zeros(SMALL.numel)
    feedback[list(entries)] = torch.tensor(list(entries.values()))
    payload = SMALL.encode(feedback)
    assert not feedback.any()
    return WeightedPayload(payload, weight)


def mean(updates, divisor, numel=4):
    """Return the first entries of a mean; nobody sends the others."""
    result = aggregate(SMALL, updates, Rule(divisor))
    assert not result[numel:].any()
    return result[:numel]


def sent(seed, codec=MATRIX, weight=1, scale=1e-3):
    feedback = torch.randn(codec.numel, generator=torch.Generator().manual_seed(seed)) * scale
    return WeightedPayload(codec.encode(feedback), weight)


def dense(payload, codec=MATRIX):
    total = torch.zeros(codec.numel)
    codec.add(payload, total)
    return total


def same_bits(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def test_no_updates_give_zeros():
    for updates in ([], [update({1: 1.0}, weight=0)]):
        for divisor in ("contributors", "replicas"):
            assert torch.equal(mean(updates, divisor), torch.zeros(4))


def test_one_update_is_itself():
    only = sent(0, weight=12345)
    for divisor in ("contributors", "replicas"):
        assert torch.equal(aggregate(MATRIX, [only], Rule(divisor)), dense(only.payload))


def test_contributors_and_replicas_differ_where_only_some_sent():
    updates = [update({0: 1.0, 1: 1.0}), update({1: 1.0, 2: -1.0})]
    assert mean(updates, "contributors").tolist() == [1.0, 1.0, -1.0, 0.0]
    assert mean(updates, "replicas").tolist() == [0.5, 1.0, -0.5, 0.0]


def test_weights_count():
    updates = [update({0: 1.0}, weight=4), update({0: -1.0}, weight=1)]
    for divisor in ("contributors", "replicas"):
        assert same_bits(mean(updates, divisor, 1), torch.tensor([0.6]))


def test_only_the_ratio_of_weights_counts():
    small = aggregate(MATRIX, [sent(0, weight=1), sent(1, weight=3)])
    large = aggregate(MATRIX, [sent(0, weight=10**30), sent(1, weight=3 * 10**30)])
    assert same_bits(small, large)


def test_a_weight_of_zero_has_no_influence():
    idle = sent(9, weight=0, scale=1.0)
    for divisor in ("contributors", "replicas"):
        without = aggregate(MATRIX, [sent(0), sent(1)], Rule(divisor))
        assert same_bits(aggregate(MATRIX, [sent(0), idle, sent(1)], Rule(divisor)), without)


def test_norms_are_clipped_to_the_median():
    updates = [update({0: 1.0}), update({1: 2.0}), update({2: 100.0})]
    assert mean(updates, "contributors", 3).tolist() == [1.0, 2.0, 2.0]


def test_the_median_of_an_even_number_is_the_lower_one():
    updates = [update({0: 3.0, 1: 4.0}), update({2: 1000.0})]
    assert mean(updates, "contributors", 3).tolist() == [3.0, 4.0, 5.0]


def test_a_peer_that_sent_nothing_does_not_silence_the_others():
    updates = [update({}), update({0: 1.0})]
    assert mean(updates, "contributors", 1).tolist() == [1.0]
    assert mean(updates, "replicas", 1).tolist() == [0.5]


def test_the_norm_counts_every_entry():
    """Norms 2 and 4, from repeated magnitudes of either sign."""
    updates = [
        update({0: 1.0, 1: -1.0, 2: 1.0, 3: -1.0}),
        update({i: 1.0 - 2.0 * (i % 2) for i in range(4, 20)}),
    ]
    result = mean(updates, "contributors", 20).abs()
    assert result.tolist() == [1.0] * 4 + [0.5] * 16


def by_definition(codec, payloads, divisor):
    """The same operations in numpy, one at a time, on dense vectors."""
    vectors = [dense(item.payload, codec).numpy() for item in payloads]
    norms = [math.sqrt(math.fsum(float(v) ** 2 for v in vector)) for vector in vectors]
    median = sorted(norms)[(len(norms) - 1) // 2]
    largest = max(item.weight for item in payloads)
    total, weights = np.zeros(codec.numel, np.float32), np.zeros(codec.numel, np.float32)
    for item, vector, norm in zip(payloads, vectors, norms, strict=True):
        weight = item.weight / largest
        (indices,) = vector.nonzero()
        total[indices] += vector[indices] * np.float32(weight * min(1.0, median / norm))
        weights[indices] += np.float32(weight)
    if divisor == "replicas":
        weights[:] = np.float32(math.fsum(item.weight / largest for item in payloads))
    return torch.from_numpy(total / np.where(weights == 0, np.float32(1), weights))


WEIGHTS = st.lists(st.integers(1, 10**6), min_size=1, max_size=5)


@settings(deadline=None, max_examples=40)
@given(
    WEIGHTS,
    st.sampled_from(["contributors", "replicas"]),
    st.sampled_from(list(MIXED)),
    st.integers(0, 10**6),
)
def test_the_bits_are_those_of_single_fp32_operations(weights, divisor, values, seed):
    codec = MIXED[values]
    payloads = [
        sent(seed + i, codec, weight, scale=10.0 ** -(i % 3)) for i, weight in enumerate(weights)
    ]
    result = aggregate(codec, payloads, Rule(divisor))
    assert same_bits(result, by_definition(codec, payloads, divisor))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "kernels_for", lambda device: TorchTiles())
        assert same_bits(aggregate(codec, payloads, Rule(divisor)), result)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("divisor", ["contributors", "replicas"])
def test_the_bits_do_not_depend_on_the_device(divisor):
    payloads = [sent(seed, weight=seed + 1) for seed in range(4)]
    there = aggregate(MATRIX, payloads, Rule(divisor), device=torch.device("cuda"))
    assert same_bits(there.cpu(), aggregate(MATRIX, payloads, Rule(divisor)))


@pytest.mark.parametrize("divisor", ["contributors", "replicas"])
def test_the_bits_do_not_depend_on_threads(divisor):
    codec = PseudoGradientCodec(((1030, 1030),), CodecOptions())
    payloads = [sent(seed, codec, weight=seed + 1) for seed in range(4)]
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(aggregate(codec, payloads, Rule(divisor)))
    finally:
        torch.set_num_threads(threads)
    assert all(same_bits(result, results[0]) for result in results[1:])


def test_additions_happen_in_the_given_order():
    """In fp32, 1 + 2^-24 + 2^-24 is 1 from the left and more than 1 from the right."""
    tiny = 2.0**-24
    # Entries 1 and 2 lift the norms of all updates to within 1e-7, so that none is clipped.
    updates = [update({0: 1.0, 1: 8.0}), *[update({0: tiny, 1: 8.0, 2: 1.0})] * 2]
    forward = mean(updates, "replicas", 3)[0]
    backward = mean(updates[::-1], "replicas", 3)[0]
    assert forward == np.float32(1) / np.float32(3)
    assert backward > forward


def test_little_trust_makes_every_entry_small():
    """A low weight would not: it cancels out in the entries that nobody else sent."""
    doubted = replace(update({2: 1.0, 1: 1.0}), trust=0.25)
    assert mean([update({0: 1.0, 1: 1.0}), doubted], "contributors", 3).tolist() == [1, 0.625, 0.25]


def test_without_a_clip_norms_stay():
    updates = [update({0: 1.0}), update({1: 2.0}), update({2: 100.0})]
    result = aggregate(SMALL, updates, Rule(clip="none"))
    assert result[:3].tolist() == [1.0, 2.0, 100.0]


def test_entries_with_too_few_votes_are_left_out():
    updates = [update({0: 1.0, 1: 1.0}), update({1: 1.0, 2: -1.0})]
    result = aggregate(SMALL, updates, Rule(min_votes=2))
    assert result[:3].tolist() == [0.0, 1.0, 0.0]


def test_a_centred_clip_pulls_what_is_far_towards_the_centre():
    """Distances 1, 1 and 9: the third keeps a ninth of its way from the centre, 1, to 10."""
    centre = torch.zeros(SMALL.numel)
    centre[2] = 1.0
    updates = [update({0: 1.0}), update({1: 1.0}), update({2: 10.0})]
    result = aggregate(SMALL, updates, Rule(clip="centred"), centre)
    assert result[:3].tolist() == [1.0, 1.0, 2.0]


def test_a_centred_clip_around_nothing_is_the_clip_to_the_median():
    payloads = [sent(seed, scale=10.0**-seed) for seed in range(4)]
    rule = Rule(clip="centred")
    assert same_bits(aggregate(MATRIX, payloads, rule), aggregate(MATRIX, payloads))
    around = aggregate(MATRIX, payloads, rule, torch.zeros(MATRIX.numel))
    torch.testing.assert_close(around, aggregate(MATRIX, payloads))


@pytest.mark.parametrize("trust", [0.0, -1.0, 1.5, math.nan])
def test_trust_beyond_its_range_is_a_value_error(trust):
    with pytest.raises(ValueError, match="trust"):
        aggregate(SMALL, [replace(update({0: 1.0}), trust=trust)])


def test_negative_weight_is_a_value_error():
    with pytest.raises(ValueError, match="negative weight"):
        aggregate(SMALL, [update({0: 1.0}, weight=-1)], Rule("replicas"))


def test_a_malformed_payload_is_refused():
    with pytest.raises(CompressionError, match="bad-checksum"):
        aggregate(
            MATRIX, [sent(0), WeightedPayload(sent(1).payload[:-1] + b"x", 1)], Rule("replicas")
        )


def test_memory_is_that_of_one_span():
    """Beside the mean itself: the entries of the span's payloads, and one tile's sums."""
    codec = PseudoGradientCodec(((4096, 2048),), CodecOptions())
    payloads = [sent(seed, codec) for seed in range(4)]
    tracemalloc.start()
    try:
        aggregate(codec, payloads)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * codec.numel
    finally:
        tracemalloc.stop()
