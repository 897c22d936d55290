"""How one replica takes inner steps: as one model, or as a ring of stages."""

from collections.abc import Sequence
from math import isfinite
from typing import Protocol

import torch
from torch import Tensor

from convergence_sweep.local_ring import LocalRing
from convergence_sweep.ring_configurations import routes
from skerry.pipeline.batches import Batches
from skerry.pipeline.inner import InnerOptimizer
from skerry.pipeline.model import Decoder
from skerry.pipeline.shards import flatten_shard, load_shard
from skerry.pipeline.stages.cuts import cut
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import Manifest

_SLOTS = 4


class Trainer(Protocol):
    """Local parameters and moments of one replica."""

    def load(self, theta: Sequence[Tensor]) -> None:
        """Take parameters, flat [numel] f32 per shard in layout order."""

    def shards(self) -> list[Tensor]:
        """Return the parameters likewise, in main memory."""

    def train(self, indices: Sequence[int], first_step: int) -> float:
        """Take a step on each numbered batch; returns the mean loss. Raises: ArithmeticError."""


class FullTrainer:
    """The whole model at once, as the main job's peers train it."""

    def __init__(self, manifest: Manifest, batches: Batches, device: torch.device) -> None:
        """Allocate the model on ``device``."""
        self._layout, self._batches, self._device = layout_of(manifest.model), batches, device
        self._model = Decoder(manifest.model, manifest.seed).to(device)
        self._optimizer = InnerOptimizer(self._model, manifest.inner)

    def load(self, theta: Sequence[Tensor]) -> None:
        """Take parameters, flat [numel] f32 per shard in layout order."""
        for spec, flat in zip(self._layout, theta, strict=True):
            load_shard(self._model, spec, flat)

    def shards(self) -> list[Tensor]:
        """Return the parameters likewise, in main memory."""
        return [flatten_shard(self._model, spec).cpu() for spec in self._layout]

    def train(self, indices: Sequence[int], first_step: int) -> float:
        """Take a step on each numbered batch; returns the mean loss. Raises: ArithmeticError."""
        windows = [self._batches.batch(index).to(self._device) for index in indices]
        losses = [self._optimizer.step(one, first_step + i) for i, one in enumerate(windows)]
        return _mean([loss for loss in losses if loss is not None], len(losses))


class RingTrainer:
    """A ring with a stage for each block, sequence by sequence."""

    def __init__(
        self, manifest: Manifest, batches: Batches, skip_ratio: float, device: torch.device
    ) -> None:
        """Allocate the stages on ``device``."""
        self._manifest, self._skip_ratio = manifest, skip_ratio
        stages = cut(manifest.model, [1] * manifest.model.layers)
        hosted = [{number: shards} for number, shards in stages.items()]
        self._ring = LocalRing(manifest, hosted, batches, _SLOTS, device)

    def load(self, theta: Sequence[Tensor]) -> None:
        """Take parameters, flat [numel] f32 per shard in layout order."""
        self._ring.load(theta)

    def shards(self) -> list[Tensor]:
        """Return the parameters likewise, in main memory."""
        return [flat.cpu() for flat in self._ring.shards()]

    def train(self, indices: Sequence[int], first_step: int) -> float:
        """Take a step on each numbered batch; returns the mean loss. Raises: ArithmeticError."""
        count = self._manifest.inner.batch_size
        self._ring.begin(first_step)
        losses = []
        for step, index in enumerate(indices, start=first_step):
            some = routes(self._manifest.model.layers, self._skip_ratio, step * count, count)
            outcome = self._ring.step(step, some, batch=index)
            if not any(one.reason == "non-finite" for one in outcome.stages.values()):
                losses.append(outcome.loss)
        return _mean(losses, len(indices))


def _mean(losses: Sequence[float], steps: int) -> float:
    finite = [loss for loss in losses if isfinite(loss)]
    if len(finite) < steps:
        raise ArithmeticError(f"{steps - len(finite)} inner steps were not finite")
    return sum(finite) / len(finite)
