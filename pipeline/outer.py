"""The outer update: theta <- theta - lr G, the same bits on every host of a shard.

Which contributions count is decided shard by shard, from that shard's bytes and the weight alone,
before any is applied: peers host different shards, and all who host one must decide the same.
Called by exchange.py for ``Apply``.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from skerry.pipeline.payloads import Payloads
from skerry.protocol.compute import Contribution, Rejection
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import ShardPayload

Weighted = list[tuple[ShardPayload, int]]
"""The payloads of one shard that count, in the order of the commit, with their weights."""


def admit(
    manifest: Manifest, payloads: Payloads, contributions: Sequence[Contribution]
) -> tuple[list[Weighted], tuple[Rejection, ...]]:
    """Return what counts, per hosted shard, and what counts as zero, by contribution."""
    sound: list[Weighted] = [[] for _ in payloads.layout]
    rejected: list[Rejection] = []
    for contribution in contributions:
        reason = _flaw(manifest, payloads, contribution) or _take(payloads, contribution, sound)
        if reason:
            rejected.append(Rejection(contribution.author, reason))
    return sound, tuple(rejected)


def updated_shards(
    manifest: Manifest,
    payloads: Payloads,
    theta: Sequence[Tensor],
    sound: Sequence[Weighted],
    lr: float,
) -> Iterator[Tensor]:
    """Yield each shard's new parameters, flat [numel] f32, one shard in memory at a time.

    Args:
        theta: the round's start parameters per shard in layout order; not changed.
        sound: per shard, what passed ``admit``.
        lr: alpha of the round.
    """
    for position, (start, weighted) in enumerate(zip(theta, sound, strict=True)):
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
    return "" if payloads.are_shards(contribution.shards) else "shards"


def _take(payloads: Payloads, contribution: Contribution, sound: Sequence[Weighted]) -> str:
    """Add what is sound of the hosted shards; return what is wrong with the first that is not."""
    found = {payload.shard: payload for payload in contribution.shards}
    wrong = ""
    for position, spec in enumerate(payloads.layout):
        if spec.name not in found:
            continue
        reason = payloads.shard_flaw(position, found[spec.name])
        wrong = wrong or reason
        if not reason:
            sound[position].append((found[spec.name], contribution.round_tokens))
    return wrong
