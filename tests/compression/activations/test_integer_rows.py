"""int8 and int4 rows: bounds of the error, exact bytes, hostile payloads."""

import struct
import tracemalloc
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compression.activations.integer_rows import SCALE_BYTES, SMALLEST_SCALE, IntegerRows
from skerry.compression.activations.row_payload import HEADER_BYTES, MAGNITUDE_LIMIT
from skerry.compression.counter_rng import derive, uniforms
from skerry.compression.errors import CompressionError

CPU = torch.device("cpu")
SLACK = 2.0**-16
"""Rounding of the quotient, in scales."""
BITS = pytest.mark.parametrize("bits", [8, 4])
REASONS = {
    "too-short",
    "bad-version",
    "wrong-format",
    "wrong-width",
    "wrong-rows",
    "wrong-length",
    "bad-scale",
    "bad-code",
}


@st.composite
def row_tensors(draw):
    """Rows of all magnitudes: mixed signs, outliers, zeros, steps that tie."""
    rows, width = draw(st.integers(0, 6)), 2 * draw(st.integers(1, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    tensor = torch.randn(rows, width, generator=generator)
    if draw(st.booleans()):
        tensor = (tensor * 2).round() / 2
    if draw(st.booleans()):
        tensor[:, 0] *= 1000
    if draw(st.booleans()):
        tensor[::2] = 0
    return (tensor.double() * 2.0 ** draw(st.integers(-148, 85))).float()


def scales_of(payload, rows):
    patterns = np.frombuffer(payload, "<u2", rows, HEADER_BYTES).astype(np.uint32) << 16
    return torch.from_numpy(patterns.view(np.float32)).double().unsqueeze(1)


@BITS
@given(row_tensors(), st.one_of(st.none(), st.integers(0, 2**64 - 1)))
def test_an_entry_is_off_by_no_more_than_its_bound(bits, rows, key):
    codec = IntegerRows(rows.shape[1], bits)
    payload = codec.encode(rows, key)
    assert len(payload) == HEADER_BYTES + rows.shape[0] * codec.row_bytes
    decoded = codec.decode(payload, rows.shape[0], CPU)
    assert decoded.shape == rows.shape and decoded.dtype == torch.float32
    scales = scales_of(payload, rows.shape[0])
    bound = scales * ((0.5 if key is None else 1.0) + SLACK)
    vanishing = codec.levels * SMALLEST_SCALE
    off = (decoded.double() - rows.double()).abs()
    assert bool((off <= torch.where(scales > 0, bound, vanishing)).all())


@BITS
@given(row_tensors())
def test_a_scale_is_the_least_bfloat16_that_clips_nothing(bits, rows):
    codec = IntegerRows(rows.shape[1], bits)
    scales = scales_of(codec.encode(rows), rows.shape[0]).squeeze(1)
    exact = rows.double().abs().amax(1) / codec.levels
    kept = exact >= SMALLEST_SCALE * 1.001
    assert bool((scales[kept] >= exact[kept] * (1 - 2**-24)).all())
    assert bool((scales[kept] <= exact[kept] * (1 + 2**-7)).all())
    assert bool((scales[exact < SMALLEST_SCALE * 0.999] == 0).all())


@BITS
def test_no_largest_entry_is_beyond_its_scale(bits):
    """Of every scale there is, the entries next to where it changes to the next one."""
    codec = IntegerRows(2, bits)
    patterns = torch.arange(0x0080, 0x7000, dtype=torch.int32) << 16
    edges = patterns.view(torch.float32) * codec.levels
    largest = torch.cat(
        [(edges.view(torch.int32) + step).view(torch.float32) for step in (-1, 0, 1)]
    )
    largest = largest[largest <= MAGNITUDE_LIMIT]
    rows = torch.stack((largest, -largest), dim=1)
    scales = scales_of(codec.encode(rows), len(rows)).squeeze(1)
    assert bool((largest[scales > 0].double() <= scales[scales > 0] * codec.levels).all())
    assert len(scales.unique()) > 28_000


@BITS
def test_the_smallest_scale_is_still_sent(bits):
    codec = IntegerRows(2, bits)
    smallest = codec.levels * SMALLEST_SCALE
    rows = torch.tensor([[smallest, 0], [smallest * (1 - 2**-22), 0]])
    assert scales_of(codec.encode(rows), 2).squeeze(1).tolist() == [SMALLEST_SCALE, 0]
    assert torch.equal(codec.decode(codec.encode(rows), 2, CPU)[0], rows[0])


@BITS
def test_rows_too_small_for_a_scale_stay_zero_whatever_the_noise(bits):
    """The first word of this key gives the noise 0, which rounds up everything above 0."""
    key = 0x0E98225BBB49805F
    assert uniforms(key, torch.tensor([0])) == 0
    payload = IntegerRows(2, bits).encode(torch.tensor([[4e-38, -4e-38]]), key)
    assert payload == IntegerRows(2, bits).encode(torch.zeros(1, 2))


@BITS
def test_documented_bound_in_terms_of_the_largest_entry(bits):
    rows = torch.randn(200, 64, generator=torch.Generator().manual_seed(3))
    codec = IntegerRows(64, bits)
    off = (codec.decode(codec.encode(rows), 200, CPU) - rows).abs().amax(1)
    assert bool((off <= rows.abs().amax(1) / {8: 252, 4: 13.8}[bits]).all())


@BITS
def test_codes_times_scale_come_back_exactly(bits):
    """Whatever was decoded once is decoded again to the same numbers: a second hop is free."""
    rows = torch.randn(50, 40, generator=torch.Generator().manual_seed(4))
    codec = IntegerRows(40, bits)
    once = codec.decode(codec.encode(rows), 50, CPU)
    top = once.abs().amax(1) == scales_of(codec.encode(rows), 50).squeeze(1).float() * codec.levels
    assert bool(top.any())
    again = codec.decode(codec.encode(once), 50, CPU)
    assert torch.equal(again[top], once[top])


@BITS
def test_stochastic_rounding_is_unbiased(bits):
    """Over 300 keys and 16 copies of a row, the mean is within 5 standard deviations."""
    row = torch.randn(64, generator=torch.Generator().manual_seed(5))
    row[:3] = torch.tensor([0.0, 1e-4, -1e-4])
    codec = IntegerRows(64, bits)
    total = torch.zeros(64, dtype=torch.float64)
    for key in range(300):
        payload = codec.encode(row.expand(16, 64), derive(key))
        total += codec.decode(payload, 16, CPU).double().sum(0)
    scale = float(scales_of(payload, 16)[0])
    off = (total / 4800 - row.double()).abs()
    assert bool((off <= scale * (5 * 0.5 / sqrt(4800) + SLACK)).all())
    assert off[0] == 0
    nearest = codec.decode(codec.encode(row.expand(16, 64)), 16, CPU)[0]
    assert bool((nearest[1:3] == 0).all()), "entries that only noise can keep"


@BITS
def test_payload_is_a_pure_function_of_rows_and_key(bits):
    rows = torch.randn(9, 40, generator=torch.Generator().manual_seed(6))
    codec = IntegerRows(40, bits)
    before = rows.clone()
    assert codec.encode(rows, 7) == codec.encode(rows, 7) != codec.encode(rows, 8)
    assert codec.encode(rows) == codec.encode(rows) != codec.encode(rows, 7)
    assert torch.equal(rows, before)


@BITS
def test_layout_and_type_of_the_rows_do_not_matter(bits):
    rows = torch.randn(8, 40, generator=torch.Generator().manual_seed(7)).bfloat16()
    codec = IntegerRows(40, bits)
    for key in (None, 3):
        assert codec.encode(rows.T.contiguous().T, key) == codec.encode(rows, key)
        assert codec.encode(rows.double(), key) == codec.encode(rows, key)


def test_golden_bytes():
    rows = torch.tensor([[1.27, -0.635, 0.0, 0.004], [0.0, 0.0, 0.0, 0.0]])
    head8, head4 = bytes.fromhex("0102040002000000"), bytes.fromhex("0103040002000000")
    # 1.27 / 127 is 0.01, up to bfloat16 0x3c24 = 0.010009765625; 1.27 / 7 is 0x3e3a = 0.181640625.
    int8 = head8 + bytes.fromhex("243c 0000 7fc10000 00000000")
    int4 = head4 + bytes.fromhex("3a3e 0000 5f88 8888")
    assert IntegerRows(4, 8).encode(rows) == int8
    assert IntegerRows(4, 4).encode(rows) == int4
    assert IntegerRows(4, 8).encode(rows, derive(1)) == head8 + bytes.fromhex(
        "243c00007fc0000000000000"
    )
    assert IntegerRows(4, 4).encode(rows, derive(1)) == head4 + bytes.fromhex("3a3e00004f888888")


def test_int4_writes_the_earlier_entry_into_the_lower_half():
    payload = IntegerRows(2, 4).encode(torch.tensor([[7.0, -7.0]]))
    assert payload[HEADER_BYTES + SCALE_BYTES :] == bytes([0x1F])


@pytest.mark.parametrize(
    ("width", "bits"), [(0, 8), (2**16, 8), (-1, 8), (3, 4), (4, 5), (4, 16), (4, 0)]
)
def test_impossible_codecs_cannot_be_built(width, bits):
    with pytest.raises(ValueError, match=r"width|bits"):
        IntegerRows(width, bits)


@pytest.mark.parametrize("pattern", [0x7F80, 0x7FC0, 0xFF80, 0x8000, 0xBF80, 0x0001, 0x7200])
def test_scales_that_no_encoder_writes_are_refused(pattern):
    """Infinity, NaN, negative, minus zero, subnormal, above 2^100."""
    codec = IntegerRows(4, 8)
    payload = bytearray(codec.encode(torch.ones(3, 4)))
    struct.pack_into("<H", payload, HEADER_BYTES + 2, pattern)
    with pytest.raises(CompressionError) as caught:
        codec.decode(bytes(payload), 3, CPU)
    assert caught.value.reason == "bad-scale"


@pytest.mark.parametrize(("bits", "byte"), [(8, 0x80), (4, 0x05), (4, 0x50)])
def test_the_code_below_the_lowest_is_refused(bits, byte):
    codec = IntegerRows(4, bits)
    payload = bytearray(codec.encode(torch.ones(3, 4)))
    payload[-1] = byte
    with pytest.raises(CompressionError) as caught:
        codec.decode(bytes(payload), 3, CPU)
    assert caught.value.reason == "bad-code"


def test_the_largest_entries_stay_finite():
    rows = torch.full((2, 4), MAGNITUDE_LIMIT)
    for bits in (8, 4):
        decoded = IntegerRows(4, bits).decode(IntegerRows(4, bits).encode(rows), 2, CPU)
        assert bool(torch.isfinite(decoded).all())


@BITS
@settings(max_examples=300)
@given(data=st.data())
def test_any_bytes_give_rows_or_a_named_refusal(bits, data):
    codec = IntegerRows(6, bits)
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(8))
    payload = bytearray(codec.encode(rows))
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(payload), None, 5, 20]))
    mutant = bytes(payload[:end]) + data.draw(st.sampled_from([b"", b"\0", b"\xff" * 9]))
    try:
        decoded = codec.decode(mutant, 4, CPU)
    except CompressionError as error:
        assert error.reason in REASONS
    else:
        assert decoded.shape == (4, 6)
        assert bool((decoded.abs() <= codec.levels * MAGNITUDE_LIMIT).all())


@BITS
@given(st.binary(max_size=200), st.integers(0, 50))
def test_unrelated_bytes_are_refused_by_name(bits, payload, rows):
    try:
        IntegerRows(6, bits).decode(payload, rows, CPU)
    except CompressionError as error:
        assert error.reason in REASONS


def test_announced_rows_cost_no_memory():
    payload = struct.pack("<BBHI", 1, 2, 40, 2**32 - 1) + bytes(42)
    codec = IntegerRows(40, 8)
    tracemalloc.start()
    for rows in (1, 2**32 - 1):
        with pytest.raises(CompressionError):
            codec.decode(payload, rows, CPU)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@BITS
def test_cuda_writes_the_same_bytes_and_reads_the_same_rows(bits):
    generator = torch.Generator().manual_seed(9)
    rows = torch.randn(2048, 1024, generator=generator)
    rows *= 2.0 ** torch.randint(-100, 60, (2048, 1), generator=generator)
    rows[5] = 0
    codec = IntegerRows(1024, bits)
    for key in (None, derive(10)):
        payload = codec.encode(rows, key)
        assert codec.encode(rows.cuda(), key) == payload
        decoded = codec.decode(payload, 2048, torch.device("cuda"))
        assert torch.equal(decoded.cpu(), codec.decode(payload, 2048, CPU))
