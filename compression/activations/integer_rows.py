"""Rows as integers of 8 or 4 bits with one scale per row.

Body: the scales, bfloat16 little-endian; then the codes, row by row: one byte each, or two in a
byte, the earlier one in the lower half, written as code + 8.

An entry is code times scale, with codes from -127 to 127 (-7 to 7). The scale is the row's largest
magnitude over 127 (7), rounded up to bfloat16, so that no entry is clipped. Why bfloat16: it has
the range of fp32, which gradients need (fp16 ends at 6e-8, where a gradient divided by the text
tokens of a batch and by 127 already is), and makes a scale at most 0.8 % larger than needed. A grid
of 256 logarithmic steps would save 1 byte per row, and make scales up to 85 % larger if it is to
cover that range.

Rounding to nearest is off by at most half a scale, stochastic rounding by less than one scale and
by nothing on average; both to within 2^-16 of the scale, because the quotient is rounded to fp32.
A row whose scale would be below 2^-126 (entries below 1.5e-36) is sent as zeros, because not all
devices compute with subnormal numbers.

Every step is an integer operation or one correctly rounded fp32 operation, so that the payload of
given rows is the same on every device.

Shape suffixes: T rows (one per text token), W entries of a row.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skerry.compression.activations.row_payload import (
    MAGNITUDE_LIMIT,
    RowFormat,
    checked_rows,
    open_rows,
    require_width,
    seal_rows,
)
from skerry.compression.counter_rng import uniforms
from skerry.compression.errors import CompressionError

SCALE_BYTES = 2
SMALLEST_SCALE = 2.0**-126
_LOWER_HALF = 0xFFFF


@dataclass(frozen=True, slots=True)
class IntegerRows:
    """Writes rows of ``width`` entries as integers of ``bits`` bits."""

    width: int
    bits: int

    def __post_init__(self) -> None:
        """Raise ValueError on a width outside 1..65535, odd with 4 bits, or on other bits."""
        require_width(self.width)
        if self.bits not in (4, 8):
            raise ValueError(f"{self.bits} bits, allowed 4 and 8")
        if self.width * self.bits % 8:
            raise ValueError(f"width is {self.width}, must be even with 4 bits")

    @property
    def row_bytes(self) -> int:
        """Bytes per row."""
        return SCALE_BYTES + self.width * self.bits // 8

    @property
    def levels(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1

    def encode(self, rows_TW: Tensor, noise_key: int | None = None) -> bytes:
        """Return the payload of rows [T, W] of any float type, on any device.

        Args:
            rows_TW: entries of at most 2^100.
            noise_key: None rounds to nearest (ties to even); a key from ``derive`` draws the
                noise of stochastic rounding, so the result is a pure function of both arguments.
        Raises: CompressionError: non-finite, too-large; ValueError on another form.
        """
        rows_TW, largest_T = checked_rows(rows_TW, self.width)
        scale_T = _scales(largest_T, self.levels)
        # An infinite divisor makes every code of a row without a scale 0. No code lies beyond the
        # levels: a scale times them is exact in fp32 and no less than the row's largest magnitude.
        divisor_T = torch.where(scale_T > 0, scale_T, torch.inf)
        codes_TW = _rounded(rows_TW / divisor_T.unsqueeze(1), noise_key)
        scale_bits_T = (scale_T.view(torch.int32) >> 16).to(torch.int16)
        body = scale_bits_T.cpu().numpy().astype("<i2", copy=False).tobytes()
        body += self._packed(codes_TW).cpu().numpy().tobytes()
        return seal_rows(self._format, self.width, rows_TW.shape[0], body)

    def decode(self, payload: bytes, rows: int, device: torch.device) -> Tensor:
        """Return the rows [rows, W] f32 of a payload from anywhere.

        Raises: CompressionError, and no other error: those of ``open_rows``, bad-scale, bad-code.
        """
        body = open_rows(payload, self._format, self.width, rows, self.row_bytes)
        scale_T = _checked_scales(np.frombuffer(body, "<u2", rows))
        packed = np.frombuffer(body, np.uint8, offset=SCALE_BYTES * rows)
        codes_TW = torch.from_numpy(self._unpacked(packed).reshape(rows, self.width))
        return codes_TW.to(device).float() * torch.from_numpy(scale_T).to(device).unsqueeze(1)

    @property
    def _format(self) -> RowFormat:
        return RowFormat.INT8 if self.bits == 8 else RowFormat.INT4

    def _packed(self, codes_TW: Tensor) -> Tensor:
        if self.bits == 8:
            return codes_TW.to(torch.int8)
        halves_TW = (codes_TW + 8).to(torch.uint8)
        return halves_TW[:, 0::2] | halves_TW[:, 1::2] << 4

    def _unpacked(self, packed: NDArray[np.uint8]) -> NDArray[np.int8]:
        """Return the codes in a row, refusing the one below ``-levels``."""
        if self.bits == 8:
            codes = packed.view(np.int8).copy()
        else:
            codes = np.stack((packed & 15, packed >> 4), axis=1).view(np.int8).ravel() - np.int8(8)
        if (codes < -self.levels).any():
            raise CompressionError("bad-code", f"code below {-self.levels}")
        return codes


def _scales(largest_T: Tensor, levels: int) -> Tensor:
    """Return the scales [T], f32 that are bfloat16 too, rounded up."""
    # Division by a number instead of a tensor is a multiplication by its reciprocal on CUDA.
    exact_T = largest_T / torch.full_like(largest_T, levels)
    bits_T = (exact_T.view(torch.int32) + _LOWER_HALF).bitwise_and_(~_LOWER_HALF)
    return torch.where(exact_T < SMALLEST_SCALE, 0.0, bits_T.view(torch.float32))


def _rounded(quotients_TW: Tensor, noise_key: int | None) -> Tensor:
    """Return integers (as f32): the nearest, or the one above with the fraction's probability."""
    if noise_key is None:
        return quotients_TW.round()
    floor_TW = quotients_TW.floor()
    counters_N = torch.arange(quotients_TW.numel(), device=quotients_TW.device)
    noise_TW = uniforms(noise_key, counters_N).reshape(quotients_TW.shape)
    return floor_TW + (noise_TW < quotients_TW - floor_TW)


def _checked_scales(patterns_T: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the fp32 of bfloat16 patterns: 0, or within the range of scales, or an error."""
    scale_T = (patterns_T.astype(np.uint32) << 16).view(np.float32)
    valid_T = (scale_T >= SMALLEST_SCALE) & (scale_T <= MAGNITUDE_LIMIT) | (patterns_T == 0)
    if not valid_T.all():
        raise CompressionError("bad-scale", f"{scale_T[~valid_T][0]} as a scale")
    return scale_T
