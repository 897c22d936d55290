"""fp32 rows: every bit comes back, and hostile payloads are refused."""

import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skerry.compression.activations.fp32_rows import Fp32Rows
from skerry.compression.activations.row_payload import HEADER_BYTES, MAGNITUDE_LIMIT
from skerry.compression.errors import CompressionError

CPU = torch.device("cpu")
CODEC = Fp32Rows(3)
ENTRIES = st.floats(-MAGNITUDE_LIMIT, MAGNITUDE_LIMIT, width=32)
ROWS = st.lists(st.lists(ENTRIES, min_size=3, max_size=3), max_size=4).map(
    lambda rows: torch.tensor(rows, dtype=torch.float32).reshape(-1, 3)
)


@given(ROWS, st.none() | st.integers(0, 2**64 - 1))
def test_every_bit_comes_back(rows, key):
    payload = CODEC.encode(rows, key)
    assert len(payload) == HEADER_BYTES + rows.shape[0] * CODEC.row_bytes
    decoded = CODEC.decode(payload, rows.shape[0], CPU)
    assert torch.equal(decoded.view(torch.int32), rows.view(torch.int32))


@given(st.binary(max_size=48))
def test_any_bytes_decode_or_are_refused_by_name(body):
    header = CODEC.encode(torch.zeros(2, 3))[:HEADER_BYTES]
    try:
        rows = CODEC.decode(header + body, 2, CPU)
    except CompressionError as error:
        assert error.reason in {"wrong-length", "bad-value"}
    else:
        assert float(rows.abs().max()) <= MAGNITUDE_LIMIT


@pytest.mark.parametrize("entry", [float("nan"), float("inf"), 2.0**101])
def test_entries_out_of_range_are_refused(entry):
    with pytest.raises(CompressionError):
        CODEC.encode(torch.tensor([[0.0, entry, 0.0]]))
    payload = CODEC.encode(torch.zeros(1, 3))[:HEADER_BYTES] + struct.pack("<3f", 0, entry, 0)
    with pytest.raises(CompressionError, match="bad-value"):
        CODEC.decode(payload, 1, CPU)


@pytest.mark.parametrize("width", [0, 2**16])
def test_impossible_widths_cannot_be_built(width):
    with pytest.raises(ValueError, match="width"):
        Fp32Rows(width)


def test_decoded_rows_own_their_memory():
    payload = CODEC.encode(torch.ones(2, 3))
    CODEC.decode(payload, 2, CPU).add_(1)
    assert torch.equal(CODEC.decode(payload, 2, CPU), torch.ones(2, 3))
