"""The ledger's bookkeeping."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.pipeline.ledger import (
    Accounts,
    LedgerEntry,
    Move,
    accounts_from_json,
    accounts_to_json,
    moves_between,
    sent_since,
    with_entry,
    without,
)
from skerry.protocol.ids import Address, CommitHash, RunId
from skerry.protocol.messages import ShardPayload

RUN = RunId("f" * 64)
SHARDS = (ShardPayload("embed", Address("a" * 64), 12),)
STATES = ("open", "included", "returned", "lost", "unsent")
ledgers = st.dictionaries(st.integers(1, 4), st.sampled_from(STATES))


def entry(number: int, state: str = "open") -> LedgerEntry:
    return LedgerEntry(CommitHash(f"{number:064x}"), number, SHARDS, 10, 20, 1.25, state)


def ledger(states: dict[int, str]) -> dict[CommitHash, LedgerEntry]:
    return {entry(number).parent: entry(number, state) for number, state in states.items()}


@given(st.integers(), st.integers(0), ledgers)
def test_accounts_survive_the_way_through_json(pending, writes, states):
    accounts = Accounts(pending, writes, ledger(states))
    assert accounts_from_json(RUN, accounts_to_json(RUN, accounts)) == accounts


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'[{"parent": "x"}]', b"\xff"])
def test_other_json_is_refused(data):
    with pytest.raises(ValueError):
        accounts_from_json(RUN, data)


def test_accounts_of_another_run_are_refused():
    data = accounts_to_json(RunId("e" * 64), Accounts())
    with pytest.raises(ValueError, match="of another run, eeeeeeee"):
        accounts_from_json(RUN, data)


def test_entries_are_kept_within_the_window_behind_the_new_one():
    ledger = {}
    for number in (1, 5, 9, 4):
        ledger = with_entry(ledger, entry(number), keep_rounds=4)
    assert [known.round for known in ledger.values()] == [5, 9, 4]


@pytest.mark.parametrize(
    ("old", "new", "sign"),
    [
        ("open", "returned", 1),
        ("included", "returned", 1),
        ("returned", "open", -1),
        ("returned", "included", -1),
        ("open", "included", 0),
        ("returned", "returned", 0),
        ("open", "lost", 0),
        ("returned", "lost", 0),
    ],
)
def test_what_a_change_of_state_moves(old, new, sign):
    moves = moves_between(ledger({1: old}), ledger({1: new}))
    assert moves == ((Move(entry(1, new), sign),) if sign else ())


def test_a_new_entry_moves_nothing():
    assert moves_between({}, ledger({1: "returned"})) == ()


@given(ledgers, st.data())
def test_there_and_back_cancels(states, data):
    """Whatever verdicts come in between, only where it began and where it ended counts."""
    movable = [s for s in STATES if s not in ("lost", "unsent")]
    changed = {
        number: data.draw(st.sampled_from(movable)) if state in movable else state
        for number, state in states.items()
    }
    there = moves_between(ledger(states), ledger(changed))
    back = moves_between(ledger(changed), ledger(states))
    assert [move.sign for move in there] == [-move.sign for move in back]


def test_what_was_sent_since_is_told_from_what_was_only_trained():
    unsent, again = replace(entry(2, "unsent"), shards=()), entry(2)
    new = replace(entry(4, "unsent"), shards=())
    old = {one.parent: one for one in (entry(1), unsent)}
    now = {one.parent: one for one in (entry(1, "included"), again, entry(3), new)}
    assert sent_since(old, now) == ((again, entry(3)), (new,))
    assert sent_since(old, old) == ((), ())


def test_a_round_left_out_takes_its_text_tokens_along():
    lost = replace(entry(2, "unsent"), shards=())
    accounts = Accounts(30, 7, {one.parent: one for one in (entry(1), lost)})
    assert without(accounts, (lost,)) == Accounts(10, 7, ledger({1: "open"}))
    assert without(accounts, ()) == accounts
