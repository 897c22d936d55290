"""A lost stage from those beside it: CheckFree's average, CheckFree+'s copy, and further apart.

A stage is its blocks' parameters, each the flat fp32 vector of its shard. Where nobody has a copy
of a stage, its neighbours are the best guess: the residual stream changes little from block to
block, so blocks beside each other do similar work. All results are sums of two products in fp32,
each rounded by itself (nothing fused), so every peer that computes one gets the same bits.

Whatever is made here is not what was lost. AdamW's moments of the lost weights mean nothing for
the new ones: they start anew, and with them the learning rate rises anew (``AdamW.reset``); the
paper instead multiplies it by 1.1 for good. Nor can every stage be trusted at once
(protocol/rings/bypass.py).

Source: CheckFree (arXiv:2506.15461), algorithm 1 for the average, section 4.3 for the copies. That
stages of other sizes, and several lost side by side, can be made is not in the paper.

Shape suffix: N parameters of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from torch import Tensor

Blocks = Sequence[Tensor]
"""The blocks of a stage in order, each [N] f32."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A stage that is there, beside one that is not."""

    blocks: Blocks
    norm: float
    """L2 norm of its last gradient before that was clipped. Clipped norms would be alike wherever
    both were clipped, and say nothing."""


MOST_RATIO = 4.0
"""Of the weights of two neighbours: a norm is what its host says, and must not take over."""


def shares(before: float, after: float, exponent: int) -> tuple[float, float]:
    """Return the weights of two neighbours, from the gradient norms of both; their sum is 1.

    The one with the larger gradient has converged less and gives more, but never more than
    MOST_RATIO times as much. Without usable norms (none yet, or one that is not finite) both give
    half.

    Args:
        exponent: p of the weight norm^p; the paper's text can be read as 1 or 2.
    """
    largest = max(before, after)
    if not (isfinite(before) and isfinite(after) and min(before, after) >= 0 and largest > 0):
        return 0.5, 0.5
    # Divided by the larger first, so that no power overflows.
    least = 1 / MOST_RATIO
    first, second = (max((norm / largest) ** exponent, least) for norm in (before, after))
    return first / (first + second), second / (first + second)


def averaged(before: Neighbour, after: Neighbour, size: int, exponent: int = 1) -> list[Tensor]:
    """Return a stage of ``size`` blocks as the weighted average of the stages beside it.

    Block j is made of the blocks j of both: those that stand at the same place of their stage. In
    stages of other sizes it is made of those nearest to its place, as a share of the stage.

    Args:
        exponent: see ``shares``.
    Returns: [N] f32 for each block.
    """
    weights = shares(before.norm, after.norm, exponent)
    return [
        _mixed(_at(before.blocks, j, size), _at(after.blocks, j, size), weights)
        for j in range(size)
    ]


def copied(partner: Blocks, size: int) -> list[Tensor]:
    """Return a stage at an end of the model as a copy of the one beside it.

    In swap mode that one has learned both roles, since half of the microbatches take the two in
    reverse order. Without, it is a guess like any other, and the only one there is.

    Returns: [N] f32 for each of ``size`` blocks; new tensors.
    """
    return [_at(partner, j, size).clone() for j in range(size)]


def interpolated(before: Blocks, after: Blocks, share: float, size: int) -> list[Tensor]:
    """Return a stage of ``size`` blocks that was lost with others beside it, linearly by depth.

    Gradient norms say nothing about stages that far away: of m stages lost side by side the k-th
    is (m + 1 - k) / (m + 1) of the one before them and k / (m + 1) of the one after.

    Args:
        before, after: the nearest stages that are there; the same one where the model ends.
        share: k / (m + 1), of the one after.
    Returns: [N] f32 for each block.
    """
    weights = (1 - share, share)
    return [_mixed(_at(before, j, size), _at(after, j, size), weights) for j in range(size)]


def _at(blocks: Blocks, place: int, size: int) -> Tensor:
    """Return the block that stands where block ``place`` of ``size`` does."""
    return blocks[(2 * place + 1) * len(blocks) // (2 * size)]


def _mixed(one: Tensor, other: Tensor, weights: tuple[float, float]) -> Tensor:
    """Return weights[0] * one + weights[1] * other; [N] f32. Where they are alike, exactly that."""
    if weights[1] == 0 or one is other:
        return one.clone()
    return one * weights[0] + other * weights[1]
