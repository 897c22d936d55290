"""Several replicas of one run in one process: the pipeline's own parts, without daemon or network.

Model, inner optimizer, batches, codec, aggregate and outer step are the product's; payloads are
encoded to bytes and decoded again. What is left out: announcements, commits, peers that are late
or die, and the ledger of contributions: here each one is included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convergence_sweep.configurations import Scheme
from convergence_sweep.schemes import ShardScheme, shard_schemes
from skerry.compression.activations.counter_rng import derive
from skerry.compression.drift import Drift
from skerry.pipeline.batches import Batches
from skerry.pipeline.corpus import Corpus
from skerry.pipeline.evaluation import validation_loss
from skerry.pipeline.inner import InnerOptimizer
from skerry.pipeline.model import Decoder
from skerry.pipeline.outer import descend
from skerry.pipeline.rounding import rounded_bf16
from skerry.pipeline.shards import flatten_shard, initial_shard, load_shard
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import Manifest

EVALUATION_SEQUENCES = 32
"""Validation sequences at once."""


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What one round did, over all replicas."""

    training_loss: float
    """Mean over replicas and inner steps, nats per text token."""
    payload_bytes: int
    """Sent by all replicas together."""


class Replica:
    """One peer's local copy, AdamW moments and error feedback."""

    def __init__(
        self, manifest: Manifest, schemes: list[ShardScheme[Any]], slot: int, device: torch.device
    ) -> None:
        """Start with fresh moments and no error feedback; parameters come with each round."""
        self._manifest, self._schemes = manifest, schemes
        self._key = derive(manifest.seed, slot)
        self._layout = layout_of(manifest.model)
        self.model = Decoder(manifest.model, manifest.seed).to(device)
        self._optimizer = InnerOptimizer(self.model, manifest.inner)
        self._feedback = [torch.zeros(spec.numel) for spec in self._layout]

    def load(self, theta: list[Tensor]) -> None:
        """Begin a round from these parameters, flat [numel] f32 per shard."""
        for spec, flat in zip(self._layout, theta, strict=True):
            load_shard(self.model, spec, flat)

    def train(self, windows: list[Tensor], first_step: int) -> float:
        """Take inner steps; returns their mean loss. Raises: ArithmeticError if one diverged."""
        losses = [self._optimizer.step(one, first_step + i) for i, one in enumerate(windows)]
        finite = [loss for loss in losses if loss is not None]
        if len(finite) < len(losses):
            raise ArithmeticError(f"{len(losses) - len(finite)} inner steps were not finite")
        return sum(finite) / len(finite)

    def contribute(self, theta: list[Tensor], number: int) -> list[object]:
        """Fold round ``number`` into the error feedback; returns the payload of each shard."""
        decay = self._manifest.codec.error_decay
        payloads = []
        for i, spec in enumerate(self._layout):
            local = flatten_shard(self.model, spec).cpu()
            drift = Drift(decay, start=theta[i], local=local)
            payloads.append(self._schemes[i].encode(self._feedback[i], drift))
            self._feedback[i] = self._kept(self._feedback[i], derive(self._key, number, i))
        return payloads

    def _kept(self, feedback: Tensor, key: int) -> Tensor:
        """Return what is left of [N] f32 once the peer has written it down until the next round."""
        if self._manifest.codec.feedback == "fp32":
            return feedback
        return rounded_bf16(feedback, key).float()


class Swarm:
    """All replicas of a run, and the parameters they share."""

    def __init__(
        self,
        manifest: Manifest,
        scheme: Scheme,
        corpus: Corpus,
        replicas: int,
        device: torch.device,
    ) -> None:
        """Make the initial parameters of the run's seed."""
        self._manifest, self._corpus, self._device = manifest, corpus, device
        self._layout = layout_of(manifest.model)
        self._schemes = shard_schemes(scheme, manifest)
        self._replicas = [
            Replica(manifest, self._schemes, slot, device) for slot in range(replicas)
        ]
        self._batches = Batches(
            corpus.training, manifest.model.context, manifest.inner.batch_size, manifest.seed
        )
        self.theta = [
            initial_shard(manifest.seed, spec, manifest.model.layers) for spec in self._layout
        ]
        """Shared parameters per shard, flat [numel] f32 in main memory."""

    @property
    def num_parameters(self) -> int:
        """Parameters of the model."""
        return sum(spec.numel for spec in self._layout)

    def round(self, number: int) -> RoundResult:
        """Train, exchange and apply round ``number``."""
        losses, contributions = [], []
        for slot, replica in enumerate(self._replicas):
            replica.load(self.theta)
            windows = self._windows(number, slot)
            losses.append(replica.train(windows, number * self._manifest.inner.steps))
            contributions.append(replica.contribute(self.theta, number))
        by_shard = list(zip(*contributions, strict=True))
        self._apply(by_shard, self._manifest.outer.lr_at(number))
        return RoundResult(sum(losses) / len(losses), self._num_bytes(by_shard))

    def validation_loss(self, num_batches: int) -> float:
        """Measure the shared parameters, in nats per text token."""
        model = self._replicas[0]
        model.load(self.theta)
        context = self._manifest.model.context
        return validation_loss(
            model.model, self._corpus, context, EVALUATION_SEQUENCES, num_batches
        )

    def _windows(self, number: int, slot: int) -> list[Tensor]:
        """Return the batches [B, T + 1] of one replica's round, as the engine numbers them."""
        steps = self._manifest.inner.steps
        cursor = number * steps * len(self._replicas)
        indices = [cursor + i * len(self._replicas) + slot for i in range(steps)]
        return [self._batches.batch(index).to(self._device) for index in indices]

    def _apply(self, by_shard: Sequence[Sequence[object]], lr: float) -> None:
        for i, payloads in enumerate(by_shard):
            gradient = self._schemes[i].aggregate(payloads, self._manifest.outer.divisor)
            self.theta[i] = descend(self.theta[i], gradient, lr)

    def _num_bytes(self, by_shard: Sequence[Sequence[object]]) -> int:
        pairs = zip(self._schemes, by_shard, strict=True)
        return sum(scheme.num_bytes(one) for scheme, payloads in pairs for one in payloads)
