"""bfloat16 rows: torch's own rounding, unbiased noise, hostile payloads."""

import struct
from math import sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.activations.bf16_rows import Bf16Rows
from skerry.compression.activations.row_payload import HEADER_BYTES, MAGNITUDE_LIMIT
from skerry.compression.counter_rng import derive
from skerry.compression.errors import CompressionError

CPU = torch.device("cpu")
CODEC = Bf16Rows(5)
ENTRIES = st.floats(-MAGNITUDE_LIMIT, MAGNITUDE_LIMIT, width=32)
ROWS = st.lists(st.lists(ENTRIES, min_size=5, max_size=5), max_size=4).map(
    lambda rows: torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
)
REASONS = {
    "too-short",
    "bad-version",
    "wrong-format",
    "wrong-width",
    "wrong-rows",
    "wrong-length",
    "bad-value",
}


@given(ROWS)
def test_nearest_is_torchs_conversion(rows):
    payload = CODEC.encode(rows)
    assert len(payload) == HEADER_BYTES + rows.shape[0] * CODEC.row_bytes
    decoded = CODEC.decode(payload, rows.shape[0], CPU)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, rows.bfloat16().float())
    off = (decoded.double() - rows.double()).abs()
    # Below 2^-126, where numbers are subnormal, steps are 2^-133 wide.
    assert bool((off <= torch.clamp(rows.double().abs() * 2**-8, min=2**-134)).all())


@given(ROWS, st.integers(0, 2**64 - 1))
def test_noise_takes_one_of_the_two_neighbours(rows, key):
    decoded = CODEC.decode(CODEC.encode(rows, key), rows.shape[0], CPU)
    off = (decoded.double() - rows.double()).abs()
    assert bool((off < torch.clamp(rows.double().abs() * 2**-7, min=2**-133)).all())
    exact = rows.bfloat16().float() == rows
    assert torch.equal(decoded[exact], rows[exact])


def test_noise_is_unbiased():
    row = torch.randn(64, generator=torch.Generator().manual_seed(1))
    codec, total = Bf16Rows(64), torch.zeros(64, dtype=torch.float64)
    for key in range(300):
        total += (
            codec.decode(codec.encode(row.expand(16, 64), derive(key)), 16, CPU).double().sum(0)
        )
    step = torch.exp2(row.double().abs().log2().floor() - 7)
    off = (total / 4800 - row.double()).abs()
    assert bool((off <= step * 5 * 0.5 / sqrt(4800)).all())


def test_payload_is_a_pure_function_of_rows_and_key():
    rows = torch.randn(9, 5, generator=torch.Generator().manual_seed(2))
    before = rows.clone()
    assert CODEC.encode(rows, 7) == CODEC.encode(rows, 7) != CODEC.encode(rows, 8)
    assert CODEC.encode(rows.T.contiguous().T, 7) == CODEC.encode(rows, 7)
    assert torch.equal(rows, before)


def test_golden_bytes():
    rows = torch.tensor([[1.0, -2.5, 0.1, 3.14159, 0.0]])
    head = bytes.fromhex("0101050001000000")
    assert CODEC.encode(rows) == head + bytes.fromhex("803f 20c0 cd3d 4940 0000")
    assert CODEC.encode(rows, derive(1)) == head + bytes.fromhex("803f20c0cd3d49400000")


@pytest.mark.parametrize("pattern", [0x7F80, 0x7FC0, 0xFF80, 0xFFFF, 0x7181, 0xF181])
def test_entries_that_no_encoder_writes_are_refused(pattern):
    """Infinity, NaN, above 2^100."""
    payload = bytearray(CODEC.encode(torch.ones(3, 5)))
    struct.pack_into("<H", payload, HEADER_BYTES + 14, pattern)
    with pytest.raises(CompressionError) as caught:
        CODEC.decode(bytes(payload), 3, CPU)
    assert caught.value.reason == "bad-value"


@pytest.mark.parametrize("width", [0, 2**16])
def test_impossible_codecs_cannot_be_built(width):
    with pytest.raises(ValueError, match="width"):
        Bf16Rows(width)


@given(data=st.data())
def test_any_bytes_give_rows_or_a_named_refusal(data):
    payload = bytearray(CODEC.encode(torch.ones(3, 5)))
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    mutant = bytes(payload) + data.draw(st.sampled_from([b"", b"\0", b"\xff" * 10]))
    try:
        decoded = CODEC.decode(mutant, 3, CPU)
    except CompressionError as error:
        assert error.reason in REASONS
    else:
        assert decoded.shape == (3, 5)
        assert bool((decoded.abs() <= MAGNITUDE_LIMIT).all())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_writes_the_same_bytes_and_reads_the_same_rows():
    rows = torch.randn(2048, 1024, generator=torch.Generator().manual_seed(3))
    codec = Bf16Rows(1024)
    for key in (None, derive(10)):
        payload = codec.encode(rows, key)
        assert codec.encode(rows.cuda(), key) == payload
        decoded = codec.decode(payload, 2048, torch.device("cuda"))
        assert torch.equal(decoded.cpu(), codec.decode(payload, 2048, CPU))
