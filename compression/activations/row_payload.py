"""What all codecs of rows share: the frame of a payload, and the check of what is encoded.

A row is what one text token sends: its activation or the gradient of it, or the coordinates of
either. A payload, all integers little-endian:

    version u8 | format u8 | width u16 | rows u32      8 bytes
    body          rows times the format's bytes per row

There is no checksum: the streams between peers are authenticated, and a row is used once. Nothing
is allocated by what a payload announces: the receiver knows how many rows it waits for.

Shape suffixes: T rows (one per text token), W entries of a row, N entries of all rows.
"""

import struct
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skerry.compression.errors import CompressionError

VERSION = 1
MAX_WIDTH = 2**16 - 1
MAX_ROWS = 2**32 - 1
MAGNITUDE_LIMIT = 2.0**100
"""No entry is larger. Far above any use, and far enough below fp32's end (2^128) that the rows of
a hostile payload stay finite when they are multiplied with a basis."""
_HEADER = struct.Struct("<BBHI")
HEADER_BYTES = _HEADER.size


class RowFormat(IntEnum):
    """How the entries of a row are written; the number stands in the header."""

    BF16 = 1
    INT8 = 2
    INT4 = 3
    FP32 = 4


def require_width(width: int) -> None:
    """Raise ValueError unless rows may be this wide."""
    if not 1 <= width <= MAX_WIDTH:
        raise ValueError(f"width is {width}, allowed 1..{MAX_WIDTH}")


def seal_rows(row_format: RowFormat, width: int, rows: int, body: bytes) -> bytes:
    """Return the payload of a body; at most 2^32-1 rows."""
    return _HEADER.pack(VERSION, row_format, width, rows) + body


def open_rows(
    payload: bytes, row_format: RowFormat, width: int, rows: int, row_bytes: int
) -> memoryview:
    """Return the body of a payload from anywhere, without a copy, once its frame is as expected.

    Raises: CompressionError: too-short, bad-version, wrong-format, wrong-width, wrong-rows,
        wrong-length.
    """
    if len(payload) < HEADER_BYTES:
        raise CompressionError("too-short", f"{len(payload)} bytes, need {HEADER_BYTES}")
    found = _HEADER.unpack_from(payload)
    names = ("bad-version", "wrong-format", "wrong-width", "wrong-rows")
    needed = (VERSION, row_format, width, rows)
    for reason, got, need in zip(names, found, needed, strict=True):
        if got != need:
            raise CompressionError(reason, f"{got}, need {need}")
    length = HEADER_BYTES + rows * row_bytes
    if len(payload) != length:
        raise CompressionError("wrong-length", f"{len(payload)} bytes, need {length}")
    return memoryview(payload)[HEADER_BYTES:]


def float_rows(
    entries_N: NDArray[np.float32], rows: int, width: int, device: torch.device
) -> Tensor:
    """Return rows [T, W] f32 of a payload's floats. Raises: CompressionError("bad-value")."""
    if not (np.abs(entries_N) <= MAGNITUDE_LIMIT).all():
        raise CompressionError("bad-value", f"entry not finite or above {MAGNITUDE_LIMIT}")
    return torch.from_numpy(entries_N).reshape(rows, width).to(device)


def checked_rows(rows_TW: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return rows as fp32 [T, W], and the largest magnitude [T] of each.

    Raises: CompressionError("non-finite") or ("too-large"); ValueError on another form.
    """
    if rows_TW.dim() != 2 or rows_TW.shape[1] != width or not rows_TW.is_floating_point():
        raise ValueError(f"rows are {rows_TW.dtype} {list(rows_TW.shape)}, need [rows, {width}]")
    if rows_TW.shape[0] > MAX_ROWS:
        raise ValueError(f"{rows_TW.shape[0]} rows, allowed {MAX_ROWS}")
    rows_TW = rows_TW.detach().float()
    largest_T = rows_TW.abs().amax(1)  # NaN if a NaN is among them
    if not bool((largest_T <= MAGNITUDE_LIMIT).all()):
        if not bool(torch.isfinite(largest_T).all()):
            raise CompressionError("non-finite", "rows hold an infinity or NaN")
        raise CompressionError("too-large", f"magnitude {float(largest_T.max())}")
    return rows_TW, largest_T
