"""Rows as bfloat16: 2 bytes per entry, no scale.

Body: the upper 16 bits of each entry's fp32, little-endian, row by row.

Rounding to nearest is off by at most 2^-8 of the entry; stochastic rounding by less than 2^-7 of
it, and by nothing on average: adding 16 uniform bits before the lower 16 are cut off carries with
a probability proportional to what is cut off.

Shape suffixes: T rows (one per text token), W entries of a row, N entries of all rows.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skerry.compression.activations.row_payload import (
    RowFormat,
    checked_rows,
    float_rows,
    open_rows,
    require_width,
    seal_rows,
)
from skerry.compression.counter_rng import words


@dataclass(frozen=True, slots=True)
class Bf16Rows:
    """Writes rows of ``width`` entries as bfloat16."""

    width: int

    def __post_init__(self) -> None:
        """Raise ValueError on a width outside 1..65535."""
        require_width(self.width)

    @property
    def row_bytes(self) -> int:
        """Bytes per row."""
        return 2 * self.width

    def encode(self, rows_TW: Tensor, noise_key: int | None = None) -> bytes:
        """Return the payload of rows [T, W] of any float type, on any device.

        Args:
            rows_TW: entries of at most 2^100.
            noise_key: None rounds to nearest (ties to even); a key from ``derive`` draws the
                noise of stochastic rounding, so the result is a pure function of both arguments.
        Raises: CompressionError: non-finite, too-large; ValueError on another form.
        """
        rows_TW, _ = checked_rows(rows_TW, self.width)
        if noise_key is None:
            bits_TW = rows_TW.to(torch.bfloat16).view(torch.int16)
        else:
            bits_TW = _stochastic_bits(rows_TW, noise_key)
        body = bits_TW.cpu().numpy().astype("<i2", copy=False).tobytes()
        return seal_rows(RowFormat.BF16, self.width, rows_TW.shape[0], body)

    def decode(self, payload: bytes, rows: int, device: torch.device) -> Tensor:
        """Return the rows [rows, W] f32 of a payload from anywhere.

        Raises: CompressionError, and no other error: those of ``open_rows``, bad-value.
        """
        body = open_rows(payload, RowFormat.BF16, self.width, rows, self.row_bytes)
        bits_N = np.frombuffer(body, "<u2").astype(np.uint32) << 16
        return float_rows(bits_N.view(np.float32), rows, self.width, device)


def _stochastic_bits(rows_TW: Tensor, noise_key: int) -> Tensor:
    """Return the upper 16 bits of each entry plus noise, int16 [T, W].

    The bits of a float are sign and magnitude, so a carry enlarges the magnitude by one step.
    """
    counters_N = torch.arange(rows_TW.numel(), device=rows_TW.device)
    noise_TW = (words(noise_key, counters_N) & 0xFFFF).int().reshape(rows_TW.shape)
    return (rows_TW.view(torch.int32) + noise_TW >> 16).to(torch.int16)
