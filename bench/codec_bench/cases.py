"""What is encoded: one round of a shard, made up or recorded from real training.

Shape suffix: N entries of the shard.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from skerry.compression.drift import Drift

DECAY = 0.95
"""Beta of the error feedback (SparseLoCo)."""
SCALE = 1e-3
"""Of made-up pseudo-gradients: AdamW moves an entry by about its learning rate per step."""
TILE_SIDE = 64

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One round of one shard; nothing in it is changed."""

    name: str
    shapes: Shapes
    drift: Drift
    feedback_N: Tensor
    """[N] f32: error feedback before the round."""

    @property
    def numel(self) -> int:
        """Entries of the shard."""
        return self.feedback_N.numel()


@dataclass(frozen=True, slots=True)
class Size:
    """A stack of Llama blocks without the vocabulary."""

    d_model: int
    blocks: int

    @property
    def shapes(self) -> Shapes:
        """Two norms, four square matrices and three of the feed-forward layer in each block."""
        d = self.d_model
        block = ((d,), (d, d), (d, d), (d, d), (d, d), (d,), (4 * d, d), (4 * d, d), (d, 4 * d))
        return block * self.blocks

    @property
    def numel(self) -> int:
        """Number of parameters."""
        return sum(map(prod, self.shapes))


SIZES = {"0.26": Size(128, 1), "1": Size(256, 1), "16.8": Size(1024, 1), "134": Size(1024, 8)}
"""By millions of parameters."""


def normal(shapes: Shapes, generator: torch.Generator) -> Tensor:
    """Return independent normal entries [N]."""
    return _scaled(torch.randn(sum(map(prod, shapes)), generator=generator), shapes)


def laplace(shapes: Shapes, generator: torch.Generator) -> Tensor:
    """Return independent entries [N] of the Laplace distribution: heavier tails."""
    draws_N = torch.empty(sum(map(prod, shapes)))
    draws_N.exponential_(generator=generator)
    draws_N -= torch.empty_like(draws_N).exponential_(generator=generator)
    return _scaled(draws_N, shapes)


def scale_mixed(shapes: Shapes, generator: torch.Generator) -> Tensor:
    """Return normal entries [N] with a scale per 64x64 tile, lognormal of sigma 0.5.

    In a real model some rows, columns and layers move more than others.
    """
    entries_N = normal(shapes, generator)
    for piece, shape in zip(_pieces(entries_N, shapes), shapes, strict=True):
        rows_columns = shape if len(shape) == 2 else (1, piece.numel())
        tiles = [-(-side // TILE_SIDE) for side in rows_columns]
        scales = torch.randn(tiles, generator=generator).mul_(0.5).exp_()
        for axis, side in enumerate(rows_columns):
            scales = scales.repeat_interleave(TILE_SIDE, axis).narrow(axis, 0, side)
        piece.mul_(scales.flatten())
    return entries_N


DISTRIBUTIONS: dict[str, Callable[[Shapes, torch.Generator], Tensor]] = {
    "normal": normal,
    "laplace": laplace,
    "scale-mixed": scale_mixed,
}


def synthetic(name: str, shapes: Shapes, seed: int = 0) -> Case:
    """Make up a round whose error feedback was empty before it."""
    entries_N = DISTRIBUTIONS[name](shapes, torch.Generator().manual_seed(seed))
    # Filled, not torch.zeros: memory that was never written to is read at the speed of the cache.
    local_N, feedback_N = torch.full_like(entries_N, 0.0), torch.full_like(entries_N, 0.0)
    return Case(name, shapes, Drift(DECAY, entries_N, local_N), feedback_N)


def _scaled(entries_N: Tensor, shapes: Shapes) -> Tensor:
    """Give each tensor a scale of its own, spread evenly over an octave.

    A single scale would be lucky or unlucky: how well a codec hits it depends on its grid.
    """
    for number, piece in enumerate(_pieces(entries_N, shapes)):
        piece.mul_(SCALE * 2 ** (number / len(shapes)))
    return entries_N


def _pieces(entries_N: Tensor, shapes: Shapes) -> tuple[Tensor, ...]:
    pieces: tuple[Tensor, ...] = torch.split(entries_N, [prod(shape) for shape in shapes])
    return pieces


def recording() -> Path:
    """Return where pseudogradients.py keeps what it records: in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "skerry-bench" / "pseudogradients.safetensors"


def recorded(path: Path) -> Case:
    """Read what pseudogradients.py saved: all shards of a model, joined to one."""
    with safe_open(path, framework="pt") as file:
        names = sorted(file.keys())
        start, local, feedback = (
            [file.get_tensor(name) for name in names if name.startswith(f"{kind}/")]
            for kind in ("start", "local", "feedback")
        )
    shapes = tuple(tuple(tensor.shape) for tensor in start)
    start_N, local_N, feedback_N = (
        torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (start, local, feedback)
    )
    return Case("real", shapes, Drift(DECAY, start_N, local_N), feedback_N)
