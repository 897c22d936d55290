"""What one round adds to the error feedback: e <- decay e + (start - local).

Source: SparseLoCo (arXiv:2603.08163, section 2.1): decay first, then add the pseudo-gradient.

Shape suffix: N entries of the shard.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_SLICE_ENTRIES = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """How far a shard's local copy has moved in one round."""

    decay: float
    """What is left of the old error feedback; rounded to fp32."""
    start: Tensor
    """[N] f32: the shard at the round's start."""
    local: Tensor
    """[N] f32: the local copy after the inner steps."""


def fold(feedback_N: Tensor, drift: Drift) -> None:
    """Take one round's drift up into ``feedback_N`` [N] f32, in place."""
    for first in range(0, feedback_N.numel(), _SLICE_ENTRIES):
        piece = slice(first, first + _SLICE_ENTRIES)
        feedback_N[piece] = folded(feedback_N, drift, piece)


def folded(feedback_N: Tensor, drift: Drift | None, place: slice | Tensor) -> Tensor:
    """Return what some entries become, of the shape of ``place`` (a slice or flat indices).

    Each of the three operations is rounded to fp32 on its own, so that the bits are those of the
    compiled kernel that does the same in its pass over the tiles.
    """
    if drift is None:
        return feedback_N[place]
    decay = torch.tensor(drift.decay, dtype=torch.float32, device=feedback_N.device)
    return feedback_N[place] * decay + (drift.start[place] - drift.local[place])
