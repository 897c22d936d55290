"""From suspect to dead to evicted, only by evidence; who comes back has to pass its fence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.ids import PeerId
from skerry.recovery.standing import Evidence, Register, Sign, Standing, StandingRules, Turn

ME, OTHER, PEER = PeerId("me"), PeerId("other"), PeerId("peer")
RULES = StandingRules(dead_after_s=5.0, hurried_s=1.0, evicted_after_s=60.0, most_evidence=4)


def known(at: float = 0.0) -> Register:
    register = Register(RULES)
    register.heard(PEER, True, at)
    return register


def doubt(sign: Sign, at: float, by: PeerId = ME) -> Evidence:
    return Evidence(sign, at, by, f"{sign} at {at}")


def test_silence_makes_suspect_dead_and_evicted_in_this_order():
    register = known()
    [suspect] = register.doubted(PEER, doubt(Sign.SILENT, 2.0))
    assert (suspect.before, suspect.after) == (Standing.ALIVE, Standing.SUSPECT)
    assert register.next_check() == 7.0
    assert register.turns(6.9) == []
    [dead] = register.turns(7.0)
    assert dead.after is Standing.DEAD
    assert [one.detail for one in dead.evidence] == ["silent at 2.0"]
    assert register.next_check() == 67.0
    [evicted] = register.turns(100.0)
    assert evicted.after is Standing.EVICTED
    assert register.next_check() is None


def test_a_late_look_finds_both_turns():
    register = known()
    register.doubted(PEER, doubt(Sign.SILENT, 2.0))
    assert [turn.after for turn in register.turns(1000.0)] == [Standing.DEAD, Standing.EVICTED]


def test_a_suspect_that_is_heard_lives_and_what_spoke_against_it_is_told():
    register = known()
    register.doubted(PEER, doubt(Sign.SILENT, 2.0))
    [alive] = register.heard(PEER, False, 3.0)
    assert (alive.after, [one.sign for one in alive.evidence]) == (Standing.ALIVE, [Sign.SILENT])
    assert register.turns(1000.0) == []
    [again] = register.doubted(PEER, doubt(Sign.SILENT, 4.0))
    assert len(again.evidence) == 1


def test_what_is_older_than_the_last_sign_of_life_says_nothing():
    register = known(at=5.0)
    assert register.doubted(PEER, doubt(Sign.SILENT, 4.0)) == []
    assert register.doubted(PeerId("stranger"), doubt(Sign.SILENT, 9.0)) == []
    assert register.standing(PeerId("stranger")) is None


def test_a_broken_connection_that_another_peer_sees_too_is_believed_sooner():
    register = known()
    register.doubted(PEER, doubt(Sign.CLOSED, 2.0))
    assert register.next_check() == 7.0
    register.doubted(PEER, doubt(Sign.CLOSED, 2.1))
    assert register.next_check() == 7.0  # the same witness twice
    register.doubted(PEER, doubt(Sign.REPORTED, 2.2, by=OTHER))
    assert register.next_check() == 3.0


@pytest.mark.parametrize("sign", [Sign.LATE, Sign.REFUSED])
def test_a_failed_request_makes_nobody_suspect_but_counts_beside_what_does(sign):
    register = known()
    assert register.doubted(PEER, doubt(sign, 1.0)) == []
    assert register.next_check() is None
    [suspect] = register.doubted(PEER, doubt(Sign.SILENT, 2.0))
    assert [one.sign for one in suspect.evidence] == [sign, Sign.SILENT]


def test_a_report_alone_makes_nobody_suspect_and_is_forgotten_with_the_next_sign_of_life():
    register = known()
    assert register.doubted(PEER, doubt(Sign.REPORTED, 1.0, by=OTHER)) == []
    assert register.next_check() is None
    assert [one.by for one in register.evidence(PEER)] == [OTHER]
    register.heard(PEER, True, 1.5)
    assert register.evidence(PEER) == ()


@pytest.mark.parametrize("sign", [Sign.CLOSED, Sign.REFUSED])
def test_a_report_that_came_first_hurries_too(sign):
    register = known()
    register.doubted(PEER, doubt(Sign.REPORTED, 1.0, by=OTHER))
    register.doubted(PEER, doubt(sign, 2.0))
    register.doubted(PEER, doubt(Sign.SILENT, 2.0))
    assert register.next_check() == 3.0


def test_only_what_one_noticed_itself_is_passed_on():
    register = known()
    register.doubted(PEER, doubt(Sign.REPORTED, 1.0, by=OTHER))
    register.doubted(PEER, doubt(Sign.SILENT, 2.0, by=OTHER))
    assert (register.doubts(ME), register.doubts(OTHER)) == ((), (PEER,))
    register.doubted(PEER, doubt(Sign.SILENT, 2.0))
    register.turns(7.0)
    assert register.doubts(ME) == (PEER,)
    register.turns(1000.0)
    assert register.doubts(ME) == ()  # evicted


def test_after_an_outage_of_ones_own_everyone_is_given_time_anew():
    register = known()
    register.doubted(PEER, doubt(Sign.CLOSED, 2.0))
    register.excuse(50.0)
    assert register.turns(54.9) == []
    assert [turn.after for turn in register.turns(55.0)] == [Standing.DEAD]


def test_a_paused_process_that_comes_back_is_fenced_until_it_has_healed():
    register = known()
    register.doubted(PEER, doubt(Sign.SILENT, 2.0))
    register.turns(7.0)
    assert register.heard(PEER, False, 8.0) == []
    assert register.standing(PEER) is Standing.DEAD
    assert register.turns(67.5) == []  # it lives, so it is not evicted while it heals
    [back] = register.heard(PEER, True, 67.8)
    assert (back.before, back.after) == (Standing.DEAD, Standing.ALIVE)
    assert register.next_check() is None


def test_a_dead_peer_whose_place_nobody_took_just_comes_back():
    register = known()
    register.doubted(PEER, doubt(Sign.SILENT, 2.0))
    register.turns(1000.0)
    [back] = register.heard(PEER, True, 1000.0)
    assert (back.before, back.after) == (Standing.EVICTED, Standing.ALIVE)


def test_a_peer_that_left_on_purpose_is_not_missed():
    register = known()
    register.doubted(PEER, doubt(Sign.CLOSED, 2.0))
    register.left(PEER)
    assert (register.turns(1000.0), register.standing(PEER)) == ([], None)


def test_evidence_is_bounded_and_its_first_and_last_piece_are_kept():
    register = known()
    for at in range(2, 6):
        register.doubted(PEER, doubt(Sign.CLOSED, at))
    register.doubted(PEER, doubt(Sign.SILENT, 6.5))
    [dead] = register.turns(7.0)
    assert [one.at for one in dead.evidence] == [2, 3, 5, 6.5]


@pytest.mark.parametrize(
    "changes", [{"hurried_s": 6.0}, {"evicted_after_s": 0}, {"most_evidence": 1}]
)
def test_settings_under_which_nobody_could_come_back_are_refused(changes):
    with pytest.raises(ValueError, match="out of range"):
        StandingRules(**changes)


steps = st.lists(
    st.tuples(
        st.sampled_from(["heard", "healed", "doubt", "closed", "look", "left"]),
        st.sampled_from([PEER, OTHER]),
        st.floats(0.0, 40.0),
    ),
    max_size=40,
)


@given(steps)
def test_whatever_happens_standing_moves_by_evidence_alone(history):
    register, now = Register(RULES), 0.0
    stands: dict[PeerId, Standing] = {}
    for what, peer, pause in history:
        now += pause
        found = register.turns(now)
        match what:
            case "heard" | "healed":
                fenced = what == "heard" and (register.standing(peer) or 0) >= Standing.DEAD
                turns = register.heard(peer, what == "healed", now)
                assert not (fenced and turns)
                assert (register.standing(peer) is Standing.ALIVE) is not fenced
                found += turns
            case "doubt":
                found += register.doubted(peer, doubt(Sign.SILENT, now))
            case "closed":
                found += register.doubted(peer, doubt(Sign.CLOSED, now, by=OTHER))
        found += register.turns(now)  # what was said last may hurry
        for turn in found:
            check(turn, stands)
        if what == "left":
            register.left(peer)
            stands.pop(peer, None)
        due = register.next_check()
        assert due is None or due > now


def check(turn: Turn, stands: dict[PeerId, Standing]) -> None:
    assert turn.before is stands.get(turn.peer, Standing.ALIVE)
    assert turn.evidence
    assert turn.after is Standing.ALIVE or turn.after == turn.before + 1
    stands[turn.peer] = turn.after
