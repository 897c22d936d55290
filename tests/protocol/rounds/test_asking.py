"""Where two branches part is found from the end, whatever the heads do meanwhile."""

import pytest
from small_run import (
    BOB,
    CAROL,
    GRACE,
    OWNER,
    STATES,
    Peer,
    child,
    genesis,
    heartbeat,
    name,
    of,
)

from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import asking

START = genesis()


def branch(rounds: int, authors: tuple = (OWNER, BOB, CAROL)):
    """Return a chain of so many rounds with the contributions of ``authors``."""
    commits = [START]
    for number in range(rounds):
        above = commits[-1]
        commits.append(child(above, authors, state=STATES[number].digest))
    return commits


OURS, THEIRS = branch(6, (BOB,)), branch(6)


def apart() -> Peer:
    """Return a peer that has trained alone, and hears of those who went on without it."""
    peer = Peer(BOB)
    peer.in_round()
    for commit, state in zip(OURS[1:], STATES[1:], strict=False):
        peer.commits(commit, source=BOB)
        peer.apply(commit, state)
    assert peer.s.at == name(OURS[-1])
    return peer


def asked(actions) -> list[int]:
    return [action.from_round for action in of(act.AskChain, actions)]


def test_the_end_is_asked_for_first_then_what_is_farther_back_at_once():
    peer = apart()
    assert asked(peer.take(heartbeat(CAROL, THEIRS[5]), 50.0)) == [2]
    assert asked(peer.commits(*THEIRS[2:])) == [0]
    peer.commits(*THEIRS)
    assert peer.s.goal == name(THEIRS[-1])


def test_a_head_that_moves_on_does_not_begin_the_search_anew():
    peer = apart()
    assert asked(peer.take(heartbeat(CAROL, THEIRS[5]), 50.0)) == [2]
    assert asked(peer.take(heartbeat(CAROL, THEIRS[6]), 50.0 + 0.4 * GRACE)) == []
    assert asked(peer.commits(*THEIRS[2:])) == [0]
    assert asked(peer.take(heartbeat(CAROL, THEIRS[6]), 50.0 + 0.8 * GRACE)) == []
    assert asked(peer.take(heartbeat(CAROL, THEIRS[6]), 50.0 + 1.5 * GRACE)) == [3]


def test_of_a_shorter_chain_nothing_beyond_its_end_is_asked_for():
    peer = apart()
    assert asked(peer.take(heartbeat(CAROL, THEIRS[4]), 50.0)) == [1]


def test_an_answer_that_ends_early_is_followed_up():
    peer = Peer(BOB)
    peer.in_round()
    assert asked(peer.take(heartbeat(CAROL, THEIRS[5]), 50.0)) == [0]
    assert asked(peer.commits(*THEIRS[:3])) == [3]
    assert asked(peer.commits(*THEIRS[3:])) == []
    assert peer.s.goal == name(THEIRS[-1])


def test_who_answers_in_circles_is_asked_no_more(monkeypatch):
    monkeypatch.setattr(asking, "MAX_FOLLOWING", 3)
    peer = apart()
    peer.take(heartbeat(CAROL, THEIRS[6]), 50.0)
    first, rounds = 3, []
    for _ in range(9):
        found = asked(peer.commits(*(OURS if first == 0 else THEIRS)[first:]))
        rounds += found
        first = found[0] if found else first
    assert len(rounds) <= 3


def test_an_unknown_commit_out_of_the_blue_is_a_reason_to_ask_now_and_then():
    peer = apart()
    peer.now = 50.0
    assert asked(peer.commits(THEIRS[6])) == [3]
    assert asked(peer.commits(THEIRS[5])) == []


@pytest.mark.parametrize("known", [OURS[-1:], OURS])
def test_what_is_known_asks_nothing(known):
    assert asked(apart().commits(*known)) == []


def test_a_bad_commit_is_refused_and_not_asked_for_again():
    peer = Peer(BOB)
    peer.in_round()
    peer.take(heartbeat(CAROL, THEIRS[5]), 50.0)
    bad = child(THEIRS[1], weight=7)
    actions = peer.commits(*THEIRS[:2], bad)
    assert [one.peer for one in of(act.Refuse, actions)] == [CAROL]
    assert not of(act.AskChain, actions)


def test_who_comes_into_step_tells_the_others_at_once():
    peer = Peer(BOB)
    peer.boot()
    peer.meet(OWNER, CAROL)
    assert act.Present() in peer.commits(genesis((OWNER, CAROL)))
    assert act.Present() not in Peer(BOB).commits(genesis((OWNER, CAROL)))
