"""The ledger: what this peer contributed to which round, and what became of it.

Pure bookkeeping, written and read by feedback.py; the bytes on disk are snapshot.py's business.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import TypeAdapter

from skerry.protocol.ids import CommitHash, RunId
from skerry.protocol.messages import ShardPayload

EntryState = Literal["open", "included", "returned", "lost", "unsent"]
"""open: sent, fate unknown · included: in the chain · returned: put back into the error feedback ·
lost: its payloads are gone, so it can no longer move; what it holds and its text tokens stay where
they were · unsent: folded, never encoded."""


@dataclass(frozen=True, slots=True)
class RoundWork:
    """What one round's inner steps amounted to."""

    parent: CommitHash
    round: int
    round_tokens: int
    """Text tokens trained in the round."""
    loss: float
    """Mean over the steps done, nats per text token."""
    norms: dict[str, float] = field(default_factory=dict)
    """Of the gradient of each shard, before it was clipped; none where they are not measured."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One round's progress upon ``parent`` and the payloads in which part of it was sent."""

    parent: CommitHash
    round: int
    shards: tuple[ShardPayload, ...]
    text_tokens: int
    """Moved from the pending ones into this contribution; 0 if unsent."""
    round_tokens: int
    loss: float
    state: EntryState

    @property
    def may_change(self) -> bool:
        """Whether a verdict of the chain can still move it."""
        return self.state in ("open", "included", "returned")


Ledger = dict[CommitHash, LedgerEntry]


@dataclass(frozen=True, slots=True)
class Accounts:
    """What goes with the error feedback; the two are only right together."""

    pending: int = 0
    """Text tokens trained but in no contribution; negative while a debt is outstanding."""
    writes: int = 0
    """How often the error feedback was written; what is random in it follows from this."""
    ledger: Ledger = field(default_factory=dict)


_OF_RUN: TypeAdapter[tuple[RunId, Accounts]] = TypeAdapter(tuple[RunId, Accounts])


@dataclass(frozen=True, slots=True)
class Move:
    """A contribution to be added to the error feedback (sign 1) or taken out of it (sign -1)."""

    entry: LedgerEntry
    """As it is now."""
    sign: int


def moves_between(old: Ledger, new: Ledger) -> tuple[Move, ...]:
    """Return what turns the error feedback that ``old`` describes into the one of ``new``.

    An entry that is new has moved nothing yet, and a lost one cannot move any more.
    """
    known = [(old[parent], entry) for parent, entry in new.items() if parent in old]
    signs = [(now, _inside(now) - _inside(then)) for then, now in known if now.may_change]
    return tuple(Move(entry, sign) for entry, sign in signs if sign)


def sent_since(old: Ledger, new: Ledger) -> tuple[tuple[LedgerEntry, ...], tuple[LedgerEntry, ...]]:
    """Return which entries of ``new`` were sent since ``old``, and which trained but not sent."""
    since = [entry for parent, entry in new.items() if not _same_shards(old.get(parent), entry)]
    sent = tuple(entry for entry in since if entry.shards)
    return sent, tuple(entry for entry in since if not entry.shards)


def _same_shards(old: LedgerEntry | None, new: LedgerEntry) -> bool:
    return old is not None and old.shards == new.shards


def without(accounts: Accounts, lost: Iterable[LedgerEntry]) -> Accounts:
    """Return accounts as if the rounds ``lost``, which sent nothing, had not been trained."""
    gone = {entry.parent: entry.round_tokens for entry in lost}
    ledger = {parent: entry for parent, entry in accounts.ledger.items() if parent not in gone}
    return replace(accounts, pending=accounts.pending - sum(gone.values()), ledger=ledger)


def _inside(entry: LedgerEntry) -> bool:
    return entry.state == "returned"


def with_entry(ledger: Ledger, entry: LedgerEntry, keep_rounds: int) -> Ledger:
    """Return the ledger with ``entry`` and without those more than ``keep_rounds`` behind it.

    Behind it, not behind the highest: after a partition the heavier chain may be the shorter one.
    """
    entries = {**ledger, entry.parent: entry}
    oldest = entry.round - keep_rounds
    return {parent: known for parent, known in entries.items() if known.round >= oldest}


def accounts_to_json(run_id: RunId, accounts: Accounts) -> bytes:
    """Return accounts as JSON, with the run that they belong to."""
    return _OF_RUN.dump_json((run_id, accounts))


def accounts_from_json(run_id: RunId, data: bytes) -> Accounts:
    """Read what accounts_to_json wrote. Raises: ValueError, also if it is of another run."""
    owner, accounts = _OF_RUN.validate_json(data)
    if owner != run_id:
        raise ValueError(f"it is of another run, {owner[:8]}")
    return accounts
