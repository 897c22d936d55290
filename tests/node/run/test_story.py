"""Words for a replay: there are some for whatever can happen, and they name what matters."""

import typing

import event_strategies
import pytest
from hypothesis import given, settings

from skerry.node.run.replay import Situation
from skerry.node.run.state import NodeEvent
from skerry.node.run.story import action_words, change_words, event_words
from skerry.protocol.compute import Contribution, Verdict
from skerry.protocol.ids import short
from skerry.protocol.layout import state_digest
from skerry.protocol.messages import Announce, Commit, Judgement
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.state import Phase

ONE, OTHER, THIRD = (signer.peer_id for signer in event_strategies.SIGNERS)
HASH = "c0ffee00" + "1" * 56


@pytest.mark.parametrize("kind", typing.get_args(NodeEvent), ids=lambda kind: kind.__name__)
def test_there_are_words_for_every_event(kind) -> None:
    @settings(max_examples=20, deadline=None)
    @given(event_strategies.any_of(kind))
    def check(event) -> None:
        assert event_words(event)

    check()


@pytest.mark.parametrize("kind", typing.get_args(act.Action), ids=lambda kind: kind.__name__)
def test_there_are_words_for_every_action(kind) -> None:
    @settings(max_examples=20, deadline=None)
    @given(event_strategies.any_of(kind))
    def check(action) -> None:
        if not isinstance(action, act.Note):
            assert action_words(action)

    check()


def test_events_name_whom_and_what() -> None:
    announce = event_strategies.signed(Announce)[0]
    text = event_words(ev.AnnounceReceived(announce))
    assert text.startswith(f"announcement {short(announce.hash)} by {short(announce.signer)}: ")
    state = short(state_digest(announce.message.state))
    assert f"round 3, 64 text tokens, loss 1.5000, state {state}" in text
    first, second = event_strategies.signed(Commit)[:2]
    assert event_words(ev.CommitsReceived((second,), OTHER)) == (
        f"from {short(OTHER)}: commit {short(second.hash)} of round 1 view 0 with "
        f"{short(second.message.announces[0].signer)}, "
        f"taking in {short(second.message.admissions[0].signer)}"
    )
    third = event_strategies.signed(Commit)[2]
    about = short(event_strategies.SIGNERS[2].peer_id)
    issuer = short(third.message.orders[0].signer)
    assert event_words(ev.CommitsReceived((third,), OTHER)).split("; ")[1:] == [
        f"{about} counts 25%: newcomer",
        f"{issuer} finds that {about}'s part in commit 11111111 raises the loss by 0.1250",
        f"order 1 of {issuer}: remove {about} (slow)",
        f"order 2 of {issuer}: let {about} in again",
        f"order 3 of {issuer}: alpha 0.7",
        f"order 4 of {issuer}: alpha as the run file says",
    ]
    heard = ev.OrderReceived(third.message.orders[2], OTHER)
    assert event_words(heard) == f"from {short(OTHER)}: order 3 of {issuer}: alpha 0.7"
    both = event_words(ev.CommitsReceived((first, second), OTHER))
    assert both.startswith(f"from {short(OTHER)}: 2 commits, at last commit {short(second.hash)}")
    rejected = ev.Applied(HASH, ev.LocalState("d" * 64, ()), (Judgement(OTHER, 0, "indices"),))
    assert event_words(rejected) == (
        f"applied c0ffee00: state dddddddd; {short(OTHER)} does not count: indices"
    )


def test_actions_name_whom_and_what() -> None:
    contributions = (Contribution(ONE, 1, ()), Contribution(OTHER, 1, ()))
    assert action_words(act.Apply(HASH, 7, contributions)) == (
        f"apply round 7: {short(ONE)}, {short(OTHER)} of commit c0ffee00"
    )
    assert action_words(act.Apply(HASH, 7, contributions, 0.5)).endswith("c0ffee00, alpha 0.5")
    assert action_words(act.Train(7, HASH, 0, 1, 3)) == "train round 7 upon c0ffee00, slot 2 of 3"
    settle = act.Settle((Verdict(HASH, True), Verdict("a" * 64, False)))
    assert action_words(settle) == "settle c0ffee00 included, aaaaaaaa left out"
    state = ev.LocalState(HASH, ())
    assert action_words(act.LoadState(None, None, ())) == "load the initial state"
    assert action_words(act.LoadState(HASH, state, ())) == "load state c0ffee00 from disk"
    assert action_words(act.LoadState(HASH, None, (ONE,))) == (
        f"download state c0ffee00 from {short(ONE)}"
    )
    assert action_words(act.LoadState(HASH, None, ())) == "download state c0ffee00 from nobody"
    renew = act.Renew(HASH, ("block.1", "block.2"), ("block.2",), (), ())
    told = "bring back the state before c0ffee00, made anew: block.2"
    assert action_words(renew) == told


def situation(**changes) -> Situation:
    fields = {
        "phase": Phase.COLLECTING,
        "round": 3,
        "view": 0,
        "leader": ONE,
        "alive": frozenset([ONE]),
        "waiting_for": (ONE,),
    }
    return Situation(**{**fields, **changes})


class TestChanges:
    def test_nothing_is_said_of_what_is_as_before(self) -> None:
        assert change_words(situation(), situation()) == []

    def test_phase_and_whom_it_waits_for_now(self) -> None:
        after = situation(phase=Phase.FETCHING, waiting_for=(OTHER, "a peer that has the state"))
        assert change_words(situation(), after) == [
            "collecting -> fetching",
            f"waits for {short(OTHER)}, a peer that has the state",
        ]

    def test_whom_it_waits_for_may_change_within_a_phase(self) -> None:
        after = situation(waiting_for=(OTHER,))
        assert change_words(situation(), after) == [f"waits for {short(OTHER)}"]
        assert change_words(situation(), situation(waiting_for=())) == []

    @pytest.mark.parametrize(
        ("alive", "reason"), [(frozenset([ONE]), "gave no commit"), (frozenset(), "is gone")]
    )
    def test_why_another_leads(self, alive, reason) -> None:
        before = situation(alive=alive)
        after = situation(alive=alive, view=1, leader=OTHER)
        assert change_words(before, after) == [
            f"round 3 view 1 led by {short(OTHER)}",
            f"{short(ONE)} {reason}",
        ]

    def test_new_round_is_no_failure_of_its_leader(self) -> None:
        after = situation(round=4, leader=None)
        assert change_words(situation(), after) == ["round 4 view 0 without a leader"]

    def test_who_came_and_who_went(self) -> None:
        after = situation(alive=frozenset([OTHER, THIRD]))
        came = sorted([OTHER, THIRD])
        assert change_words(situation(), after) == [
            *(f"{short(peer)} is alive" for peer in came),
            f"{short(ONE)} is gone",
        ]
