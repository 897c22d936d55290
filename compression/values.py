"""How the values of kept entries are written: signs, two magnitudes, or half precision.

"sign"  one bit per entry; its magnitude is the tile's mean. A lower error than the reference's
        2 bits with one codebook per tensor (SparseLoCo), as magnitudes differ between tiles.
"sym2"  one more bit tells the larger from the smaller entries of a tile; a mean for each.
"fp16"  the nearest half-precision number, for debugging.

A tile without scale (code 0) sends nothing. Under "sign" and "sym2" that is one whose entries are
too small for the grid of scales.py, under "fp16" one that holds only zeros. Zeros are never
selected, so none is sent as something else.

Means are float64 sums in a fixed order, divided once: the same bits on every platform.

Shape suffixes: T tiles of a span, M kept entries of all tiles.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skerry.compression.entries import Entries
from skerry.compression.errors import CompressionError
from skerry.compression.options import Values
from skerry.compression.scales import NUM_CODES, SCALES, scale_codes
from skerry.compression.tile_sums import tile_minima, tile_sums

_HIGH_BORDER = 1.594
"""Above the smallest, in units of mean minus smallest: best for two levels of an exponential
distribution, which the tail beyond a threshold resembles (Lloyd 1982: border and means agree)."""
_LARGEST_FP16 = 65504.0
_NUM_FP16 = 2**15
_NOTHING = np.zeros(0, np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """What a span's tiles say about magnitudes."""

    codes_T: NDArray[np.uint8]
    """Scale code; 0 for a tile that sends nothing. Under "fp16" 1 for one that does."""
    highs_T: NDArray[np.uint8]
    """Under "sym2" the scale code of larger entries, 0 where codes_T is; otherwise empty."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """A span's entries as a payload holds them."""

    levels: Levels
    sent: Entries
    """What is sent, with the values it decodes to."""
    data: bytes
    """The values, ``value_bytes`` of them."""


def quantise(values: Values, kept: Entries) -> Quantised:
    """Choose scales, and drop the tiles that have none; kept values are finite, none is 0."""
    match values:
        case "sign":
            return _quantise_sign(kept)
        case "sym2":
            return _quantise_sym2(kept)
        case "fp16":
            return _quantise_fp16(kept)


def dequantise(
    values: Values, levels: Levels, counts_T: NDArray[np.int64], data: bytes
) -> NDArray[np.float32]:
    """Return the values [M] of a span, ``counts_T`` of each tile, all finite.

    Raises: CompressionError("bad-padding") or CompressionError("non-finite").
    """
    count = int(counts_T.sum())
    match values:
        case "sign":
            magnitudes_M = np.repeat(SCALES[levels.codes_T], counts_T)
            return _signed(magnitudes_M, _bits(data, count))
        case "sym2":
            signs, highs = data[: len(data) // 2], data[len(data) // 2 :]
            codes_M = _codes(levels, counts_T, _bits(highs, count))
            return _signed(SCALES[codes_M], _bits(signs, count))
        case "fp16":
            halves_M = np.frombuffer(data, "<f2")
            if not np.isfinite(halves_M).all():
                raise CompressionError("non-finite", "a half-precision value is infinite or NaN")
            return halves_M.astype(np.float32)


def square_sums(
    values: Values, levels: Levels, counts_T: NDArray[np.int64], data: bytes
) -> list[float]:
    """Return terms whose sum is the sum of a span's squared values, each rounded at most once.

    There are few distinct magnitudes, and counting them is exact in any order; the square of an
    fp32 number is exact in float64. No position is needed. Raises: as ``dequantise``.
    """
    if values == "fp16":
        patterns_M = np.abs(dequantise(values, levels, counts_T, data)).astype(np.float16)
        counts = np.bincount(patterns_M.view(np.uint16), minlength=_NUM_FP16)
        magnitudes = np.arange(counts.size, dtype=np.uint16).view(np.float16).astype(np.float64)
    elif values == "sym2":
        highs = _bits(data[len(data) // 2 :], int(counts_T.sum()))
        counts = np.bincount(_codes(levels, counts_T, highs), minlength=NUM_CODES)
        magnitudes = SCALES.astype(np.float64)
    else:
        weights = np.bincount(levels.codes_T, weights=counts_T, minlength=NUM_CODES)
        counts, magnitudes = weights.astype(np.int64), SCALES.astype(np.float64)
    used = np.flatnonzero(counts)
    terms: list[float] = (counts[used] * magnitudes[used] ** 2).tolist()
    return terms


def _quantise_sign(kept: Entries) -> Quantised:
    sums_T = tile_sums(np.abs(kept.values_M), kept.counts_T)
    codes_T = scale_codes(sums_T / np.maximum(kept.counts_T, 1))
    sent = kept.of_tiles(codes_T > 0)
    negative_M = np.signbit(sent.values_M)
    decoded_M = _signed(np.repeat(SCALES[codes_T], sent.counts_T), negative_M)
    levels = Levels(codes_T, _NOTHING)
    return Quantised(levels, replace(sent, values_M=decoded_M), _packed(negative_M))


def _quantise_sym2(kept: Entries) -> Quantised:
    magnitudes_M = np.abs(kept.values_M)
    high_M = magnitudes_M > np.repeat(_borders(magnitudes_M, kept.counts_T), kept.counts_T)
    codes_T, highs_T = _two_codes(magnitudes_M, high_M, kept.counts_T)
    sent = kept.of_tiles(codes_T > 0)
    high_M = high_M[np.repeat(codes_T > 0, kept.counts_T)]
    negative_M = np.signbit(sent.values_M)
    levels = Levels(codes_T, np.where(codes_T > 0, highs_T, 0).astype(np.uint8))
    decoded_M = _signed(SCALES[_codes(levels, sent.counts_T, high_M)], negative_M)
    data = _packed(negative_M) + _packed(high_M)
    return Quantised(levels, replace(sent, values_M=decoded_M), data)


def _quantise_fp16(kept: Entries) -> Quantised:
    halves_M = np.clip(kept.values_M, -_LARGEST_FP16, _LARGEST_FP16).astype("<f2")
    levels = Levels((kept.counts_T > 0).astype(np.uint8), _NOTHING)
    sent = replace(kept, values_M=halves_M.astype(np.float32))
    return Quantised(levels, sent, halves_M.tobytes())


def _borders(magnitudes_M: NDArray[np.float32], counts_T: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the magnitude [T] beyond which an entry of the tile counts as large."""
    lowest_T = tile_minima(magnitudes_M, counts_T)
    means_T: NDArray[np.float64] = tile_sums(magnitudes_M, counts_T) / np.maximum(counts_T, 1)
    borders_T: NDArray[np.float64] = lowest_T + _HIGH_BORDER * (means_T - lowest_T)
    return borders_T


def _two_codes(
    magnitudes_M: NDArray[np.float32], high_M: NDArray[np.bool_], counts_T: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the scale codes [T] of smaller and larger entries; equal if none is larger."""
    nothing = np.float32(0.0)
    larger_T = tile_sums(high_M.astype(np.float32), counts_T)
    # The mean is never below the smallest, so at least one entry is not larger.
    low_sums_T = tile_sums(np.where(high_M, nothing, magnitudes_M), counts_T)
    high_sums_T = tile_sums(np.where(high_M, magnitudes_M, nothing), counts_T)
    codes_T = scale_codes(low_sums_T / np.maximum(counts_T - larger_T, 1))
    highs_T = scale_codes(high_sums_T / np.maximum(larger_T, 1))
    return codes_T, np.where(larger_T > 0, highs_T, codes_T)


def _codes(
    levels: Levels, counts_T: NDArray[np.int64], high_M: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return the scale code [M] of each entry of "sym2"."""
    lows_M = np.repeat(levels.codes_T, counts_T)
    return np.where(high_M, np.repeat(levels.highs_T, counts_T), lows_M)


def _signed(
    magnitudes_M: NDArray[np.float32], negative_M: NDArray[np.bool_]
) -> NDArray[np.float32]:
    return np.where(negative_M, -magnitudes_M, magnitudes_M)


def _packed(bits_M: NDArray[np.bool_]) -> bytes:
    """Return one bit per entry, lowest bit first, padded with 0 bits."""
    return np.packbits(bits_M, bitorder="little").tobytes()


def _bits(data: bytes, count: int) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if bits[count:].any():
        raise CompressionError("bad-padding", "bits behind the last entry's are set")
    return bits[:count].view(np.bool_)
