"""The mean of what several peers sent of one shard, bit-identical wherever it is computed.

Why it is: the caller fixes the order of updates; indices are unique within an update, so that
each entry receives one addition per update, in that order, however many threads run; every step
is a single fp32 operation that IEEE 754 rounds correctly (a product is stored before it is added,
so nothing can fuse the two); and norms are exact sums, see ``_norm``.

Shape suffixes: N entries of the shard, M entries of one update.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isfinite, sqrt
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from skerry.compression.errors import CompressionError
from skerry.compression.pseudogradient import PseudoGradientCodec, SparseUpdate


@dataclass(frozen=True, slots=True)
class WeightedPayload:
    """One peer's payload and its weight, for example its text tokens; 0 has no influence."""

    payload: bytes
    weight: int


def aggregate_payloads(
    codec: PseudoGradientCodec,
    payloads: Sequence[WeightedPayload],
    divisor: Literal["contributors", "replicas"],
) -> Tensor:
    """Return the weighted mean [N] f32 of payloads, added in the given order."""
    updates = [WeightedUpdate(codec.decode(one.payload), one.weight) for one in payloads]
    return aggregate(updates, codec.numel, divisor)


@dataclass(frozen=True, slots=True, eq=False)
class WeightedUpdate:
    """One peer's update and its weight, for example its text tokens; 0 has no influence."""

    update: SparseUpdate
    weight: int


def aggregate(
    updates: Sequence[WeightedUpdate], numel: int, divisor: Literal["contributors", "replicas"]
) -> Tensor:
    """Return the weighted mean [N] f32 of updates, added in the given order.

    Each update is first clipped to the median of the updates' L2 norms (``_clip_factors``). Then
    entry i is sum_r w_r v_r[i], divided by the sum of w_r over the peers that sent entry i
    ("contributors"; 0 where nobody did) or over all peers ("replicas").

    Raises: CompressionError("non-finite"); ValueError on a negative weight.
    Source: SparseLoCo; the clip as in Covenant-72B (arXiv:2603.08163, section 2.2).
    """
    if any(item.weight < 0 for item in updates):
        raise ValueError(f"negative weight among {[item.weight for item in updates]}")
    counted = [item for item in updates if item.weight > 0]
    total_N = torch.zeros(numel)
    if not counted:
        return total_N
    # Relative to the largest, weights stay exact 1.0 when equal and never overflow fp32.
    largest = max(item.weight for item in counted)
    weights = [item.weight / largest for item in counted]
    factors = _clip_factors([item.update for item in counted])
    for item, weight, factor in zip(counted, weights, factors, strict=True):
        term_M = item.update.values * _fp32(weight * factor)
        total_N.index_add_(0, item.update.indices, term_M)
    if divisor == "replicas":
        return total_N / _fp32(fsum(weights))
    divisor_N = _contributed([item.update for item in counted], weights, numel)
    return torch.where(divisor_N > 0, total_N / divisor_N, 0.0)


def _contributed(updates: list[SparseUpdate], weights: list[float], numel: int) -> Tensor:
    """Return the sum [N] of the weights of the peers that sent each entry."""
    weights_N = torch.zeros(numel)
    for update, weight in zip(updates, weights, strict=True):
        weights_N.index_add_(0, update.indices, _fp32(weight).expand(update.indices.shape))
    return weights_N


def _clip_factors(updates: list[SparseUpdate]) -> list[float]:
    """Return min(1, median / norm) of each update.

    The median is the lower of the two middle norms of an even number, as in the reference: of
    two peers, one alone cannot lift the bound. Peers that sent nothing have no say in it, or one
    idle peer of two would silence the other.
    """
    norms = [_norm(update.values) for update in updates]
    sent = sorted(norm for norm in norms if norm > 0)
    median = sent[(len(sent) - 1) // 2] if sent else 0.0
    return [min(1.0, median / norm) if norm > 0 else 1.0 for norm in norms]


def _norm(values_M: Tensor) -> float:
    """Return the L2 norm, the same bits on every platform.

    An update holds few distinct magnitudes (one per scale code). Counting them is exact, in any
    order; the square of an fp32 number is exact in float64; a product with the count and the
    square root are each rounded once, correctly, and so is the sum by fsum, whatever the order.
    """
    magnitudes, counts = np.unique(values_M.abs().numpy(), return_counts=True)
    pairs = zip(magnitudes.tolist(), counts.tolist(), strict=True)
    norm = sqrt(fsum(count * (magnitude * magnitude) for magnitude, count in pairs))
    if not isfinite(norm):
        raise CompressionError("non-finite", "an update holds an infinity or NaN")
    return norm


def _fp32(number: float) -> Tensor:
    """Round once, on purpose: a Python float would let torch choose where it rounds."""
    return torch.tensor(number, dtype=torch.float32)
