"""Error feedback: what was trained but not yet taken up by the chain, so that nothing is lost.

e <- beta e + delta once per trained round; what is sent is subtracted, and comes back if the
chain leaves it out (DESIGN 7.3, SparseLoCo). The ledger remembers each own contribution.

Memory: e lies on disk (snapshot.py). A round takes it shard by shard: read, folded, encoded,
written to the new file. No more than one shard of it is ever in memory, and nothing of the old
file is changed, so whatever fails before the new one takes its place changes nothing at all.

Crash safety: e, ledger and pending text tokens are written together, before a contribution is
made known. ``settle`` changes the ledger in memory only. What that means for e follows from the
ledger on disk and the one in memory (``moves_between``), is added to each shard as it is read,
and so is written with the next contribution. A process that dies in between restarts from the
last written file, which agrees with itself: each entry's state says exactly whether its payloads
are inside or outside of e. It reports its ledger in ``Hello``, the node sends the verdicts again,
and the same moves are made again. Nothing depends on whether a verdict had been applied before.

One contribution per parent: a round repeated upon the same parent (after a crash, the reply
having been lost) trains the same text again. Its progress is dropped and the first contribution
is offered again, so that no text token counts twice and no peer signs two different
contributions to one round. Where there was none to offer, because the round had been left
unsent or the payloads are gone, one is made from the error feedback as it is: a peer that is
alone at this parent must be able to go on.

Where e comes from, and what becomes of it:
- A peer that joins for the first time has no file: e = 0, no ledger.
- A peer that restarts has its file: e is, bit for bit, what was last written.
- Theta replaced by a download, because this peer was far behind or had diverged: e stays. It is
  progress of this peer's own text that nobody else has, not a part of theta, and a pseudo-gradient
  taken a few rounds ago is what error feedback consists of anyway. The chain that comes with the
  state says which contributions it includes; the others return to e as always.
- Training that was cut short by that download counts as a round's progress (``send`` false).
- The chain includes a contribution: it stays outside of e. Leaves it out: it returns to e.
  Includes it after all, on another branch: it is taken out again.
- A contribution's payload is lost before a verdict on it is written: e stays without it (or, taken
  out of e, with it), its text tokens stay where they were, and the log names the round.
- The file is damaged: the one of the write before takes its place, made to fit what was written
  since (``_catch_up``). Of what the lost write sent, the ledger, which is kept twice, says the
  payloads. Whatever they hold was inside of the older e, so these entries become zero: sent twice
  they never are, and if the chain leaves the contribution out, they come back with it. Verdicts
  written since are made again. Lost is what that one round's training left unsent; where it sent
  nothing, the round counts as not trained, with its text tokens.
- Both are damaged, or of another run or form, or those payloads are gone: e = 0, no ledger, and a
  warning. What was trained and not sent is lost to the run, and nothing else is.

With ``feedback = "bf16"`` e is bf16 on disk, rounded at random as it is written (rounding.py) and
f32 while it is worked on. What is random is a function of (seed of the run, own peer id, number
of the write, shard, entry). The number of the write is counted in the file: after a restart a
round that is done again gives the same bits, and a shard that is written twice in one round is
rounded independently.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import torch
from torch import Tensor

from skerry.compression.counter_rng import derive
from skerry.compression.drift import Drift, fold
from skerry.pipeline.ledger import (
    Accounts,
    EntryState,
    Ledger,
    LedgerEntry,
    RoundWork,
    moves_between,
    sent_since,
    with_entry,
    without,
)
from skerry.pipeline.payloads import Payloads
from skerry.pipeline.rounding import rounded_bf16
from skerry.pipeline.snapshot import SnapshotFile, SnapshotWriter
from skerry.protocol.compute import Verdict
from skerry.protocol.ids import CommitHash, PeerId, content_hash
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import ShardPayload

FILE_NAME = "feedback.safetensors"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

log = logging.getLogger(__name__)


class ErrorFeedback:
    """Error feedback of all shards, with the ledger that says what is missing from it."""

    def __init__(
        self, manifest: Manifest, payloads: Payloads, folder: Path, author: PeerId
    ) -> None:
        """Restore what ``folder`` holds of this peer, ``author``, or start from zero."""
        self._payloads = payloads
        self._decay = manifest.codec.error_decay
        self._keep_rounds = 2 * manifest.round.replay
        self._dtype = _DTYPES[manifest.codec.feedback]
        self._key = derive(manifest.seed, int(content_hash(author.encode())[:16], 16))
        self._file = SnapshotFile(folder / FILE_NAME, manifest.run_id, payloads.layout, self._dtype)
        self._written, newest = self._file.load()
        """What goes with the file; ``_accounts`` may be ahead of it by some verdicts."""
        self._accounts = self._written
        if newest.writes != self._written.writes:
            self._catch_up(newest)

    @property
    def pending(self) -> int:
        """Text tokens trained since they were last part of a contribution that counts.

        Negative while a contribution whose text tokens went into a later one is included after
        all and the later one's fate has not been told yet.
        """
        return self._accounts.pending

    @property
    def ledger(self) -> Ledger:
        """Entries by parent."""
        return self._accounts.ledger

    def vector(self, position: int) -> Tensor:
        """Return a shard's error feedback, flat [numel] f32, a copy.

        Raises: StateError("SK-DSK-002") if it, or a payload that has to return to it, is gone.
        """
        vector = self._file.vector(position).to(torch.float32)
        for move in moves_between(self._written.ledger, self.ledger):
            self._payloads.add(position, move.entry.shards[position], vector, move.sign)
        return vector

    def fold(
        self, work: RoundWork, progress: Iterable[tuple[Tensor, Tensor]], send: bool
    ) -> LedgerEntry:
        """Take up one round's progress; with ``send`` encode a contribution. All or nothing.

        Args:
            work: the round; its parent must not be in the ledger yet.
            progress: start and local parameters per shard in layout order, each flat [numel] f32,
                taken one by one.
            send: whether payloads go into the blob store.
        Returns: the new ledger entry; error feedback and ledger are on disk by then.
        Raises: StateError("SK-DSK-001") on a full disk, with nothing changed.
        """
        # Not a generator expression, which would hold on to a shard while the next one is made.
        drifts = map(lambda pair: Drift(self._decay, *pair), progress)
        return self._take_up(work, drifts, self.pending + work.round_tokens, send)

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
            self._write_moves()
            return entry
        work = RoundWork(parent, entry.round, entry.round_tokens, entry.loss)
        nothing = repeat(None, len(self._payloads.layout))
        return self._take_up(work, nothing, self.pending, send=True)

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
        self, work: RoundWork, drifts: Iterable[Drift | None], pending: int, send: bool
    ) -> LedgerEntry:
        """Fold ``drifts`` in and write what is not sent of it; all or nothing."""
        pending += self._give_up_lost()
        # A debt (negative pending) must stay one: only what is there can be claimed, and the chain
        # takes no contribution that weighs more than it claims (check_announce).
        text_tokens = max(0, pending) if send else 0
        sends = text_tokens > 0
        shards: list[ShardPayload] = []
        with self._file.rewriting() as writer:
            upcoming = iter(drifts)
            for position in range(len(self._payloads.layout)):
                shards += self._rewrite(writer, position, upcoming, sends)
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
            accounts = Accounts(pending - text_tokens, self._written.writes + 1, ledger)
            self._payloads.make_durable()  # before the ledger says that they are outside of e
            writer.finish(accounts)
        self._written = self._accounts = accounts
        return entry

    def _catch_up(self, newest: Accounts) -> None:
        """Make the error feedback of one write ago fit ``newest``, whose own was damaged.

        Raises: StateError("SK-DSK-001") on a full disk, with nothing changed.
        """
        sent, lost = sent_since(self._written.ledger, newest.ledger)
        moves = moves_between(self._written.ledger, newest.ledger)
        if any(self._is_gone(entry) for entry in (*sent, *(move.entry for move in moves))):
            log.warning("the error feedback before is not consistent either, and starts from zero")
            self._file.forget()
            self._written = self._accounts = Accounts()
            return
        self._accounts = newest
        is_new = newest.ledger.keys() - self._written.ledger.keys()
        with self._file.rewriting() as writer:
            for position in range(len(self._payloads.layout)):
                vector = self.vector(position)
                vector *= self._decay if is_new else 1.0
                for entry in sent:
                    vector[self._holds(position, entry)] = 0.0
                self._add(writer, position, vector)
            accounts = without(newest, lost)
            writer.finish(accounts)
        self._written = self._accounts = accounts
        log.warning("the error feedback before is used, without what was sent since")

    def _holds(self, position: int, entry: LedgerEntry) -> Tensor:
        """Return which entries of a shard were part of a contribution, [numel] bool."""
        part = torch.zeros(self._payloads.layout[position].numel)
        self._payloads.add(position, entry.shards[position], part)
        return part != 0

    def _write_moves(self) -> None:
        """Bring the file in line with the ledger, if the two differ in what lies inside of e."""
        self._give_up_lost()
        if not moves_between(self._written.ledger, self.ledger):
            return
        accounts = replace(self._accounts, writes=self._written.writes + 1)
        with self._file.rewriting() as writer:
            for position in range(len(self._payloads.layout)):
                self._rewrite(writer, position, repeat(None), sends=False)
            writer.finish(accounts)
        self._written = self._accounts = accounts

    def _rewrite(
        self, writer: SnapshotWriter, position: int, drifts: Iterator[Drift | None], sends: bool
    ) -> list[ShardPayload]:
        """Write what is left of one shard; return the payload of what is sent of it, if any.

        Its drift is taken only once the error feedback is read: the pages of the file, which count
        as this process's memory, are then no longer there beside the local copy.
        """
        vector, drift = self.vector(position), next(drifts)
        payloads = [self._payloads.encode(position, vector, drift)] if sends else []
        if drift is not None and not sends:
            fold(vector, drift)
        del drift  # and with it the local copy
        self._add(writer, position, vector)
        return payloads

    def _add(self, writer: SnapshotWriter, position: int, vector: Tensor) -> None:
        if self._dtype is torch.bfloat16:
            vector = rounded_bf16(vector, derive(self._key, self._written.writes, position))
        writer.add(vector)

    def _move(self, entry: LedgerEntry, state: EntryState) -> None:
        """Put a contribution back into the error feedback ("returned") or take it out (others)."""
        if self._is_gone(entry):
            self._mark(entry, "lost")
            return
        sign = 1 if state == "returned" else -1
        self._accounts = replace(self._accounts, pending=self.pending + sign * entry.text_tokens)
        self._mark(entry, state)

    def _give_up_lost(self) -> int:
        """Undo the verdicts whose payloads were lost before what they move could be written.

        Returns: what this changed the pending text tokens by.
        """
        before = self.pending
        for move in moves_between(self._written.ledger, self.ledger):
            if self._is_gone(move.entry):
                pending = self.pending - move.sign * move.entry.text_tokens
                self._accounts = replace(self._accounts, pending=pending)
                self._mark(move.entry, "lost")
        return self.pending - before

    def _is_gone(self, entry: LedgerEntry) -> bool:
        """Say whether the payloads are no longer there to be moved."""
        flaw = self._payloads.flaw(entry.shards)
        if flaw:
            log.error(
                "the contribution of round %d (%d text tokens) cannot be settled, its payload is "
                "lost: %s",
                *(entry.round, entry.text_tokens, flaw),
            )
        return bool(flaw)

    def _mark(self, entry: LedgerEntry, state: EntryState) -> None:
        ledger = {**self.ledger, entry.parent: replace(entry, state=state)}
        self._accounts = replace(self._accounts, ledger=ledger)
