"""The mean of what several peers sent of one shard, bit-identical wherever it is computed.

Why it is: the caller fixes the order of payloads; entries are unique within a payload, so that
each receives one addition per payload, in that order, however many threads run; every step is a
single fp32 operation that IEEE 754 rounds correctly (a product is stored before it is added, so
nothing can fuse the two); and norms are exact sums (``OpenedPayload.norm``).

One span of tiles is finished before the next, and in main memory one tile: sums and weights are
kept for no more than that, and the payloads' entries for one span.

Shape suffixes: N entries of the shard, M entries of a payload's span.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum, sqrt
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skerry.compression.centre import pulled, square_distance, values_at
from skerry.compression.entries import Entries, Weights
from skerry.compression.kernels import kernels_for
from skerry.compression.payload import OpenedPayload
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.compression.tiles import TileSpan
from skerry.compression.votes import with_votes

Divisor = Literal["contributors", "replicas"]
Clip = Literal["median", "centred", "none"]


@dataclass(frozen=True, slots=True)
class WeightedPayload:
    """One peer's payload and its weight, for example its text tokens; 0 has no influence."""

    payload: bytes
    weight: int
    trust: float = 1.0
    """What its values are multiplied by, above 0 and at most 1. Unlike a low weight, which cancels
    out where nobody else sent an entry, low trust makes every entry small."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How payloads become one update; every peer of a run has the same."""

    divisor: Divisor = "contributors"
    """Of entry i: the sum of the weights of those that sent it, or of all."""
    clip: Clip = "median"
    """What bounds a payload: its norm, or its distance from a centre (centre.py), either by the
    median over all payloads; "none" is for measuring what the others are good for."""
    min_votes: int = 1
    """Entries that fewer payloads name are left out."""


MEDIAN = Rule()


@dataclass(frozen=True, slots=True)
class _Share:
    """One payload's part in the mean."""

    opened: OpenedPayload
    weight: float
    """Relative to the largest: exactly 1.0 when all are equal, and never beyond fp32."""
    factor: float
    """Weight and trust, and the clip to the median norm."""
    pull: float
    """What remains of the distance from the centre; 1.0 where there is none."""

    def terms(self, index: int, centre_N: Tensor | None, span: TileSpan) -> Entries:
        """Return what it adds to the sums of a span."""
        entries = self.opened.entries(index)
        values_M = self._pulled(entries, centre_N, span)
        # Rounded once, on purpose: numpy might round a Python float elsewhere.
        return replace(entries, values_M=values_M * np.float32(self.factor))

    def _pulled(
        self, entries: Entries, centre_N: Tensor | None, span: TileSpan
    ) -> NDArray[np.float32]:
        if centre_N is None or self.pull == 1.0:
            return entries.values_M
        return pulled(entries, values_at(centre_N, span, entries), np.float32(self.pull))


def aggregate(
    codec: PseudoGradientCodec,
    payloads: Sequence[WeightedPayload],
    rule: Rule = MEDIAN,
    centre_N: Tensor | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Return the weighted mean [N] f32 of payloads, added in the given order.

    Each payload is first clipped, to the median of the payloads' L2 norms or of their distances
    from ``centre_N`` (``_clip_factors``), and multiplied by its trust. Then entry i is
    sum_r w_r v_r[i], divided by the sum of w_r over the peers that sent entry i ("contributors";
    0 where nobody did) or over all peers ("replicas").

    Args:
        codec: of the shard.
        payloads: in the order that all peers use.
        rule: see above.
        centre_N: [N] f32, the last aggregate, for the clip "centred"; None stands for zeros, with
            which it is the clip "median".
        device: where the mean is wanted; main memory by default.
    Raises: CompressionError if a payload is malformed; ValueError on a negative weight, or a trust
        that is not above 0 and at most 1.
    Source: SparseLoCo; the clip as in Covenant-72B (arXiv:2603.08163, section 2.2).
    """
    _check(payloads)
    centre_N = centre_N if rule.clip == "centred" else None
    shares = _shares(codec, [item for item in payloads if item.weight > 0], rule, centre_N)
    if not shares:
        return torch.zeros(codec.numel, device=device)
    of_terms = tuple(share.weight for share in shares)
    weights = Weights(of_terms, fsum(of_terms) if rule.divisor == "replicas" else None)
    mean_N = torch.empty(codec.numel, device=device)
    kernels = kernels_for(mean_N.device)
    for index, span in enumerate(codec.layout.spans):
        terms = [share.terms(index, centre_N, span) for share in shares]
        kernels.mean(mean_N, span, with_votes(terms, span.valid, rule.min_votes), weights)
    return mean_N


def _check(payloads: Sequence[WeightedPayload]) -> None:
    if any(item.weight < 0 for item in payloads):
        raise ValueError(f"negative weight among {[item.weight for item in payloads]}")
    if not all(0 < item.trust <= 1 for item in payloads):
        raise ValueError(f"trust beyond 0 to 1 among {[item.trust for item in payloads]}")


def _shares(
    codec: PseudoGradientCodec,
    payloads: list[WeightedPayload],
    rule: Rule,
    centre_N: Tensor | None,
) -> list[_Share]:
    largest = max((item.weight for item in payloads), default=1)
    opened = [codec.open(item.payload) for item in payloads]
    if centre_N is not None:
        clips = [1.0] * len(opened)
        pulls = _clip_factors([_distance(codec, one, centre_N) for one in opened])
    else:
        norms = [] if rule.clip == "none" else [one.norm() for one in opened]
        clips = _clip_factors(norms) or [1.0] * len(opened)
        pulls = [1.0] * len(opened)
    shares = []
    for one, item, clip, pull in zip(opened, payloads, clips, pulls, strict=True):
        weight = item.weight / largest
        shares.append(_Share(one, weight, weight * clip * item.trust, pull))
    return shares


def _distance(codec: PseudoGradientCodec, payload: OpenedPayload, centre_N: Tensor) -> float:
    """Return how far a payload's values are from the centre, over the entries that it names."""
    squares = []
    for index, span in enumerate(codec.layout.spans):
        entries = payload.entries(index)
        squares.append(square_distance(entries, values_at(centre_N, span, entries)))
    return sqrt(fsum(squares))


def _clip_factors(norms: list[float]) -> list[float]:
    """Return min(1, median / norm) of each payload.

    The median is the lower of the two middle norms of an even number, as in the reference: of
    two peers, one alone cannot lift the bound. Peers that sent nothing have no say in it, or one
    idle peer of two would silence the other.
    """
    sent = sorted(norm for norm in norms if norm > 0)
    median = sent[(len(sent) - 1) // 2] if sent else 0.0
    return [min(1.0, median / norm) if norm > 0 else 1.0 for norm in norms]
