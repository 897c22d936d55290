"""Error feedback: what was trained but not yet taken up by the chain, so that nothing is lost.

e <- beta e + delta once per trained round; what is sent is subtracted, and comes back if the
chain leaves it out (DESIGN 7.3, SparseLoCo). The ledger remembers each own contribution.

Crash safety: error feedback, ledger and pending text tokens are written together, before a
contribution is made known. ``settle`` changes them in memory only and they are written with
the next contribution. A process that dies in between restarts from the last written pair,
which agrees with itself: each entry's state says exactly whether its payloads are inside or
outside of e. It reports its ledger in ``Hello``, the node sends the verdicts again, and the
same moves are made again. Nothing depends on whether a verdict had been applied before.

One contribution per parent: a round repeated upon the same parent (after a crash, the reply
having been lost) trains the same text again. Its progress is dropped and the first contribution
is offered again, so that no text token counts twice and no peer signs two different
contributions to one round. Where there was none to offer, because the round had been left
unsent or the payloads are gone, one is made from the error feedback as it is: a peer that is
alone at this parent must be able to go on.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from skerry.pipeline.ledger import EntryState, Ledger, LedgerEntry, RoundWork, with_entry
from skerry.pipeline.payloads import Payloads
from skerry.pipeline.snapshot import Snapshot, load_snapshot, save_snapshot
from skerry.protocol.compute import Verdict
from skerry.protocol.ids import CommitHash
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import ShardPayload

FILE_NAME = "feedback.safetensors"

log = logging.getLogger(__name__)


class ErrorFeedback:
    """Error feedback of all shards, with the ledger that says what is missing from it."""

    def __init__(self, manifest: Manifest, payloads: Payloads, folder: Path) -> None:
        """Restore what ``folder`` holds, or start from zero."""
        self._manifest, self._payloads = manifest, payloads
        self._path = folder / FILE_NAME
        self._keep_rounds = 2 * manifest.round.replay
        for unfinished in folder.glob(f"{FILE_NAME}.*.tmp"):  # of a process killed while writing
            unfinished.unlink(missing_ok=True)
        restored = load_snapshot(self._path, manifest.run_id, payloads.layout)
        self._state = restored or Snapshot(
            [torch.zeros(spec.numel) for spec in payloads.layout], 0, {}
        )

    @property
    def vectors(self) -> list[Tensor]:
        """Error feedback per shard in layout order, flat [numel] f32."""
        return self._state.vectors

    @property
    def pending(self) -> int:
        """Text tokens trained since they were last part of a contribution that counts.

        Negative while a contribution whose text tokens went into a later one is included after
        all and the later one's fate has not been told yet.
        """
        return self._state.pending

    @property
    def ledger(self) -> Ledger:
        """Entries by parent."""
        return self._state.ledger

    def fold(self, work: RoundWork, deltas: Iterable[Tensor], send: bool) -> LedgerEntry:
        """Take up one round's progress; with ``send`` encode a contribution. All or nothing.

        Args:
            work: the round; its parent must not be in the ledger yet.
            deltas: pseudo-gradient per shard in layout order, flat [numel] f32, taken one by one.
            send: whether payloads go into the blob store.
        Returns: the new ledger entry; error feedback and ledger are on disk by then.
        Raises: StateError("SK-DSK-001") on a full disk, with nothing changed.
        """
        decayed = (torch.mul(vector, self._decay) for vector in self.vectors)
        vectors = map(torch.add, decayed, deltas)
        return self._take_up(work, vectors, self.pending + work.round_tokens, send)

    def offer_again(self, parent: CommitHash) -> LedgerEntry:
        """Return the contribution already made upon ``parent`` for another announcement.

        One that had been returned is taken out of the error feedback again; one that was never
        sent, or whose payloads are gone, is made from the error feedback, without a decay. On
        disk before it returns. Raises: StateError("SK-DSK-001") on a full disk.
        """
        entry = self.ledger[parent]
        if entry.state == "returned":
            self._move(entry, "open")
        elif entry.may_change and self._is_gone(entry):
            self._mark(entry, "lost")
        entry = self.ledger[parent]
        if entry.may_change:
            self._persist(self._state)
            return entry
        work = RoundWork(parent, entry.round, entry.round_tokens, entry.loss)
        return self._take_up(work, (vector.clone() for vector in self.vectors), self.pending, True)

    def settle(self, verdicts: Iterable[Verdict]) -> None:
        """Bring error feedback and pending text tokens in line with the chain; idempotent.

        Verdicts on unknown, unsent and lost contributions change nothing.
        """
        for verdict in verdicts:
            entry = self.ledger.get(verdict.parent)
            if entry is None or not entry.may_change:
                continue
            if verdict.included and entry.state == "returned":
                self._move(entry, "included")
            elif not verdict.included and entry.state != "returned":
                self._move(entry, "returned")
            elif verdict.included:
                self._mark(entry, "included")

    def _take_up(
        self, work: RoundWork, vectors: Iterable[Tensor], pending: int, send: bool
    ) -> LedgerEntry:
        """Make ``vectors``, less what is sent of them, the error feedback; all or nothing."""
        # A debt (negative pending) must stay one: only what is there can be claimed, and the chain
        # takes no contribution that weighs more than it claims (check_announce).
        text_tokens = max(0, pending) if send else 0
        sends = text_tokens > 0
        kept: list[Tensor] = []
        shards: list[ShardPayload] = []
        for position, vector in enumerate(vectors):
            if sends:
                shards.append(self._payloads.encode(position, vector))
            kept.append(vector)
        entry = LedgerEntry(
            parent=work.parent,
            round=work.round,
            shards=tuple(shards),
            text_tokens=text_tokens,
            round_tokens=min(work.round_tokens, text_tokens) if sends else work.round_tokens,
            loss=work.loss,
            state="open" if sends else "unsent",
        )
        ledger = with_entry(self.ledger, entry, self._keep_rounds)
        self._persist(Snapshot(kept, pending - text_tokens, ledger))
        return entry

    @property
    def _decay(self) -> float:
        return self._manifest.codec.error_decay

    def _move(self, entry: LedgerEntry, state: EntryState) -> None:
        """Add a contribution to the error feedback ("returned") or take it out (the others)."""
        if self._is_gone(entry):
            self._mark(entry, "lost")
            return
        sign = 1 if state == "returned" else -1
        for position, (vector, payload) in enumerate(zip(self.vectors, entry.shards, strict=True)):
            self._payloads.add(position, payload, vector, sign)
        pending = self.pending + sign * entry.text_tokens
        self._state = replace(self._state, pending=pending)
        self._mark(entry, state)

    def _is_gone(self, entry: LedgerEntry) -> bool:
        """Say whether the payloads are no longer there to be moved."""
        flaw = self._payloads.flaw(entry.shards)
        if flaw:
            log.error("contribution of round %d cannot be settled: %s", entry.round, flaw)
        return bool(flaw)

    def _mark(self, entry: LedgerEntry, state: EntryState) -> None:
        self._state.ledger[entry.parent] = replace(entry, state=state)

    def _persist(self, snapshot: Snapshot) -> None:
        save_snapshot(self._path, self._manifest.run_id, self._payloads.layout, snapshot)
        self._state = snapshot
