"""The ledger: what this peer contributed to which round, and what became of it.

Pure bookkeeping, written and read by feedback.py; the bytes on disk are snapshot.py's business.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter

from skerry.protocol.ids import CommitHash
from skerry.protocol.messages import ShardPayload

EntryState = Literal["open", "included", "returned", "lost", "unsent"]
"""open: sent, fate unknown · included: in the chain · returned: put back into the error feedback ·
lost: its payloads are gone, so it can no longer move · unsent: folded, never encoded."""


@dataclass(frozen=True, slots=True)
class RoundWork:
    """What one round's inner steps amounted to."""

    parent: CommitHash
    round: int
    round_tokens: int
    """Text tokens trained in the round."""
    loss: float
    """Mean over the steps done, nats per text token."""


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

_ENTRIES: TypeAdapter[tuple[LedgerEntry, ...]] = TypeAdapter(tuple[LedgerEntry, ...])


def ledger_of(entries: Iterable[LedgerEntry]) -> Ledger:
    """Index entries by parent; there is at most one upon each."""
    return {entry.parent: entry for entry in entries}


def with_entry(ledger: Ledger, entry: LedgerEntry, keep_rounds: int) -> Ledger:
    """Return the ledger with ``entry`` and without those more than ``keep_rounds`` behind it.

    Behind it, not behind the highest: after a partition the heavier chain may be the shorter one.
    """
    entries = {**ledger, entry.parent: entry}
    oldest = entry.round - keep_rounds
    return {parent: known for parent, known in entries.items() if known.round >= oldest}


def ledger_to_json(ledger: Ledger) -> str:
    """Return the entries as one line of JSON."""
    return _ENTRIES.dump_json(tuple(ledger.values())).decode()


def ledger_from_json(text: str) -> Ledger:
    """Read what ledger_to_json wrote. Raises: ValueError."""
    return ledger_of(_ENTRIES.validate_json(text))
