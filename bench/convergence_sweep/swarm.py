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

from convergence_sweep.configurations import Configuration
from convergence_sweep.schemes import ShardScheme, shard_schemes
from convergence_sweep.trainers import FullTrainer, RingTrainer, Trainer
from skerry.compression.counter_rng import derive
from skerry.compression.drift import Drift
from skerry.pipeline.batches import Batches
from skerry.pipeline.corpus import Corpus
from skerry.pipeline.evaluation import validation_loss
from skerry.pipeline.model import Decoder
from skerry.pipeline.outer import descend
from skerry.pipeline.rounding import rounded_bf16
from skerry.pipeline.shards import initial_shard, load_shard
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
    """One replica's trainer and error feedback."""

    def __init__(
        self, manifest: Manifest, schemes: list[ShardScheme[Any]], slot: int, trainer: Trainer
    ) -> None:
        """Start without error feedback; parameters come with each round."""
        self._manifest, self._schemes = manifest, schemes
        self._key = derive(manifest.seed, slot)
        self.trainer = trainer
        self._feedback = [torch.zeros(spec.numel) for spec in layout_of(manifest.model)]

    def contribute(self, theta: list[Tensor], number: int) -> list[object]:
        """Fold round ``number`` into the error feedback; returns the payload of each shard."""
        decay = self._manifest.codec.error_decay
        payloads = []
        for i, local in enumerate(self.trainer.shards()):
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
        configuration: Configuration,
        corpus: Corpus,
        replicas: int,
        device: torch.device,
    ) -> None:
        """Make the initial parameters of the run's seed."""
        self._manifest, self._corpus = manifest, corpus
        self._layout = layout_of(manifest.model)
        self._schemes = shard_schemes(configuration.scheme, manifest)
        self._batches = Batches(
            corpus.training, manifest.model.context, manifest.inner.batch_size, manifest.seed
        )
        self._model = Decoder(manifest.model, manifest.seed).to(device)
        """For measurements; each replica has its own."""
        ring = configuration.ring
        num_rings = round(replicas * ring.share) if ring else 0
        trainers: list[Trainer] = [
            RingTrainer(manifest, self._batches, ring.skip, device)
            if ring and slot < num_rings
            else FullTrainer(manifest, self._batches, device)
            for slot in range(replicas)
        ]
        self._replicas = [
            Replica(manifest, self._schemes, slot, trainer) for slot, trainer in enumerate(trainers)
        ]
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
            replica.trainer.load(self.theta)
            first_step = number * self._manifest.inner.steps
            losses.append(replica.trainer.train(self._indices(number, slot), first_step))
            contributions.append(replica.contribute(self.theta, number))
        by_shard = list(zip(*contributions, strict=True))
        self._apply(by_shard, self._manifest.outer.lr_at(number))
        return RoundResult(sum(losses) / len(losses), self._num_bytes(by_shard))

    def validation_loss(self, num_batches: int) -> float:
        """Measure the shared parameters, in nats per text token."""
        for spec, flat in zip(self._layout, self.theta, strict=True):
            load_shard(self._model, spec, flat)
        context = self._manifest.model.context
        return validation_loss(
            self._model, self._corpus, context, EVALUATION_SEQUENCES, num_batches
        )

    def _indices(self, number: int, slot: int) -> list[int]:
        """Return which batches a replica trains in a round, numbered as the engine does."""
        steps = self._manifest.inner.steps
        cursor = number * steps * len(self._replicas)
        return [cursor + i * len(self._replicas) + slot for i in range(steps)]

    def _apply(self, by_shard: Sequence[Sequence[object]], lr: float) -> None:
        for i, payloads in enumerate(by_shard):
            gradient = self._schemes[i].aggregate(payloads, self._manifest.outer.divisor)
            self.theta[i] = descend(self.theta[i], gradient, lr)

    def _num_bytes(self, by_shard: Sequence[Sequence[object]]) -> int:
        pairs = zip(self._schemes, by_shard, strict=True)
        return sum(scheme.num_bytes(one) for scheme, payloads in pairs for one in payloads)
