"""Hosted parameters and their part in the outer rounds, as both kinds of hosts have it.

A full replica (engine.py) hosts all shards, a peer of a ring (stage_exchange.py) those of its
stages; how each trains them is its own. A method that raises leaves parameters, error feedback and
ledger as they were, so that the process can go on.
"""

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic

import torch

from skerry.pipeline import moments
from skerry.pipeline.adamw import AdamW
from skerry.pipeline.feedback import ErrorFeedback
from skerry.pipeline.jury import Jury
from skerry.pipeline.kept_moments import KeptMoments
from skerry.pipeline.ledger import LedgerEntry, RoundWork
from skerry.pipeline.outer import believed, updated_shards
from skerry.pipeline.payloads import Payloads
from skerry.pipeline.states import Model, Parameters, seeded_shards, stored_shards
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import (
    Applied,
    Apply,
    Begin,
    Encode,
    Encoded,
    Hello,
    OpenContribution,
    Ready,
    Settle,
    Settled,
    Validate,
    Validated,
)
from skerry.protocol.errors import ComputeError
from skerry.protocol.ids import PeerId
from skerry.protocol.layout import ShardSpec
from skerry.protocol.manifest import Manifest
from skerry.protocol.moments import GiveMoments, MomentsGiven

log = logging.getLogger(__name__)


class Exchange(ABC, Generic[Model]):
    """Parameters and error feedback of the shards that one peer hosts."""

    device = torch.device("cpu")  # the one place that names it

    def __init__(
        self,
        manifest: Manifest,
        store: BlobStore,
        folder: Path,
        author: PeerId,
        model: Model,
        layout: tuple[ShardSpec, ...],
    ) -> None:
        """Host ``layout``, the shards of ``model``; restore the error feedback of ``author``."""
        self._manifest, self._store, self._layout = manifest, store, layout
        self._parameters: Parameters[Model] = Parameters(model, layout, store)
        self._payloads = Payloads(manifest, store, layout)
        self._jury = Jury(manifest, store)
        self._feedback = ErrorFeedback(manifest, self._payloads, folder, author)
        self._kept = KeptMoments(folder, manifest.run_id)
        self._moments_round: int | None = None
        """The newest round whose text the moments know; None while there are none."""
        self._is_kept = True

    @abstractmethod
    def trained(self) -> RoundWork | None:
        """Return what was trained but not yet encoded; None while the local copy equals theta."""

    @abstractmethod
    def forget_training(self) -> None:
        """The local copy is about to be theta: nothing is trained upon it."""

    @abstractmethod
    def optimizers(self) -> tuple[AdamW, ...]:
        """Return who steps the hosted shards."""

    @abstractmethod
    def reset_moments(self) -> None:
        """Forget the optimizer's moments."""

    def greeting(self, unigram_entropy: float) -> Hello:
        """Say what this process can start from."""
        ledger = self._feedback.ledger.values()
        return Hello(
            params=sum(spec.numel for spec in self._layout),
            unigram_entropy=unigram_entropy,
            ledger=tuple(OpenContribution(e.parent, e.round) for e in ledger if e.may_change),
        )

    def begin(self, request: Begin) -> Ready:
        """Take parameters from the seed or from blobs. Raises: StateError, ProtocolError."""
        if request.shards is None:
            shards = seeded_shards(self._manifest, self._layout)
        else:
            shards = stored_shards(self._layout, self._store, request.shards)
        self.forget_training()
        self._parameters.rewind()
        self._parameters.replace(shards)
        is_restored = self._restore_moments(request.round)
        if request.moments:
            self._take_moments(moments.given(request.moments, self._store))
        if self._has_moments and self._moments_round is None:
            self._moments_round = request.round
        return Ready(
            request=request.request,
            digest=self._parameters.digest,
            shards=self._parameters.shards,
            has_moments=self._has_moments,
            is_restored=is_restored,
        )

    def give_moments(self, request: GiveMoments) -> MomentsGiven:
        """Store the optimizer's moments for others. Raises: StateError on a full disk."""
        model = self._parameters.model
        some = moments.vectors(model, self._layout, self.optimizers())
        return MomentsGiven(request=request.request, moments=moments.give(some, self._store))

    def keep_moments(self) -> None:
        """Write the moments to the own disk, if the last round encoded has made new ones."""
        hosted = self._parameters.model, self._layout, self.optimizers()
        number, stepped = self._moments_round, moments.stepped(*hosted)
        if number is not None and stepped and not self._is_kept:
            self._kept.write(number, stepped, moments.vectors(*hosted))
        self._is_kept = True

    def encode(self, request: Encode) -> Encoded:
        """Fold the progress into the error feedback and encode a contribution.

        Upon a parent that was encoded before, the progress repeats the same text and is dropped;
        with ``send`` the answer is the contribution of the first time (feedback.py).
        Raises: StateError("SK-DSK-001") on a full disk; the progress is kept for another try.
        """
        _ = self._parameters.theta
        work = self.trained()
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
        self.forget_training()
        self._parameters.rewind()
        if work is not None:
            self._moments_round, self._is_kept = work.round, False
        return self._encoded(request, entry, work)

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
        judgements = self._jury.judge(request.contributions)
        sound = believed(self._payloads, request.contributions, judgements)
        lr = self.alpha(request.round, request.outer_lr)
        self.forget_training()
        self._parameters.replace(updated_shards(self._payloads, theta, sound, lr))
        return Applied(
            request=request.request,
            digest=self._parameters.digest,
            shards=self._parameters.shards,
            judgements=judgements,
        )

    def alpha(self, number: int, ordered: float | None) -> float:
        """Return the outer learning rate of a round: as ordered, or as the manifest says."""
        return self._manifest.outer.lr_at(number) if ordered is None else ordered

    def settle(self, request: Settle) -> Settled:
        """Move own contributions into or out of the error feedback as the chain says."""
        self._feedback.settle(request.verdicts)
        return Settled(request=request.request)

    def _is_broken(self) -> bool:
        """Say whether training left the finite numbers; folding that in would spoil e for good."""
        if self._parameters.local_is_finite():
            return False
        log.error("the local parameters are not finite; this round's progress is dropped")
        self._forget_moments()
        self._kept.forget()
        return True

    @property
    def _has_moments(self) -> bool:
        return all(optimizer.steps_taken for optimizer in self.optimizers())

    def _restore_moments(self, number: int) -> bool:
        """Go on in a round with what the own disk keeps, if the process has none; say whether.

        Those of a round far off, as after a long absence, tell nothing of where theta is now.
        """
        if self._moments_round is not None and not self._is_near(self._moments_round, number):
            self._forget_moments()
        if self._has_moments or not (held := self._kept.newest()):
            return False
        if not self._is_near(held.about.round, number):
            log.info("the moments kept are of round %d, not of %d", held.about.round, number)
            return False
        self._take_moments(held.read)
        self._moments_round = held.about.round
        return self._has_moments

    def _is_near(self, a: int, b: int) -> bool:
        return abs(a - b) <= self._manifest.round.replay

    def _take_moments(self, read: moments.Read) -> None:
        moments.take(self._parameters.model, self._layout, self.optimizers(), read)

    def _forget_moments(self) -> None:
        self.reset_moments()
        self._moments_round = None

    def _encoded(
        self, request: Encode, entry: LedgerEntry | None, work: RoundWork | None
    ) -> Encoded:
        sent = entry is not None and entry.state != "unsent"
        shards = entry.shards if entry else ()
        known = work is not None and all(x.shard in work.norms for x in shards)
        return Encoded(
            request=request.request,
            parent=request.parent,
            text_tokens=entry.text_tokens if entry and sent else max(0, self._feedback.pending),
            round_tokens=entry.round_tokens if entry else 0,
            loss=entry.loss if entry else 0.0,
            shards=shards,
            norms=tuple(work.norms[x.shard] for x in shards) if work and known else (),
        )
