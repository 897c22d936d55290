"""The codec: what is sent and what stays add up bit for bit; bounds; determinism."""

import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compression import pseudogradient
from skerry.compression.drift import Drift, fold
from skerry.compression.errors import CompressionError
from skerry.compression.options import TILE_AREAS, CodecOptions
from skerry.compression.payload import checksum
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.compression.scales import SCALES
from skerry.compression.torch_tiles import TorchTiles

FORMATS = ["sign", "sym2", "fp16"]
MIXED = ((130, 70), (33,), (97, 101), (5000,), (3, 5, 7), (), (1, 1))
SIZES = st.sampled_from([1, 2, 3, 17, 63, 64, 65, 127, 131])
SHAPES = st.one_of(
    st.just(((1, 1),)),
    st.just(()),
    st.just(((0, 5), (0,))),
    st.lists(st.tuples(st.sampled_from([1, 13, 4096, 4099])), min_size=1, max_size=3).map(tuple),
    st.lists(
        st.one_of(st.just(()), st.tuples(SIZES), st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES)),
        min_size=1,
        max_size=4,
    ).map(tuple),
)
OPTIONS = st.builds(
    lambda k, chunk, values: CodecOptions(min(k, chunk), chunk, values),
    st.sampled_from([1, 5, 64, 16384]),
    st.sampled_from(TILE_AREAS),
    st.sampled_from(FORMATS),
)


def normal(numel, seed=0, scale=1e-3):
    return torch.randn(numel, generator=torch.Generator().manual_seed(seed)) * scale


def dense(codec, payload):
    total = torch.zeros(codec.numel)
    codec.add(payload, total)
    return total


def same_bits(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def top_of_tile(tile, keep):
    """Selection by definition: ties go to the lowest index."""
    magnitudes = tile.abs().flatten().tolist()
    order = sorted(range(len(magnitudes)), key=lambda i: (-magnitudes[i], i))
    return sorted(order[:keep])


@settings(deadline=None)
@given(SHAPES, OPTIONS, st.integers(0, 2**31), st.integers(-40, 8))
def test_what_is_sent_and_what_stays_add_up(shapes, options, seed, octave):
    codec = PseudoGradientCodec(shapes, options)
    before = normal(codec.numel, seed, 2.0**octave)
    after = before.clone()
    payload = codec.encode(after)
    assert len(payload) <= codec.max_payload_bytes
    assert same_bits(before - dense(codec, payload), after)


@settings(deadline=None)
@given(OPTIONS, st.data())
def test_extreme_feedback_is_conserved(options, data):
    """Zeros of both signs, denormals, ties and the largest fp32 numbers side by side."""
    codec = PseudoGradientCodec(((3, 67), (5,)), options)
    special = [0.0, -0.0, 1e-45, -1e-40, 1e-3, -1e-3, 50.0, 3.4028234663852886e38]
    entry = st.sampled_from(special)
    before = torch.tensor(data.draw(st.lists(entry, min_size=206, max_size=206)))
    after = before.clone()
    sent = dense(codec, codec.encode(after))
    assert same_bits(before - sent, after)
    assert not sent[before == 0].any()


@settings(deadline=None, max_examples=30)
@given(SHAPES, OPTIONS, st.integers(0, 2**31))
def test_a_drift_is_taken_up_as_if_before(shapes, options, seed):
    codec = PseudoGradientCodec(shapes, options)
    start, local = normal(codec.numel, seed + 1), normal(codec.numel, seed + 2)
    drift = Drift(0.95, start, local)
    at_once, stepwise = (normal(codec.numel, seed) for _ in range(2))
    payload = codec.encode(at_once, drift)
    fold(stepwise, drift)
    assert codec.encode(stepwise) == payload
    assert same_bits(at_once, stepwise)


@settings(deadline=None, max_examples=30)
@given(SHAPES, OPTIONS, st.integers(0, 2**31))
def test_torch_operations_give_the_same_bytes(shapes, options, seed):
    codec = PseudoGradientCodec(shapes, options)
    drift = Drift(0.95, normal(codec.numel, seed + 1), normal(codec.numel, seed + 2))
    compiled, plain = ((normal(codec.numel, seed) * 3e3).round() / 3e3 for _ in range(2))
    payload = codec.encode(compiled, drift)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudogradient, "kernels_for", lambda device: TorchTiles())
        assert codec.encode(plain, drift) == payload
        codec.add(payload, plain, 0.3)
    codec.add(payload, compiled, 0.3)
    assert same_bits(compiled, plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("values", FORMATS)
def test_a_gpu_gives_the_same_bytes(values):
    codec = PseudoGradientCodec((*MIXED, (1030, 1030)), CodecOptions(values=values))
    start, local, here = (normal(codec.numel, seed) for seed in range(3))
    there = here.cuda()
    payload = codec.encode(here, Drift(0.95, start, local))
    assert codec.encode(there, Drift(0.95, start.cuda(), local.cuda())) == payload
    assert same_bits(here, there.cpu())
    codec.add(payload, here, 0.3)
    codec.add(payload, there, 0.3)
    assert same_bits(here, there.cpu())


@pytest.mark.parametrize("values", FORMATS)
@pytest.mark.parametrize("side", [32, 64, 128])
def test_the_largest_entries_of_each_tile_are_sent(side, values):
    codec = PseudoGradientCodec(((150, 260),), CodecOptions(64, side * side, values))
    # Coarse magnitudes make ties at the threshold of nearly every tile.
    feedback = (normal(codec.numel) * 2000).round() / 2000
    matrix = feedback.reshape(150, 260).clone()
    sent = dense(codec, codec.encode(feedback)).reshape(150, 260)
    for top in range(0, 150, side):
        for left in range(0, 260, side):
            tile = matrix[top : top + side, left : left + side]
            kept = top_of_tile(tile, max(1, round(64 * tile.numel() / side**2)))
            part = sent[top : top + side, left : left + side]
            assert part.flatten().nonzero().flatten().tolist() == kept


def test_a_tile_decodes_to_its_mean_magnitude_and_signs():
    codec = PseudoGradientCodec(((4, 64),), CodecOptions())
    feedback = torch.zeros(256)
    feedback[[3, 70, 140, 255]] = torch.tensor([0.5, -1.5, 1.0, -1.0])
    sent = dense(codec, codec.encode(feedback))
    assert sent.nonzero().flatten().tolist() == [3, 70, 140, 255]
    assert sent[[3, 70, 140, 255]].tolist() == [1.0, -1.0, 1.0, -1.0]
    assert feedback[[3, 70, 140, 255]].tolist() == [-0.5, -0.5, 0.0, 0.0]


@pytest.mark.parametrize("values", FORMATS)
def test_zeros_are_never_sent(values):
    """Two tiles: one of zeros, one with 3 entries where 64 have their place."""
    codec = PseudoGradientCodec(((64, 128),), CodecOptions(values=values))
    feedback = torch.zeros(codec.numel)
    empty = codec.encode(feedback)
    assert not dense(codec, empty).any()
    assert len(empty) == 38 + 8 + 2
    feedback[[100, 228, 8000]] = 0.25
    sent = dense(codec, codec.encode(feedback))
    assert sent.nonzero().flatten().tolist() == [100, 228, 8000]
    assert not feedback.any()


def test_large_scales_saturate_and_the_rest_stays():
    codec = PseudoGradientCodec(((1,),), CodecOptions())
    feedback = torch.tensor([1000.0])
    largest = torch.from_numpy(SCALES[-1:])
    assert torch.equal(dense(codec, codec.encode(feedback)), largest)
    assert torch.equal(feedback, 1000.0 - largest)


@pytest.mark.parametrize("values", FORMATS)
def test_everything_is_sent_in_the_end(values):
    """Error feedback: rounds without a new pseudo-gradient empty it."""
    codec = PseudoGradientCodec(((64, 64),), CodecOptions(512, values=values))
    before = normal(codec.numel)
    feedback = before.clone()
    sent = torch.zeros(codec.numel)
    for _ in range(100):
        sent += dense(codec, codec.encode(feedback))
    assert feedback.norm() < 0.01 * before.norm()
    assert torch.allclose(sent + feedback, before, atol=1e-7)


def test_a_factor_multiplies_before_the_addition():
    codec = PseudoGradientCodec(MIXED, CodecOptions())
    payload = codec.encode(normal(codec.numel))
    into = normal(codec.numel, 1)
    wanted = into + dense(codec, payload) * torch.tensor(0.3)
    codec.add(payload, into, 0.3)
    assert same_bits(into, wanted)


def test_what_was_added_can_be_taken_out():
    codec = PseudoGradientCodec(MIXED, CodecOptions(values="fp16"))
    payload = codec.encode(normal(codec.numel))
    into = torch.zeros(codec.numel)
    codec.add(payload, into)
    codec.add(payload, into, -1.0)
    assert not into.any()


def test_a_payload_wrong_at_its_end_adds_nothing():
    codec = PseudoGradientCodec(((64, 64), (64,)), CodecOptions())
    payload = bytearray(codec.encode(normal(codec.numel)))
    payload[-1] = 255  # the last gap of the last span
    payload[30:38] = checksum(bytes(payload))
    into = torch.zeros(codec.numel)
    with pytest.raises(CompressionError, match="gap-count"):
        codec.add(bytes(payload), into)
    assert not into.any()


@pytest.mark.parametrize(("values", "most"), [("sign", 0.137), ("sym2", 0.155), ("fp16", 0.372)])
def test_bits_per_parameter(values, most):
    codec = PseudoGradientCodec(((1024, 1024),), CodecOptions(values=values))
    assert len(codec.encode(normal(codec.numel))) * 8 / codec.numel <= most


@pytest.mark.parametrize("values", FORMATS)
@pytest.mark.parametrize(("k", "chunk"), [(1, 4096), (64, 1024), (64, 4096), (16384, 16384)])
def test_no_payload_exceeds_the_bound(values, k, chunk):
    """Kept entries at the end of each tile reach the largest number of gap bytes."""
    codec = PseudoGradientCodec(MIXED, CodecOptions(k, chunk, values))
    rising = torch.arange(codec.numel, dtype=torch.float32) + 1
    sparse = normal(codec.numel) * (torch.arange(codec.numel) % 100 == 99)
    for feedback in (rising, normal(codec.numel), torch.ones(codec.numel), sparse):
        assert len(codec.encode(feedback)) <= codec.max_payload_bytes


def test_encoding_and_adding_need_memory_for_one_span():
    """What numpy and zstandard allocate; the payload itself has 0.017 bytes per parameter."""
    codec = PseudoGradientCodec(((4096, 2048),), CodecOptions())
    feedback, start, local = (normal(codec.numel, seed) for seed in range(3))
    tracemalloc.start()
    try:
        payload = codec.encode(feedback, Drift(0.95, start, local))
        assert tracemalloc.get_traced_memory()[1] < 0.75 * codec.numel
        tracemalloc.reset_peak()
        codec.add(payload, feedback)
        assert tracemalloc.get_traced_memory()[1] < 0.5 * codec.numel
    finally:
        tracemalloc.stop()


def test_payload_and_feedback_do_not_depend_on_threads():
    codec = PseudoGradientCodec((*MIXED, (1030, 1030)), CodecOptions())
    coarse = (normal(codec.numel) * 5000).round() / 5000
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            feedback = coarse.clone()
            results.append((codec.encode(feedback), feedback))
    finally:
        torch.set_num_threads(threads)
    for payload, feedback in results[1:]:
        assert payload == results[0][0]
        assert same_bits(feedback, results[0][1])


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_non_finite_feedback_is_refused(value):
    codec = PseudoGradientCodec(((64, 64), (3,)), CodecOptions())
    feedback = normal(codec.numel)
    spoiled = normal(codec.numel)
    spoiled[-1] = value
    for first, drift in ((spoiled, None), (feedback, Drift(0.9, feedback, spoiled))):
        with pytest.raises(CompressionError) as caught:
            codec.encode(first, drift)
        assert caught.value.reason == "non-finite"


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(5), torch.zeros(2, 2), torch.zeros(4, dtype=torch.float64), torch.zeros(8)[::2]],
)
def test_tensors_of_another_form_are_a_value_error(tensor):
    codec = PseudoGradientCodec(((2, 2),), CodecOptions())
    payload = codec.encode(torch.ones(4))
    for call in (
        lambda: codec.encode(tensor),
        lambda: codec.encode(torch.ones(4), Drift(0.9, tensor, torch.ones(4))),
        lambda: codec.encode(torch.ones(4), Drift(0.9, torch.ones(4), tensor)),
        lambda: codec.add(payload, tensor),
    ):
        with pytest.raises(ValueError, match="need contiguous f32"):
            call()


def test_a_drift_elsewhere_is_a_value_error():
    codec = PseudoGradientCodec(((2, 2),), CodecOptions())
    elsewhere = torch.ones(4, device="meta")
    with pytest.raises(ValueError, match="drift on meta"):
        codec.encode(torch.ones(4), Drift(0.9, elsewhere, elsewhere))
