"""The outer update: theta <- theta - lr G, the same bits on every host of a shard.

Which contributions count is decided from their bytes alone, before any is applied, so that
every peer that holds the same bytes decides the same. Called by engine.py for ``Apply``.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from skerry.pipeline.payloads import Payloads
from skerry.protocol.compute import Contribution, Rejection
from skerry.protocol.manifest import Manifest


def admit(
    manifest: Manifest, payloads: Payloads, contributions: Sequence[Contribution]
) -> tuple[list[Contribution], tuple[Rejection, ...]]:
    """Split contributions, in order, into those that count and those that count as zero."""
    sound: list[Contribution] = []
    rejected: list[Rejection] = []
    for contribution in contributions:
        reason = _flaw(manifest, payloads, contribution)
        if reason:
            rejected.append(Rejection(contribution.author, reason))
        else:
            sound.append(contribution)
    return sound, tuple(rejected)


def updated_shards(
    manifest: Manifest,
    payloads: Payloads,
    theta: Sequence[Tensor],
    sound: Sequence[Contribution],
    lr: float,
) -> Iterator[Tensor]:
    """Yield each shard's new parameters, flat [numel] f32, one shard in memory at a time.

    Args:
        theta: the round's start parameters per shard in layout order; not changed.
        sound: contributions that passed ``admit``, in the order of the commit.
        lr: alpha of the round.
    """
    for position, start in enumerate(theta):
        weighted = [(one.shards[position], one.round_tokens) for one in sound]
        if weighted:
            # Under no name here, so that it is gone when the next shard's is made.
            yield descend(start, payloads.aggregate(position, weighted, manifest.outer.divisor), lr)
        else:
            yield start.clone()


def descend(theta: Tensor, gradient: Tensor, lr: float) -> Tensor:
    """Turn ``gradient`` into theta - lr gradient and return it; all flat [numel] f32.

    The product is rounded to fp32 before the subtraction: a fused multiply-add would round
    once and give other bits on machines that have it.
    """
    gradient.mul_(torch.tensor(lr, dtype=torch.float32, device=gradient.device))
    return torch.sub(theta, gradient, out=gradient)


def _flaw(manifest: Manifest, payloads: Payloads, contribution: Contribution) -> str:
    if not 0 < contribution.round_tokens <= manifest.max_round_tokens:
        return "weight"
    return payloads.flaw(contribution.shards)
