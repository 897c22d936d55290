"""The ledger's bookkeeping."""

import pytest

from skerry.pipeline.ledger import LedgerEntry, ledger_from_json, ledger_to_json, with_entry
from skerry.protocol.ids import Address, CommitHash
from skerry.protocol.messages import ShardPayload


def entry(number: int, state: str = "open") -> LedgerEntry:
    shards = (ShardPayload("embed", Address("a" * 64), 12),)
    return LedgerEntry(CommitHash(f"{number:064x}"), number, shards, 10, 20, 1.25, state)


def test_it_survives_the_way_through_json():
    ledger = with_entry(with_entry({}, entry(1), 10), entry(2, "returned"), 10)
    assert ledger_from_json(ledger_to_json(ledger)) == ledger
    assert ledger_from_json(ledger_to_json({})) == {}


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"parent": "x"}]'])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError):
        ledger_from_json(text)


def test_entries_are_kept_within_the_window_behind_the_new_one():
    ledger = {}
    for number in (1, 5, 9, 4):
        ledger = with_entry(ledger, entry(number), keep_rounds=4)
    assert [known.round for known in ledger.values()] == [5, 9, 4]


def test_only_sent_contributions_may_change():
    states = ("open", "included", "returned", "lost", "unsent")
    assert [entry(0, state).may_change for state in states] == [True, True, True, False, False]
