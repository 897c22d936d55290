"""The codec: what is sent and what stays add up bit for bit; bounds; determinism."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compression.errors import CompressionError
from skerry.compression.options import CodecOptions
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.compression.scales import SCALES
from skerry.compression.tiles import TILE_ENTRIES

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


def normal(numel, seed=0, scale=1e-3):
    return torch.randn(numel, generator=torch.Generator().manual_seed(seed)) * scale


def dense(update, numel):
    total = torch.zeros(numel)
    total[update.indices] = update.values
    return total


def same_bits(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def top_of_tile(tile, keep):
    """Selection by definition: ties go to the lowest index."""
    magnitudes = tile.abs().flatten().tolist()
    order = sorted(range(len(magnitudes)), key=lambda i: (-magnitudes[i], i))
    return sorted(order[:keep])


@settings(deadline=None)
@given(SHAPES, st.sampled_from([1, 5, 64, 4096]), st.integers(0, 2**31), st.integers(-40, 8))
def test_what_is_sent_and_what_stays_add_up(shapes, k, seed, octave):
    codec = PseudoGradientCodec(shapes, CodecOptions(k))
    before = normal(codec.numel, seed, 2.0**octave)
    after = before.clone()
    payload = codec.encode(after)
    update = codec.decode(payload)
    assert len(payload) <= codec.max_payload_bytes
    assert same_bits(before - dense(update, codec.numel), after)
    assert bool((update.indices.diff() > 0).all())
    assert update.values.dtype == torch.float32


@settings(deadline=None)
@given(st.sampled_from([1, 64, 4096]), st.data())
def test_extreme_feedback_is_conserved(k, data):
    """Zeros of both signs, denormals, ties and the largest fp32 numbers side by side."""
    codec = PseudoGradientCodec(((3, 67), (5,)), CodecOptions(k))
    special = [0.0, -0.0, 1e-45, -1e-40, 1e-3, -1e-3, 50.0, 3.4028234663852886e38]
    entry = st.sampled_from(special)
    before = torch.tensor(data.draw(st.lists(entry, min_size=206, max_size=206)))
    after = before.clone()
    update = codec.decode(codec.encode(after))
    assert same_bits(before - dense(update, codec.numel), after)


def test_the_largest_entries_of_each_tile_are_sent():
    codec = PseudoGradientCodec(((70, 130),), CodecOptions(64))
    feedback = normal(codec.numel)
    # Coarse magnitudes make ties at the threshold of nearly every tile.
    feedback = (feedback * 2000).round() / 2000
    matrix = feedback.reshape(70, 130).clone()
    sent = dense(codec.decode(codec.encode(feedback)), codec.numel).reshape(70, 130)
    for rows in (slice(0, 64), slice(64, 70)):
        for columns in (slice(0, 64), slice(64, 128), slice(128, 130)):
            tile = matrix[rows, columns]
            kept = top_of_tile(tile, max(1, round(64 * tile.numel() / TILE_ENTRIES)))
            assert sent[rows, columns].flatten().nonzero().flatten().tolist() == kept


def test_a_tile_decodes_to_its_mean_magnitude_and_signs():
    codec = PseudoGradientCodec(((4, 64),), CodecOptions(64))
    feedback = torch.zeros(256)
    feedback[[3, 70, 140, 255]] = torch.tensor([0.5, -1.5, 1.0, -1.0])
    update = codec.decode(codec.encode(feedback))
    assert update.indices.tolist() == [3, 70, 140, 255]
    assert update.values.tolist() == [1.0, -1.0, 1.0, -1.0]
    assert feedback[[3, 70, 140, 255]].tolist() == [-0.5, -0.5, 0.0, 0.0]


def test_zero_tiles_send_nothing():
    codec = PseudoGradientCodec(((64, 128),), CodecOptions(64))
    feedback = torch.zeros(codec.numel)
    empty = codec.encode(feedback)
    assert codec.decode(empty).indices.numel() == 0
    feedback.view(64, 128)[:, 64:] = 0.25
    update = codec.decode(codec.encode(feedback))
    assert update.indices.tolist() == list(range(64, 128))
    assert len(empty) == 31 + 2


def test_large_scales_saturate_and_the_rest_stays():
    codec = PseudoGradientCodec(((1,),), CodecOptions(64))
    feedback = torch.tensor([1000.0])
    update = codec.decode(codec.encode(feedback))
    assert torch.equal(update.values, SCALES[-1:])
    assert torch.equal(feedback, 1000.0 - SCALES[-1:])


def test_everything_is_sent_in_the_end():
    """Error feedback: rounds without a new pseudo-gradient empty it."""
    codec = PseudoGradientCodec(((64, 64),), CodecOptions(512))
    before = normal(codec.numel)
    feedback = before.clone()
    sent = torch.zeros(codec.numel)
    for _ in range(100):
        sent += dense(codec.decode(codec.encode(feedback)), codec.numel)
    assert feedback.norm() < 0.01 * before.norm()
    assert torch.allclose(sent + feedback, before, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_bits_per_parameter(seed):
    codec = PseudoGradientCodec(((512, 512),), CodecOptions(64))
    assert len(codec.encode(normal(codec.numel, seed))) * 8 / codec.numel <= 0.145


@pytest.mark.parametrize("k", [1, 8, 64, 512, 4096])
def test_no_payload_exceeds_the_bound(k):
    """Kept entries at the end of each tile reach the largest number of gap bytes."""
    codec = PseudoGradientCodec(MIXED, CodecOptions(k))
    rising = torch.arange(codec.numel, dtype=torch.float32) + 1
    for feedback in (rising, normal(codec.numel), torch.ones(codec.numel)):
        assert len(codec.encode(feedback)) <= codec.max_payload_bytes


def test_the_bound_is_reached_where_zstandard_gains_nothing():
    codec = PseudoGradientCodec(((64,),), CodecOptions(64))
    feedback = torch.arange(1.0, 65.0)
    assert len(codec.encode(feedback)) == codec.max_payload_bytes == 31 + 1 + 1 + 1


def test_payload_and_feedback_do_not_depend_on_threads():
    codec = PseudoGradientCodec((*MIXED, (1030, 1030)), CodecOptions(64))
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
def test_non_finite_feedback_is_refused_and_untouched(value):
    codec = PseudoGradientCodec(((64, 64), (3,)), CodecOptions(64))
    feedback = normal(codec.numel)
    feedback[-1] = value
    before = feedback.clone()
    with pytest.raises(CompressionError) as caught:
        codec.encode(feedback)
    assert caught.value.reason == "non-finite"
    assert same_bits(before, feedback)


@pytest.mark.parametrize(
    "feedback",
    [
        torch.zeros(5),
        torch.zeros(2, 2),
        torch.zeros(4, dtype=torch.float64),
        torch.zeros(4, device="meta"),
    ],
)
def test_feedback_of_another_form_is_a_value_error(feedback):
    with pytest.raises(ValueError, match="need f32"):
        PseudoGradientCodec(((2, 2),), CodecOptions(64)).encode(feedback)


def test_shard_beyond_the_length_fields_is_refused():
    with pytest.raises(ValueError, match="needs more than"):
        PseudoGradientCodec(((2**17, 2**15),), CodecOptions(4096))
