"""Uniform quantisation around the mean, each symbol standing for the mean of its bin.

Bins of equal width span six standard deviations around the mean of one tensor; what lies beyond
goes into the outer bins. With 256 bins it is hivemind's ``Uniform8BitQuantization`` (Ryabinin et
al. 2021, arXiv:2103.03239), with 4 the quantiser of SparseLoCo.

Shape suffixes: M values, C symbols of the codebook.
"""

from math import sqrt

import torch
from torch import Tensor

RANGE_IN_SIGMAS = 6.0


def quantise(values_M: Tensor, symbols: int) -> tuple[Tensor, Tensor]:
    """Return the symbols [M] u8 and the codebook [C] f32 of one tensor's values."""
    shift = values_M.mean()
    centred_M = values_M - shift
    sigma = centred_M.norm() / sqrt(max(1, values_M.numel() - 1))
    width = RANGE_IN_SIGMAS * sigma / symbols
    width = torch.where(torch.isfinite(width) & (width > 0), width, 1.0)
    places_M = centred_M.div(width).add_(symbols // 2).round_().clamp_(0, symbols - 1)
    symbols_M = places_M.to(torch.uint8)
    sums_C = torch.bincount(symbols_M, weights=centred_M, minlength=symbols)
    counts_C = torch.bincount(symbols_M, minlength=symbols)
    return symbols_M, (sums_C / counts_C.clamp(min=1)).float() + shift
