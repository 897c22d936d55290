"""The mean of what several peers sent of one shard, bit-identical wherever it is computed.

Why it is: the caller fixes the order of payloads; entries are unique within a payload, so that
each receives one addition per payload, in that order, however many threads run; every step is a
single fp32 operation that IEEE 754 rounds correctly (a product is stored before it is added, so
nothing can fuse the two); and norms are exact sums (``OpenedPayload.norm``).

One span of tiles is finished before the next, and in main memory one tile: sums and weights are
kept for no more than that, and the payloads' entries for one span.

Shape suffix: N entries of the shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from skerry.compression.entries import Entries, Weights
from skerry.compression.kernels import kernels_for
from skerry.compression.payload import OpenedPayload
from skerry.compression.pseudogradient import PseudoGradientCodec

Divisor = Literal["contributors", "replicas"]


@dataclass(frozen=True, slots=True)
class WeightedPayload:
    """One peer's payload and its weight, for example its text tokens; 0 has no influence."""

    payload: bytes
    weight: int


@dataclass(frozen=True, slots=True)
class _Share:
    """One payload's part in the mean."""

    opened: OpenedPayload
    weight: float
    """Relative to the largest: exactly 1.0 when all are equal, and never beyond fp32."""
    clip: float
    """What its values are multiplied by so that its norm is at most the median."""

    def terms(self, index: int) -> Entries:
        """Return what it adds to the sums of a span."""
        entries = self.opened.entries(index)
        # Rounded once, on purpose: numpy might round a Python float elsewhere.
        factor = np.float32(self.weight * self.clip)
        return replace(entries, values_M=entries.values_M * factor)


def aggregate(
    codec: PseudoGradientCodec,
    payloads: Sequence[WeightedPayload],
    divisor: Divisor,
    device: torch.device | None = None,
) -> Tensor:
    """Return the weighted mean [N] f32 of payloads, added in the given order.

    Each payload is first clipped to the median of the payloads' L2 norms (``_clip_factors``).
    Then entry i is sum_r w_r v_r[i], divided by the sum of w_r over the peers that sent entry i
    ("contributors"; 0 where nobody did) or over all peers ("replicas").

    Args:
        codec: of the shard.
        payloads: in the order that all peers use.
        divisor: see above.
        device: where the mean is wanted; main memory by default.
    Raises: CompressionError if a payload is malformed; ValueError on a negative weight.
    Source: SparseLoCo; the clip as in Covenant-72B (arXiv:2603.08163, section 2.2).
    """
    if any(item.weight < 0 for item in payloads):
        raise ValueError(f"negative weight among {[item.weight for item in payloads]}")
    shares = _shares(codec, [item for item in payloads if item.weight > 0])
    if not shares:
        return torch.zeros(codec.numel, device=device)
    of_terms = tuple(share.weight for share in shares)
    weights = Weights(of_terms, fsum(of_terms) if divisor == "replicas" else None)
    mean_N = torch.empty(codec.numel, device=device)
    kernels = kernels_for(mean_N.device)
    for index, span in enumerate(codec.layout.spans):
        kernels.mean(mean_N, span, [share.terms(index) for share in shares], weights)
    return mean_N


def _shares(codec: PseudoGradientCodec, payloads: list[WeightedPayload]) -> list[_Share]:
    largest = max((item.weight for item in payloads), default=1)
    opened = [codec.open(item.payload) for item in payloads]
    return [
        _Share(one, item.weight / largest, clip)
        for one, item, clip in zip(opened, payloads, _clip_factors(opened), strict=True)
    ]


def _clip_factors(payloads: list[OpenedPayload]) -> list[float]:
    """Return min(1, median / norm) of each payload.

    The median is the lower of the two middle norms of an even number, as in the reference: of
    two peers, one alone cannot lift the bound. Peers that sent nothing have no say in it, or one
    idle peer of two would silence the other.
    """
    norms = [payload.norm() for payload in payloads]
    sent = sorted(norm for norm in norms if norm > 0)
    median = sent[(len(sent) - 1) // 2] if sent else 0.0
    return [min(1.0, median / norm) if norm > 0 else 1.0 for norm in norms]
