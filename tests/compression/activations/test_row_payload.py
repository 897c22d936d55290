"""The frame of row payloads, and what may be encoded at all."""

import struct

import pytest
import torch

from skerry.compression.activations.row_payload import (
    HEADER_BYTES,
    MAGNITUDE_LIMIT,
    RowFormat,
    checked_rows,
    open_rows,
    seal_rows,
)
from skerry.compression.errors import CompressionError

FRAME = struct.Struct("<BBHI")


def opened(payload, rows=2):
    return bytes(open_rows(payload, RowFormat.INT8, 3, rows, 5))


def test_frame_is_the_documented_one():
    payload = seal_rows(RowFormat.INT8, 3, 2, b"0123456789")
    assert payload == FRAME.pack(1, 2, 3, 2) + b"0123456789"
    assert len(payload) == HEADER_BYTES + 10
    assert opened(payload) == b"0123456789"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "too-short"),
        (FRAME.pack(1, 2, 3, 2)[:-1], "too-short"),
        (FRAME.pack(2, 2, 3, 2) + bytes(10), "bad-version"),
        (FRAME.pack(1, 3, 3, 2) + bytes(10), "wrong-format"),
        (FRAME.pack(1, 2, 4, 2) + bytes(10), "wrong-width"),
        (FRAME.pack(1, 2, 3, 1) + bytes(5), "wrong-rows"),
        (FRAME.pack(1, 2, 3, 2**32 - 1) + bytes(10), "wrong-rows"),
        (FRAME.pack(1, 2, 3, 2) + bytes(9), "wrong-length"),
        (FRAME.pack(1, 2, 3, 2) + bytes(11), "wrong-length"),
    ],
)
def test_another_frame_is_refused_by_name(payload, reason):
    with pytest.raises(CompressionError) as caught:
        opened(payload)
    assert caught.value.reason == reason


def test_checked_rows_come_with_their_largest_magnitude():
    rows = torch.tensor([[1.0, -3.0], [0.0, 0.0]], dtype=torch.float16, requires_grad=True)
    checked, largest = checked_rows(rows, 2)
    assert checked.dtype == torch.float32 and not checked.requires_grad
    assert largest.tolist() == [3.0, 0.0]


def test_the_limit_itself_may_be_encoded():
    checked_rows(torch.tensor([[-MAGNITUDE_LIMIT]]), 1)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (float("nan"), "non-finite"),
        (float("inf"), "non-finite"),
        (-float("inf"), "non-finite"),
        (2.0**100.5, "too-large"),
        (-3e38, "too-large"),
    ],
)
@pytest.mark.parametrize("place", [0, 17, 39])
def test_bad_entries_are_refused_by_name(entry, reason, place):
    rows = torch.ones(4, 10)
    rows.view(-1)[place] = entry
    with pytest.raises(CompressionError) as caught:
        checked_rows(rows, 10)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "rows", [torch.ones(3), torch.ones(2, 4), torch.ones(2, 3, 1), torch.ones(2, 3).int()]
)
def test_another_form_is_a_mistake_of_the_caller(rows):
    with pytest.raises(ValueError, match="need") as caught:
        checked_rows(rows, 3)
    assert not isinstance(caught.value, CompressionError)
