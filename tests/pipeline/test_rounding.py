"""Stochastic rounding: unbiased, never more than one gap away, the same for the same key."""

import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.counter_rng import derive
from skerry.pipeline.rounding import rounded_bf16

LARGEST = torch.finfo(torch.bfloat16).max
keys = st.integers(0, 2**64 - 1)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def around(value: float) -> tuple[float, float]:
    """The bf16 numbers next to an fp32 number, towards zero and away from it."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    low = bits & 0xFFFF0000
    high = low if bits == low else low + 0x10000
    return tuple(struct.unpack("<f", struct.pack("<I", b))[0] for b in (low, high))


@given(keys, st.lists(floats, min_size=1, max_size=50))
def test_error_is_below_one_gap(key, values):
    rounded = rounded_bf16(torch.tensor(values), key).float().tolist()
    for value, got in zip(values, rounded, strict=True):
        low, high = around(value)
        assert got in (low, high if abs(value) <= LARGEST else low)


@given(keys, st.lists(floats, max_size=50))
def test_what_is_bf16_already_keeps_its_bits(key, values):
    exact = torch.tensor(values).bfloat16().clamp(-LARGEST, LARGEST)
    again = rounded_bf16(exact.float(), key)
    assert torch.equal(again.view(torch.int16), exact.view(torch.int16))


@given(keys, st.integers(0, 0xFFFF), st.sampled_from([0x3F80, 0x0001, 0xC2C8, 0x7F00]))
def test_mean_is_kept(key, fraction, upper):
    """The share rounded away from zero is the fraction of the gap, within 5 standard deviations."""
    count = 20_000
    bits = upper << 16 | fraction
    value = struct.unpack("<f", struct.pack("<I", bits))[0]
    rounded = rounded_bf16(torch.full((count,), value), key)
    ups = int((rounded.view(torch.int16) != struct.unpack("<h", struct.pack("<H", upper))[0]).sum())
    share = fraction / 2**16
    assert abs(ups / count - share) <= 5 * (share * (1 - share) / count) ** 0.5


@given(st.integers(0, 2**63 - 1), st.integers(0, 3))
def test_keys_and_entries_are_independent(seed, shard):
    values = torch.full((4096,), 1 + 2**-8)  # half a gap
    one = rounded_bf16(values, derive(seed, shard)) > 1
    other = rounded_bf16(values, derive(seed, shard + 1)) > 1
    agree = float((one == other).float().mean())
    repeat = float((one[1:] == one[:-1]).float().mean())
    assert abs(agree - 0.5) < 0.05
    assert abs(repeat - 0.5) < 0.05


@pytest.mark.parametrize("numel", [0, 1, 5, 2**16, 2**16 + 7])
def test_an_entry_does_not_depend_on_how_many_there_are(numel):
    values = torch.randn(2**17, generator=torch.Generator().manual_seed(1))
    whole = rounded_bf16(values, 7)
    assert torch.equal(rounded_bf16(values[:numel], 7), whole[:numel])


def test_bits_are_pinned():
    """Two runs of the same keys must give the same digests, also with another version."""
    rounded = rounded_bf16(torch.linspace(-1, 1, 8), derive(3, 1, 4))
    assert rounded.view(torch.int16).tolist() == [
        -16512,
        -16585,
        -16676,
        -16877,
        15890,
        16091,
        16183,
        16256,
    ]
