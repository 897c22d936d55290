"""fp32 to bf16, rounded up or down at random so that the mean is kept.

A bf16 number is the upper half of an fp32 one. A uniform 16-bit number is added to the magnitude's
lower half before that is cut off, so it is carried over with a probability that is exactly the
share of the gap already covered: the expectation of what is written is what was there, and it is
never further away than one gap. To the nearest, an error feedback would lose every progress
smaller than half a gap, round after round.

Source: Gupta et al. 2015 (arXiv:1502.02551), section 3, stochastic rounding.
Shape suffix: N entries of the shard.
"""

import torch
from torch import Tensor

from skerry.compression.counter_rng import words

_LANES = 4
"""16-bit numbers of one 64-bit word."""
_BLOCK = 2**16
"""Entries at once: what a core's cache holds. A multiple of _LANES."""
_LARGEST = torch.finfo(torch.bfloat16).max


def rounded_bf16(values_N: Tensor, key: int) -> Tensor:
    """Return ``values_N`` [N] f32, finite, as bf16; a pure function of key, place and value.

    What is a bf16 number already stays as it is; beyond the largest one it becomes the largest.

    Args:
        key: from ``counter_rng.derive``; entry i takes lane i % 4 of the key's word i // 4.
    """
    rounded_N = torch.empty_like(values_N, dtype=torch.bfloat16)
    for first in range(0, values_N.numel(), _BLOCK):
        piece = slice(first, first + _BLOCK)
        bits = values_N[piece].clamp(-_LARGEST, _LARGEST).view(torch.int32)
        bits += _lanes(key, first, bits.numel())
        rounded_N[piece] = (bits >> 16).to(torch.int16).view(torch.bfloat16)
    return rounded_N


def _lanes(key: int, first: int, count: int) -> Tensor:
    """Return 16-bit numbers [count] i32, those of the entries from ``first`` (a multiple of 4)."""
    end = -(-(first + count) // _LANES)
    words_W = words(key, torch.arange(first // _LANES, end))
    return words_W.view(torch.int16)[:count].int().bitwise_and_(0xFFFF)
