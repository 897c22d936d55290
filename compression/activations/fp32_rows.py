"""Rows as fp32, whole: 4 bytes per entry, for links where bytes cost nothing, and to compare with.

Body: each entry's fp32, little-endian, row by row. Nothing is rounded.

Shape suffixes: T rows (one per text token), W entries of a row.
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


@dataclass(frozen=True, slots=True)
class Fp32Rows:
    """Writes rows of ``width`` entries as they are."""

    width: int

    def __post_init__(self) -> None:
        """Raise ValueError on a width outside 1..65535."""
        require_width(self.width)

    @property
    def row_bytes(self) -> int:
        """Bytes per row."""
        return 4 * self.width

    def encode(self, rows_TW: Tensor, noise_key: int | None = None) -> bytes:
        """Return the payload of rows [T, W] of any float type, on any device.

        Args:
            rows_TW: entries of at most 2^100.
            noise_key: of no influence, since nothing is rounded.
        Raises: CompressionError: non-finite, too-large; ValueError on another form.
        """
        rows_TW, _ = checked_rows(rows_TW, self.width)
        body = rows_TW.cpu().numpy().astype("<f4", copy=False).tobytes()
        return seal_rows(RowFormat.FP32, self.width, rows_TW.shape[0], body)

    def decode(self, payload: bytes, rows: int, device: torch.device) -> Tensor:
        """Return the rows [rows, W] f32 of a payload from anywhere.

        Raises: CompressionError, and no other error: those of ``open_rows``, bad-value.
        """
        body = open_rows(payload, RowFormat.FP32, self.width, rows, self.row_bytes)
        return float_rows(np.frombuffer(body, "<f4").astype(np.float32), rows, self.width, device)
