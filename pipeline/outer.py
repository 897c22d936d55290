"""The outer update: theta <- theta - lr G, the same bits on every host of a shard.

Which contributions count, and how much, is decided before (jury.py). Called by exchange.py for
``Apply``.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from skerry.pipeline.payloads import Believed, Payloads
from skerry.protocol.compute import Contribution
from skerry.protocol.messages import FULL, Judgement


def believed(
    payloads: Payloads, contributions: Sequence[Contribution], judgements: Sequence[Judgement]
) -> list[list[Believed]]:
    """Return what counts of each hosted shard, in the order of the commit."""
    influence = {judgement.peer: judgement.influence for judgement in judgements}
    found: list[list[Believed]] = [[] for _ in payloads.layout]
    for contribution in contributions:
        trust = influence.get(contribution.author, FULL) / FULL
        sent = {payload.shard: payload for payload in contribution.shards}
        for position, spec in enumerate(payloads.layout):
            if trust and spec.name in sent:
                one = Believed(sent[spec.name], contribution.round_tokens, trust)
                found[position].append(one)
    return found


def updated_shards(
    payloads: Payloads, theta: Sequence[Tensor], sound: Sequence[Sequence[Believed]], lr: float
) -> Iterator[Tensor]:
    """Yield each shard's new parameters, flat [numel] f32, one shard in memory at a time.

    Args:
        theta: the round's start parameters per shard in layout order; not changed.
        sound: per shard, what counts.
        lr: alpha of the round.
    """
    for position, (start, some) in enumerate(zip(theta, sound, strict=True)):
        if some:
            # Under no name here, so that it is gone when the next shard's is made.
            yield descend(start, payloads.aggregate(position, some), lr)
        else:
            yield start.clone()


def descend(theta: Tensor, gradient: Tensor, lr: float) -> Tensor:
    """Turn ``gradient`` into theta - lr gradient and return it; all flat [numel] f32.

    The product is rounded to fp32 before the subtraction: a fused multiply-add would round
    once and give other bits on machines that have it.
    """
    gradient.mul_(torch.tensor(lr, dtype=torch.float32, device=gradient.device))
    return torch.sub(theta, gradient, out=gradient)
