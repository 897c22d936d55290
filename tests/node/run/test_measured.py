"""What is kept of the measurements: all that a restart would lose, within bounds, or nothing."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.node.run.context import MAX_REASONS
from skerry.node.run.facts import Facts
from skerry.node.run.measured import MAX_BYTES, facts_from_json, to_json

counts = st.dictionaries(st.text(max_size=80), st.integers(0, 2**40), max_size=8)


def facts_with(sent, received, refused) -> Facts:
    facts = Facts(loss=2.5, dense_bytes=99, ring_text_tokens=640)
    facts.validated(0, 5.5)
    facts.validated(5, 4.0)
    facts.sent_bytes.update(sent)
    facts.received_bytes.update(received)
    facts.ring_sent.update(sent)
    facts.refused.update(refused)
    return facts


@given(counts, counts, counts)
def test_what_was_kept_comes_back(sent, received, refused):
    before = facts_with(sent, received, refused)
    after = facts_from_json(to_json(before))
    for name in ("loss", "val_loss_start", "val_loss", "validated_round", "dense_bytes"):
        assert getattr(after, name) == getattr(before, name)
    assert (after.ring_sent, after.ring_text_tokens) == (before.ring_sent, before.ring_text_tokens)
    assert (after.sent_bytes, after.received_bytes) == (before.sent_bytes, before.received_bytes)
    assert after.refused == before.refused


def test_counting_goes_on_from_there():
    facts = facts_from_json(to_json(facts_with({"payload": 7}, {}, {"size": 1})))
    facts.sent_bytes["payload"] += 3
    facts.sent_bytes["state"] += 1
    facts.refused["size"] += 1
    facts.validated(10, 3.0)
    assert facts.sent_bytes == {"payload": 10, "state": 1}
    assert facts.refused == {"size": 2}
    assert (facts.val_loss_start, facts.val_loss) == (5.5, 3.0)


def test_what_the_process_does_now_is_not_kept():
    facts = Facts(compute="training", step=3, steps=30, tokens_per_second=9.0, warning="x")
    assert facts_from_json(to_json(facts)) == Facts()


def test_as_many_and_as_long_reasons_as_can_be_fit():
    reasons = {f"{number:03}" + "\N{WAVE DASH}" * 200: 2**40 for number in range(MAX_REASONS + 1)}
    data = to_json(facts_with({}, {}, reasons))
    assert len(data) < MAX_BYTES
    assert len(facts_from_json(data).refused) == MAX_REASONS + 1


def test_a_loss_that_is_not_finite_does_not_spoil_the_rest():
    facts = Facts(loss=float("nan"), dense_bytes=4)
    assert facts_from_json(to_json(facts)).dense_bytes == 4


@pytest.mark.parametrize(
    "damage",
    [
        {"val_loss": "NaN"},
        {"dense_bytes": -1},
        {"validated_round": -2},
        {"sent_bytes": {"payload": 2**70}},
        {"ring_sent": {"forward": -1}},
        {"ring_text_tokens": 2**70},
        {"refused": {"x" * 81: 1}},
        {"refused": {str(number): 1 for number in range(300)}},
        {"other": 1},
    ],
)
def test_impossible_figures_are_refused(damage):
    data = json.dumps({**json.loads(to_json(Facts())), **damage}).encode()
    with pytest.raises(ValueError):
        facts_from_json(data)


@given(st.binary(max_size=200))
def test_any_bytes_give_facts_or_one_error(data):
    with suppress(ValueError):
        facts_from_json(data)


def test_a_file_too_large_is_not_even_read():
    with pytest.raises(ValueError, match="limit"):
        facts_from_json(b" " * (MAX_BYTES + 1))
