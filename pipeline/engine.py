"""What the compute process of a full replica does: the requests of protocol/compute.py.

Torch and files only; frames, signals and failures are worker.py's, the outer rounds exchange.py's.

AdamW's moments are written to disk once a round, for the next start (kept_moments.py), and when
other peers ask for them. A process that starts anew without any ramps its learning rate up.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from skerry.pipeline.adamw import AdamW
from skerry.pipeline.batches import Batches
from skerry.pipeline.corpus import load_corpus, unigram_entropy
from skerry.pipeline.evaluation import validation_loss
from skerry.pipeline.exchange import Exchange
from skerry.pipeline.export import export_hf
from skerry.pipeline.generate import generate
from skerry.pipeline.inner import InnerOptimizer
from skerry.pipeline.ledger import RoundWork
from skerry.pipeline.model import Decoder
from skerry.pipeline.shards import load_shard
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import (
    Evaluate,
    Evaluated,
    Export,
    Exported,
    Hello,
    Progress,
    Sample,
    Sampled,
    Train,
    Trained,
    Tried,
    Try,
)
from skerry.protocol.errors import ComputeError
from skerry.protocol.ids import PeerId
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import Manifest

Between = Callable[[Progress], bool]
"""Called after each inner step; returns whether to go on."""

_MOST_HARM = 1e6
"""What a loss that is no finite number counts as."""

log = logging.getLogger(__name__)


class Engine(Exchange[Decoder]):
    """Parameters, optimizer, error feedback and data of one run on one full replica."""

    def __init__(self, manifest: Manifest, store: BlobStore, folder: Path, author: PeerId) -> None:
        """Load the corpus and restore the error feedback of ``author``, this peer.

        Raises: ConfigError("SK-DAT-001") if there is too little text.
        """
        section = manifest.model
        self._corpus = load_corpus(manifest.data, manifest.seed, section.context)
        self._batches = Batches(
            self._corpus.training, section.context, manifest.inner.batch_size, manifest.seed
        )
        model = Decoder(section, manifest.seed).to(self.device)
        super().__init__(manifest, store, folder, author, model, layout_of(section))
        self._optimizer = InnerOptimizer(model, manifest.inner)
        self._work: RoundWork | None = None

    def hello(self) -> Hello:
        """Say what this process can start from."""
        return self.greeting(unigram_entropy(self._corpus))

    def trained(self) -> RoundWork | None:
        """Return what was trained but not yet encoded."""
        return self._work

    def forget_training(self) -> None:
        """Nothing is trained upon theta."""
        self._work = None

    def optimizers(self) -> tuple[AdamW, ...]:
        """Return the one that steps all shards."""
        return (self._optimizer.adamw,)

    def reset_moments(self) -> None:
        """Forget AdamW's moments; the learning rate ramps up again."""
        self._optimizer.reset()

    def train(self, request: Train, between: Between) -> Trained:
        """Run inner steps until all are done or ``between`` says no.

        Raises: ComputeError without parameters, or with progress that was never encoded.
        """
        _ = self._parameters.theta
        if self._work is not None:
            detail = f"the progress upon {self._work.parent[:8]} is not encoded yet"
            raise ComputeError("SK-CMP-002", detail)
        with ExitStack() as undo:
            undo.callback(self._parameters.rewind)
            steps, loss = self._inner_steps(request, between)
            undo.pop_all()
        self._optimizer.release_gradients()
        tokens = steps * self._step_tokens
        if steps:
            self._work = RoundWork(request.parent, request.round, tokens, loss)
        return Trained(request=request.request, steps=steps, round_tokens=tokens, loss=loss)

    def evaluate(self, request: Evaluate) -> Evaluated:
        """Measure the validation loss of theta. Raises: ComputeError if it is not finite."""
        with self._parameters.at_theta() as model:
            loss = self._validation_loss(model)
        if not math.isfinite(loss):
            raise ComputeError("SK-CMP-002", f"the validation loss is {loss}")
        return Evaluated(request=request.request, loss=loss)

    def attempt(self, request: Try) -> Tried:
        """Measure how much a contribution alone lowers the validation loss of theta.

        It is applied as it is, neither clipped nor doubted. Of one that cannot be read nothing is
        to be found here: it will not count anyway.
        """
        shards = {payload.shard: payload for payload in request.contribution.shards}
        if self._payloads.flaw(request.contribution.shards):
            return Tried(request=request.request, gain=0.0)
        lr = self.alpha(request.round, request.outer_lr)
        with self._parameters.at_theta() as model:
            before = self._validation_loss(model)
            for position, (spec, start) in enumerate(self._parameters.hosted()):
                if spec.name in shards:
                    flat = start.clone()
                    self._payloads.add(position, shards[spec.name], flat, -lr)
                    load_shard(model, spec, flat)
            gain = before - self._validation_loss(model)
        harm = -gain if math.isfinite(gain) else _MOST_HARM
        return Tried(request=request.request, gain=-min(harm, _MOST_HARM))

    def sample(self, request: Sample) -> Sampled:
        """Continue a text with theta. Raises: ConfigError, ComputeError as generate does."""
        prompt = request.prompt.encode(errors="replace")
        with self._parameters.at_theta() as model:
            text = generate(model, prompt, request.text_tokens, request.temperature, request.seed)
        return Sampled(request=request.request, text=text.decode(errors="replace"))

    def export(self, request: Export) -> Exported:
        """Write theta in the Hugging Face layout. Raises: StateError as export_hf does."""
        with self._parameters.at_theta() as model:
            export_hf(model, self._manifest.model, Path(request.directory))
        return Exported(
            request=request.request,
            directory=request.directory,
            digest=self._parameters.digest,
        )

    def _validation_loss(self, model: Decoder) -> float:
        data, size = self._manifest.data, self._manifest.inner.batch_size
        context = self._manifest.model.context
        return validation_loss(model, self._corpus, context, size, data.validation_batches)

    @property
    def _step_tokens(self) -> int:
        return self._manifest.inner.batch_size * self._manifest.model.context

    def _inner_steps(self, request: Train, between: Between) -> tuple[int, float]:
        """Return the number of steps that counted and their mean loss."""
        losses: list[float] = []
        started = time.monotonic()
        for i in range(request.steps):
            index = request.cursor + i * request.num_slots + request.slot
            windows_BS = self._batches.batch(index).to(self.device)
            loss = self._optimizer.step(windows_BS, request.round * request.steps + i)
            if loss is None:
                log.warning("round %d, batch %d: not finite, step skipped", request.round, index)
            else:
                losses.append(loss)
            elapsed = max(time.monotonic() - started, 1e-9)
            progress = Progress(
                request=request.request,
                step=i + 1,
                steps=request.steps,
                loss=losses[-1] if losses else 0.0,
                tokens_per_second=len(losses) * self._step_tokens / elapsed,
            )
            if not between(progress):
                break
        return len(losses), sum(losses) / len(losses) if losses else 0.0
