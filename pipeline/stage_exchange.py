"""What the compute process of a ring's peer does: tasks of the ring, and the outer rounds.

The stages' parameters are the local copy of exchange.py: theta at the start of a round, trained by
the ring's tasks, encoded and back at theta at its end. Tasks outside of an open round are refused.
"""

from pathlib import Path

from skerry.compression.counter_rng import derive
from skerry.pipeline.adamw import AdamW
from skerry.pipeline.batches import Batches
from skerry.pipeline.corpus import Corpus, load_corpus, unigram_entropy
from skerry.pipeline.evaluation import ValidationWindows
from skerry.pipeline.exchange import Exchange
from skerry.pipeline.ledger import RoundWork
from skerry.pipeline.shader import Shader
from skerry.pipeline.shards import flatten_shard
from skerry.pipeline.stages.cuts import ORIGIN, Stages
from skerry.pipeline.stages.host import Room, StageHost, Text
from skerry.pipeline.stages.round_tally import RoundTally
from skerry.pipeline.stages.server import answer
from skerry.pipeline.stages.sizes import host_size
from skerry.pipeline.stages.stage_model import StageModel
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import Hello, Hosting, Open, Opened, StageDone, StageTask
from skerry.protocol.errors import ComputeError
from skerry.protocol.ids import CommitHash, PeerId, content_hash
from skerry.protocol.manifest import Manifest
from skerry.protocol.shading import Shade, Shaded


class StageExchange(Exchange[StageModel]):
    """Stages of one replica on one peer of a ring."""

    def __init__(
        self, manifest: Manifest, store: BlobStore, folder: Path, author: PeerId, hosting: Hosting
    ) -> None:
        """Host stages; load the corpus if stage 0 is among them.

        Raises: ConfigError("SK-DAT-001") if there is too little text, ValueError if the stages
        are not the model's.
        """
        stages = stages_of(hosting)
        corpus = _corpus(manifest) if ORIGIN in stages else None
        self._unigram_entropy = unigram_entropy(corpus) if corpus else 0.0
        self._host = StageHost(
            manifest,
            stages,
            Room(hosting.slots, host_size(manifest, stages).debts),
            key=derive(manifest.seed, int(content_hash(f"stages of {author}".encode())[:16], 16)),
            text=_text(manifest, corpus) if corpus else None,
            device=self.device,
        )
        self._shader = Shader(folder)
        self._round: tuple[int, CommitHash] | None = None
        self._tally = RoundTally()
        model = self._host.model
        super().__init__(manifest, store, folder, author, model, model.specs)

    def hello(self) -> Hello:
        """Say what this process can start from; only an origin knows the text."""
        return self.greeting(self._unigram_entropy)

    def open(self, request: Open) -> Opened:
        """Open a round, or go on with it.

        Raises: ComputeError without parameters, or with progress upon another parent that was
        never encoded.
        """
        _ = self._parameters.theta
        work = self.trained()
        if work is not None and work.parent != request.parent:
            detail = f"the progress upon {work.parent[:8]} is not encoded yet"
            raise ComputeError("SK-CMP-002", detail)
        if self._round is None:
            self._host.move()
        self._round = (request.round, request.parent)
        return Opened(request=request.request)

    def do(self, request: StageTask) -> StageDone:
        """Do a task of the ring. Raises: ComputeError if no round is open."""
        if self._round is None:
            raise ComputeError("SK-CMP-002", "no round is open: Open comes first")
        frame = answer(self._host, request.frame, self._tally.add)
        return StageDone(request=request.request, frame=frame)

    def shade(self, request: Shade) -> Shaded:
        """Encode a shard as its stale copy elsewhere, of the round's start or as it is by now.

        Raises: ComputeError if no round is open, the shard is not hosted or has diverged,
        StateError on a full disk.
        """
        theta = {spec.name: (spec, flat) for spec, flat in self._parameters.hosted()}
        if self._round is None or request.shard not in theta:
            raise ComputeError("SK-CMP-002", f"{request.shard} cannot be copied now")
        spec, values_N = theta[request.shard]
        if request.step:
            values_N = flatten_shard(self._host.model, spec)
        if not bool(values_N.isfinite().all()):
            raise ComputeError("SK-CMP-002", f"{request.shard} has diverged and is not copied")
        payload, bits, whole = self._shader.copy(request.shard, values_N, request.base)
        return Shaded(
            request=request.request,
            round=self._round[0],
            payload=payload,
            whole=whole,
            bits=bits,
        )

    def trained(self) -> RoundWork | None:
        """Return what the open round has trained, if anything."""
        if self._round is None or not self._tally.text_tokens:
            return None
        number, parent = self._round
        tally = self._tally
        return RoundWork(parent, number, tally.text_tokens, tally.loss, tally.norms)

    def forget_training(self) -> None:
        """Close the round; what is under way in it is forgotten with it."""
        self._round, self._tally = None, RoundTally()
        self._host.leave_step()

    def optimizers(self) -> tuple[AdamW, ...]:
        """Return those of the stages."""
        return self._host.optimizers

    def reset_moments(self) -> None:
        """Forget the stages' moments; their learning rates ramp up again."""
        self._host.reset()


def stages_of(hosting: Hosting) -> Stages:
    """Return the hosted shards by stage."""
    return {stage.number: stage.shards for stage in hosting.stages}


def _corpus(manifest: Manifest) -> Corpus:
    return load_corpus(manifest.data, manifest.seed, manifest.model.context)


def _text(manifest: Manifest, corpus: Corpus) -> Text:
    context, size = manifest.model.context, manifest.inner.batch_size
    return Text(
        Batches(corpus.training, context, size, manifest.seed),
        ValidationWindows(corpus, context, size * manifest.data.validation_batches),
    )
