"""What the compute process does: one method per request of protocol/compute.py.

Torch and files only; frames, signals and failures are worker.py's. A method that raises leaves
parameters, error feedback and ledger as they were, so that the process can go on.

AdamW's moments are neither sent nor written to disk: they are twice the model's size and stale
after a restart. A process that starts anew ramps its learning rate up instead (inner.py).
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from skerry.pipeline.batches import Batches
from skerry.pipeline.corpus import load_corpus, unigram_entropy
from skerry.pipeline.evaluation import validation_loss
from skerry.pipeline.export import export_hf
from skerry.pipeline.feedback import ErrorFeedback
from skerry.pipeline.generate import generate
from skerry.pipeline.inner import InnerOptimizer
from skerry.pipeline.ledger import LedgerEntry, RoundWork
from skerry.pipeline.outer import admit, updated_shards
from skerry.pipeline.payloads import Payloads
from skerry.pipeline.states import Parameters, seeded_shards, stored_shards
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import (
    Applied,
    Apply,
    Begin,
    Encode,
    Encoded,
    Evaluate,
    Evaluated,
    Export,
    Exported,
    Hello,
    OpenContribution,
    Progress,
    Ready,
    Sample,
    Sampled,
    Settle,
    Settled,
    Train,
    Trained,
    Validate,
    Validated,
)
from skerry.protocol.errors import ComputeError
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import Manifest

Between = Callable[[Progress], bool]
"""Called after each inner step; returns whether to go on."""

log = logging.getLogger(__name__)


class Engine:
    """Parameters, optimizer, error feedback and data of one run on one peer."""

    def __init__(self, manifest: Manifest, store: BlobStore, folder: Path, author: PeerId) -> None:
        """Load the corpus and restore the error feedback of ``author``, this peer.

        Raises: ConfigError("SK-DAT-001") if there is too little text.
        """
        self.device = torch.device("cpu")  # the one place that names it
        self._manifest, self._store = manifest, store
        section = manifest.model
        self._corpus = load_corpus(manifest.data, manifest.seed, section.context)
        self._batches = Batches(
            self._corpus.training, section.context, manifest.inner.batch_size, manifest.seed
        )
        self._parameters = Parameters(manifest, store)
        self._parameters.model.to(self.device)
        self._optimizer = InnerOptimizer(self._parameters.model, manifest.inner)
        self._payloads = Payloads(manifest, store)
        self._feedback = ErrorFeedback(manifest, self._payloads, folder, author)
        self._work: RoundWork | None = None
        """Trained but not yet encoded; None while the local copy equals theta."""

    def hello(self) -> Hello:
        """Say what this process can start from."""
        ledger = self._feedback.ledger.values()
        return Hello(
            params=sum(spec.numel for spec in self._payloads.layout),
            unigram_entropy=unigram_entropy(self._corpus),
            ledger=tuple(OpenContribution(e.parent, e.round) for e in ledger if e.may_change),
        )

    def begin(self, request: Begin) -> Ready:
        """Take parameters from the seed or from blobs. Raises: StateError, ProtocolError."""
        if request.shards is None:
            shards = seeded_shards(self._manifest)
        else:
            shards = stored_shards(self._manifest, self._store, request.shards)
        self._work = None
        self._parameters.rewind()
        self._parameters.replace(shards)
        return Ready(
            request=request.request,
            digest=self._parameters.digest,
            shards=self._parameters.shards,
        )

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

    def encode(self, request: Encode) -> Encoded:
        """Fold the progress into the error feedback and encode a contribution.

        Upon a parent that was encoded before, the progress repeats the same text and is dropped;
        with ``send`` the answer is the contribution of the first time (feedback.py).
        Raises: StateError("SK-DSK-001") on a full disk; the progress is kept for another try.
        """
        _ = self._parameters.theta
        work = self._work
        if work is not None and work.parent != request.parent:
            detail = f"trained upon {work.parent[:8]}, asked to encode upon {request.parent[:8]}"
            raise ComputeError("SK-CMP-002", detail)
        if work is not None and self._is_broken():
            work = None
        entry: LedgerEntry | None = None
        if request.parent in self._feedback.ledger:
            entry = self._feedback.offer_again(request.parent) if request.send else None
        elif work is not None:
            entry = self._feedback.fold(work, self._parameters.progress(), request.send)
        self._work = None
        self._parameters.rewind()
        return self._encoded(request, entry)

    def validate(self, request: Validate) -> Validated:
        """Decode a contribution; may be called between two inner steps."""
        return Validated(
            request=request.request,
            author=request.author,
            reason=self._payloads.flaw(request.shards),
        )

    def apply(self, request: Apply) -> Applied:
        """Take the outer step; unencoded progress is dropped.

        Raises: StateError("SK-DSK-001") on a full disk, with theta unchanged.
        """
        theta = self._parameters.theta
        sound, rejected = admit(self._manifest, self._payloads, request.contributions)
        lr = request.outer_lr
        if lr is None:
            lr = self._manifest.outer.lr_at(request.round)
        self._work = None
        self._parameters.replace(updated_shards(self._manifest, self._payloads, theta, sound, lr))
        return Applied(
            request=request.request,
            digest=self._parameters.digest,
            shards=self._parameters.shards,
            rejected=rejected,
        )

    def settle(self, request: Settle) -> Settled:
        """Move own contributions into or out of the error feedback as the chain says."""
        self._feedback.settle(request.verdicts)
        return Settled(request=request.request)

    def evaluate(self, request: Evaluate) -> Evaluated:
        """Measure the validation loss of theta. Raises: ComputeError if it is not finite."""
        data, inner = self._manifest.data, self._manifest.inner
        context = self._manifest.model.context
        with self._parameters.at_theta() as model:
            loss = validation_loss(
                model, self._corpus, context, inner.batch_size, data.validation_batches
            )
        if not math.isfinite(loss):
            raise ComputeError("SK-CMP-002", f"the validation loss is {loss}")
        return Evaluated(request=request.request, loss=loss)

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

    def _is_broken(self) -> bool:
        """Say whether training left the finite numbers; folding that in would spoil e for good."""
        if self._parameters.local_is_finite():
            return False
        log.error("the local parameters are not finite; this round's progress is dropped")
        self._optimizer.reset()
        return True

    def _encoded(self, request: Encode, entry: LedgerEntry | None) -> Encoded:
        sent = entry is not None and entry.state != "unsent"
        return Encoded(
            request=request.request,
            parent=request.parent,
            text_tokens=entry.text_tokens if entry and sent else max(0, self._feedback.pending),
            round_tokens=entry.round_tokens if entry else 0,
            loss=entry.loss if entry else 0.0,
            shards=entry.shards if entry else (),
        )
