"""A run with hostile contributors in one process: the pipeline's own parts, without a network.

Training, codec, evidence, judgements, reputations, duties of verifiers and aggregate are the
product's; verifiers that are hostile themselves say the opposite of what they find.

Shape suffix: N entries of a shard.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from byzantine_bench.attacks import Forge, Situation
from byzantine_bench.defences import Defence
from convergence_sweep.trainers import FullTrainer
from skerry.compression.aggregate import Rule, WeightedPayload, aggregate
from skerry.compression.counter_rng import derive
from skerry.compression.drift import Drift
from skerry.pipeline.batches import Batches
from skerry.pipeline.corpus import Corpus
from skerry.pipeline.evaluation import validation_loss
from skerry.pipeline.evidence import gather
from skerry.pipeline.judging import Evidence, judge, rules_of
from skerry.pipeline.model import Decoder
from skerry.pipeline.outer import descend
from skerry.pipeline.payloads import shard_codecs
from skerry.pipeline.shards import initial_shard, load_shard
from skerry.protocol.ids import CommitHash, PeerId, content_hash
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import FULL, Judgement
from skerry.protocol.rounds.spotting import duties, harmful
from skerry.protocol.standing import Standing, ramp_of

EVALUATION_SEQUENCES = 32
_CPU = torch.device("cpu")


class Peer:
    """One contributor's trainer and error feedback."""

    def __init__(self, manifest: Manifest, batches: Batches) -> None:
        """Start without error feedback."""
        self._decay = manifest.codec.error_decay
        self._codecs = shard_codecs(manifest)
        self._feedback = [torch.zeros(codec.numel) for codec in self._codecs]
        self._trainer = FullTrainer(manifest, batches, _CPU)

    def contribute(self, theta: Sequence[Tensor], indices: Sequence[int], step: int) -> list[bytes]:
        """Train upon ``theta`` and return each shard's payload."""
        self._trainer.load(theta)
        self._trainer.train(indices, step)
        payloads = []
        for i, local in enumerate(self._trainer.shards()):
            drift = Drift(self._decay, start=theta[i], local=local)
            payloads.append(self._codecs[i].encode(self._feedback[i], drift))
        return payloads


class HostileSwarm:
    """Some peers that attack, all others honest, and what the defence makes of it."""

    def __init__(
        self,
        manifest: Manifest,
        corpus: Corpus,
        peers: int,
        hostile: Mapping[int, Forge],
        defence: Defence,
    ) -> None:
        """Let the peers numbered in ``hostile`` forge their payloads."""
        self._manifest, self._corpus, self._defence = manifest, corpus, defence
        self._hostile = hostile
        self._codecs = shard_codecs(manifest)
        self._layout = layout_of(manifest.model)
        batches = Batches(
            corpus.training, manifest.model.context, manifest.inner.batch_size, manifest.seed
        )
        self._names = [PeerId(f"peer-{i:03}") for i in range(peers)]
        self._peers = [Peer(manifest, batches) for _ in range(peers)]
        self._standing = Standing(ramp_of(defence.section), {})
        self._model = Decoder(manifest.model, manifest.seed)
        self._theta = [
            initial_shard(manifest.seed, spec, manifest.model.layers) for spec in self._layout
        ]
        self._aggregates: list[Tensor | None] = [None] * len(self._codecs)
        self.judged: Counter[str] = Counter()
        """Exclusions and down-weightings by "honest" or "hostile", and reason."""

    @property
    def num_parameters(self) -> int:
        """Parameters of the model."""
        return sum(codec.numel for codec in self._codecs)

    def round(self, number: int) -> Evidence:
        """Train, forge, judge and apply; returns what the judgements are made from."""
        steps = self._manifest.inner.steps
        payloads = []
        for slot, peer in enumerate(self._peers):
            cursor = number * steps * len(self._peers) + slot
            indices = [cursor + i * len(self._peers) for i in range(steps)]
            payloads.append(peer.contribute(self._theta, indices, number * steps))
        payloads = self._forged(payloads, number)
        shards = (
            (codec, {slot: sent[i] for slot, sent in enumerate(payloads)})
            for i, codec in enumerate(self._codecs)
        )
        evidence, _ = gather(self._names, shards, {})
        standings = [self._standing.of(name) for name in self._names]
        judgements = judge(evidence, standings, rules_of(self._defence.section))
        self._count(judgements)
        harm = self._spot_checked(number, payloads)
        self._apply(number, payloads, {one.peer: one.influence for one in judgements})
        self._standing = self._standing.after(self._names, judgements, harm)
        return evidence

    def reputations(self) -> list[int]:
        """Return everyone's reputation."""
        return [self._standing.of(name).reputation for name in self._names]

    def validation_loss(self, num_batches: int) -> float:
        """Measure the shared parameters, in nats per text token."""
        return self._loss(self._theta, num_batches)

    def _forged(self, payloads: list[list[bytes]], number: int) -> list[list[bytes]]:
        honest = [slot for slot in range(len(payloads)) if slot not in self._hostile]
        sent = list(payloads)
        for order, (slot, forge) in enumerate(self._hostile.items()):
            victim = payloads[honest[order % len(honest)]]
            sent[slot] = [
                forge(
                    Situation(
                        codec=codec,
                        own=payloads[slot][i],
                        victim=victim[i],
                        random=_generator(derive(self._manifest.seed, number, slot, i)),
                        conspiracy=_generator(derive(self._manifest.seed, i)),
                    )
                )
                for i, codec in enumerate(self._codecs)
            ]
        return sent

    def _count(self, judgements: Sequence[Judgement]) -> None:
        for one in judgements:
            side = "hostile" if self._names.index(one.peer) in self._hostile else "honest"
            self.judged[f"{side} {one.reason}{'' if one.influence else ' out'}"] += 1

    def _apply(
        self, number: int, payloads: Sequence[list[bytes]], influence: Mapping[PeerId, int]
    ) -> None:
        section = self._defence.section
        rule = Rule(self._manifest.outer.divisor, self._defence.clip, section.min_votes)
        believed = [
            (slot, influence.get(name, FULL) / FULL)
            for slot, name in enumerate(self._names)
            if influence.get(name, FULL)
        ]
        for i, codec in enumerate(self._codecs):
            weighted = [WeightedPayload(payloads[slot][i], 1, trust) for slot, trust in believed]
            mean = aggregate(codec, weighted, rule, self._aggregates[i])
            self._aggregates[i] = mean.clone()
            self._theta[i] = descend(self._theta[i], mean, self._manifest.outer.lr_at(number))

    def _spot_checked(self, number: int, payloads: Sequence[list[bytes]]) -> set[PeerId]:
        """Return whom this round's spot checks find harmful."""
        name = CommitHash(content_hash(f"{self._manifest.seed}/{number}".encode()))
        assigned = duties(name, self._names, self._standing, self._defence.section.spot_checks)
        findings = []
        for subject, verifiers in assigned.items():
            harms = self._gain(number, payloads[self._names.index(subject)]) < 0
            for verifier in verifiers:
                if harms != (self._names.index(verifier) in self._hostile):
                    findings.append((verifier, subject))
        return harmful(assigned, findings)

    def _gain(self, number: int, payloads: Sequence[bytes]) -> float:
        """Return by how much a contribution alone lowers the loss on held-out text."""
        alone = []
        for codec, flat, payload in zip(self._codecs, self._theta, payloads, strict=True):
            stepped = flat.clone()
            codec.add(payload, stepped, -self._manifest.outer.lr_at(number))
            alone.append(stepped)
        batches = self._manifest.data.validation_batches
        return self._loss(self._theta, batches) - self._loss(alone, batches)

    def _loss(self, theta: Sequence[Tensor], num_batches: int) -> float:
        for spec, flat in zip(self._layout, theta, strict=True):
            load_shard(self._model, spec, flat)
        context = self._manifest.model.context
        return validation_loss(
            self._model, self._corpus, context, EVALUATION_SEQUENCES, num_batches
        )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed % 2**63)
