"""Random numbers that are a pure function of (key, counter): the same bits on every device.

The generator is SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators",
OOPSLA 2014, figure 14): word n of a key is mix(key + (n + 1) gamma) modulo 2^64. Any word can be
had without those before it, so a table of random numbers need be neither stored nor sent.

Only integer arithmetic, conversions of small integers and one fp32 multiplication are used, all of
them exact or correctly rounded; no logarithm or sine, whose last bit depends on the library.
Words are int64 tensors that stand for unsigned ones: torch's integers wrap modulo 2^64.

Shape suffixes: N any number of counters, R rows, W entries of a row.
"""

from enum import IntEnum
from math import sqrt

import torch
from torch import Tensor

_MASK = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15
_FIRST_FACTOR = 0xBF58476D1CE4E5B9
_SECOND_FACTOR = 0x94D049BB133111EB
_EVEN_BYTES = 0x00FF00FF00FF00FF
_BYTE_SUM_MEAN = 1020
_UNIT = 1 / sqrt(8 * (256**2 - 1) / 12)
"""One over the standard deviation of the sum of 8 uniform bytes."""
_BLOCK_ENTRIES = 2**16
"""Entries drawn at once on a CPU: what its cache holds. All at once took 1.8 times as long."""


class Purpose(IntEnum):
    """The first step from a seed to a key, so that no two uses share random numbers."""

    BASIS = 0
    FIXED_ROWS = 1
    ROUNDING = 2


def derive(seed: int, *path: int) -> int:
    """Return the key reached from ``seed`` (taken modulo 2^64) by a path of numbers.

    Different paths give unrelated keys: each step takes that word of the key before it.
    """
    key = seed & _MASK
    for number in path:
        key = _mix((key + (number + 1) * _GAMMA) & _MASK)
    return key


def words(key: int, counters_N: Tensor) -> Tensor:
    """Return word ``counters_N`` of a key, int64 of the same shape and device.

    Args:
        key: 0..2^64-1, from ``derive``.
        counters_N: int64.
    """
    words_N = counters_N.mul(_signed(_GAMMA)).add_(_signed(key + _GAMMA))
    words_N.bitwise_xor_(_shifted(words_N, 30)).mul_(_signed(_FIRST_FACTOR))
    words_N.bitwise_xor_(_shifted(words_N, 27)).mul_(_signed(_SECOND_FACTOR))
    return words_N.bitwise_xor_(_shifted(words_N, 31))


def uniforms(key: int, counters_N: Tensor) -> Tensor:
    """Return fp32 multiples of 2^-24, uniform in [0, 1), one for each counter."""
    return _shifted(words(key, counters_N), 40).float().mul_(2.0**-24)


def normal_rows(key: int, rows_R: Tensor, width: int) -> Tensor:
    """Return the rows of these numbers [R, W] f32 of an endless table of near-normal entries.

    An entry is the sum of the 8 bytes of a word, less its mean 1020, over its standard deviation
    sqrt(43690): mean 0, variance 1, excess kurtosis -0.15, within +-4.88, in steps of 0.0048. It
    depends on key, row and column only; not on the width or the other rows asked for.

    Args:
        key: 0..2^64-1, from ``derive``.
        rows_R: integers in 0..2^32-1.
        width: entries of a row, below 2^32.
    """
    starts_R1 = rows_R.long().unsqueeze(1) << 32
    columns_W = torch.arange(width, device=rows_R.device)
    on_cpu = rows_R.device.type == "cpu"
    step = max(1, _BLOCK_ENTRIES // width if on_cpu else starts_R1.shape[0])
    normals_RW = torch.empty(starts_R1.shape[0], width, device=rows_R.device)
    for first in range(0, starts_R1.shape[0], step):
        sums_RW = _byte_sums(words(key, starts_R1[first : first + step] + columns_W))
        normals_RW[first : first + step] = sums_RW.sub_(_BYTE_SUM_MEAN).float().mul_(_UNIT)
    return normals_RW


def _byte_sums(words_N: Tensor) -> Tensor:
    """Return the sum of the 8 bytes of each word: in lanes of 16 bits, then over the lanes."""
    lanes_N = (words_N & _EVEN_BYTES).add_((words_N >> 8).bitwise_and_(_EVEN_BYTES))
    lanes_N.add_(lanes_N >> 32)
    return lanes_N.add_(lanes_N >> 16).bitwise_and_(0xFFFF)


def _shifted(words_N: Tensor, places: int) -> Tensor:
    """Shift unsigned words right; ``>>`` alone would copy the sign bit."""
    return (words_N >> places).bitwise_and_((1 << (64 - places)) - 1)


def _signed(word: int) -> int:
    """Return the int64 of the same bits as ``word`` modulo 2^64."""
    word &= _MASK
    return word - (1 << 64) if word >> 63 else word


def _mix(word: int) -> int:
    word = (word ^ word >> 30) * _FIRST_FACTOR & _MASK
    word = (word ^ word >> 27) * _SECOND_FACTOR & _MASK
    return word ^ word >> 31
