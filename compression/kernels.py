"""What depends on where a shard's tensors lie: selecting, adding and averaging entries of tiles.

Two implementations, the same bits: cpu_tiles.py, compiled, for main memory, and torch_tiles.py for
any other device. All else (values, gaps, payloads) handles the few kept entries in main memory.

Shape suffix: N entries of the shard.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from skerry.compression.cpu_tiles import CpuTiles
from skerry.compression.drift import Drift
from skerry.compression.entries import Entries, Weights
from skerry.compression.tiles import TileSpan
from skerry.compression.torch_tiles import TorchTiles


class TileKernels(Protocol):
    """Passes over the tiles of a shard [N] f32."""

    def select(self, feedback_N: Tensor, drift: Drift | None, span: TileSpan) -> Entries:
        """Fold the drift into a span's tiles, in place, and return their largest entries.

        Of each tile at most ``span.keep``, by magnitude, ties by lowest position; no zeros.
        Raises: CompressionError("non-finite"), with a part of the drift folded in.
        """

    def add(self, into_N: Tensor, span: TileSpan, entries: Entries) -> None:
        """Add entries in place, one fp32 addition each."""

    def mean(
        self, into_N: Tensor, span: TileSpan, terms: Sequence[Entries], weights: Weights
    ) -> None:
        """Overwrite a span with the sum of ``terms``, added in order, divided as weights say.

        An entry that is in none of the terms becomes 0.
        """


def kernels_for(device: torch.device) -> TileKernels:
    """Return the implementation for tensors on a device."""
    return CpuTiles() if device.type == "cpu" else TorchTiles()
