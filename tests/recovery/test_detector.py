"""The failure detector: down if and only if silent beyond the patience."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.ids import PeerId
from skerry.recovery.detector import Change, Detector, DetectorConfig

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
CONFIG = DetectorConfig(factor=4.0, min_s=2.0, max_s=30.0, expected_gap_s=1.0)

gaps = st.lists(st.floats(0.0, 60.0), min_size=1, max_size=30)
steps = st.lists(
    st.tuples(
        st.sampled_from(["heard", "unreachable", "forget", "look"]),
        st.sampled_from([A, B, C]),
        st.floats(0.0, 20.0),
    ),
    max_size=60,
)


def beating(gap_s: float, count: int) -> tuple[Detector, float]:
    """Return a detector that heard A ``count`` times, and the time of the last."""
    detector = Detector(CONFIG)
    for beat in range(count):
        detector.heard(A, beat * gap_s)
    return detector, (count - 1) * gap_s


def test_unknown_peer_is_not_alive() -> None:
    detector = Detector(CONFIG)
    detector.unreachable(A, 1.0)
    detector.forget(A)
    assert not detector.alive(A, 1.0)
    assert detector.patience_s(A) is None
    assert detector.changes(1.0) == []
    assert detector.next_check(1.0) is None


def test_up_then_down_then_up_is_told_once_each() -> None:
    detector = Detector(CONFIG)
    detector.heard(A, 10.0)
    assert detector.changes(10.5) == [Change(A, True, 0.5)]
    assert detector.changes(13.9) == []
    assert detector.changes(14.0) == [Change(A, False, 4.0)]
    assert detector.changes(99.0) == []
    detector.heard(A, 100.0)
    assert detector.changes(100.0) == [Change(A, True, 0.0)]


@pytest.mark.parametrize(
    ("gap_s", "patience_s"), [(0.01, 2.0), (1.0, 4.0), (3.0, 12.0), (7.0, 28.0)]
)
def test_patience_follows_the_rhythm(gap_s: float, patience_s: float) -> None:
    detector, last = beating(gap_s, 100)
    assert detector.patience_s(A) == pytest.approx(patience_s, rel=0.01)
    assert detector.alive(A, last + 0.99 * patience_s)
    assert not detector.alive(A, last + 1.01 * patience_s)


def test_patience_grows_when_a_peer_slows_down() -> None:
    detector, last = beating(1.0, 20)
    for _ in range(40):
        last += 3.0
        assert detector.alive(A, last)
        detector.heard(A, last)
    assert detector.patience_s(A) == pytest.approx(12.0, rel=0.01)


def test_an_outage_does_not_make_patient_for_long() -> None:
    detector, last = beating(1.0, 50)
    detector.heard(A, last + 3600.0)
    assert detector.patience_s(A) == pytest.approx(4.0 * (1.0 + 0.2 * (7.5 - 1.0)))
    for beat in range(20):
        detector.heard(A, last + 3601.0 + beat)
    assert detector.patience_s(A) == pytest.approx(4.0, rel=0.05)


def test_a_peer_slower_than_expected_stops_flapping() -> None:
    detector = Detector(CONFIG)
    downs = []
    for beat in range(60):
        downs += [beat for change in detector.changes(beat * 6.0) if not change.up]
        detector.heard(A, beat * 6.0)
        detector.changes(beat * 6.0)
    assert downs
    assert max(downs) <= 3


def test_failed_requests_shorten_the_patience_until_heard() -> None:
    detector, last = beating(5.0, 100)
    assert detector.patience_s(A) == pytest.approx(20.0)
    detector.unreachable(A, last + 1.0)
    assert detector.patience_s(A) == pytest.approx(10.0)
    detector.unreachable(A, last - 1.0)  # older than the last sign of life
    assert detector.patience_s(A) == pytest.approx(10.0)
    for _ in range(2000):
        detector.unreachable(A, last + 1.0)
    assert detector.patience_s(A) == CONFIG.min_s
    detector.heard(A, last + 1.5)
    assert detector.patience_s(A) is not None
    assert detector.patience_s(A) > 15.0


def test_late_sign_of_life_changes_nothing() -> None:
    detector, last = beating(1.0, 10)
    before = detector.patience_s(A)
    detector.heard(A, last - 5.0)
    assert detector.patience_s(A) == before
    assert detector.next_check(last) == last  # A was never reported up
    assert detector.changes(last + 3.9) == [Change(A, True, pytest.approx(3.9))]


def test_forgotten_peer_is_not_reported() -> None:
    detector = Detector(CONFIG)
    detector.heard(A, 0.0)
    detector.heard(B, 0.0)
    assert [change.peer for change in detector.changes(0.0)] == [A, B]
    detector.forget(A)
    assert detector.changes(100.0) == [Change(B, False, 100.0)]
    detector.heard(A, 101.0)
    assert detector.changes(101.0) == [Change(A, True, 0.0)]


def test_next_check_is_the_earliest_deadline() -> None:
    detector = Detector(CONFIG)
    detector.heard(B, 1.0)
    detector.heard(A, 0.0)
    assert detector.next_check(1.5) == 1.5
    detector.changes(1.5)
    assert detector.next_check(1.5) == 4.0
    detector.changes(4.0)
    assert detector.next_check(4.0) == 5.0
    detector.changes(5.0)
    assert detector.next_check(5.0) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_s": 0.0},
        {"min_s": 31.0},
        {"factor": 0.0},
        {"expected_gap_s": -1.0},
        {"smoothing": 0.0},
        {"smoothing": 1.5},
        {"shortening": 0.0},
    ],
)
def test_senseless_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        replace(CONFIG, **wrong)


@given(gaps)
def test_patience_stays_within_its_limits(silences: list[float]) -> None:
    detector = Detector(CONFIG)
    for now in itertools.accumulate(silences):
        detector.heard(A, now)
        patience = detector.patience_s(A)
        assert patience is not None
        assert CONFIG.min_s <= patience <= CONFIG.max_s


@given(gaps)
def test_never_down_while_silences_stay_below_the_minimum(silences: list[float]) -> None:
    detector, now = Detector(CONFIG), 0.0
    detector.heard(A, now)
    detector.changes(now)
    for silence in silences:
        now += silence * CONFIG.min_s / 61
        assert detector.changes(now) == []
        detector.heard(A, now)


@given(gaps, st.floats(0.0, 100.0))
def test_down_exactly_when_silent_for_the_patience(silences: list[float], later: float) -> None:
    detector, now = Detector(CONFIG), 0.0
    for silence in silences:
        now += silence
        detector.heard(A, now)
    patience = detector.patience_s(A)
    assert patience is not None
    assert detector.alive(A, now + later) == (now + later < now + patience)


@given(steps)
def test_reports_alternate_and_agree_with_alive(moves: list[tuple[str, PeerId, float]]) -> None:
    detector, now = Detector(CONFIG), 0.0
    told: dict[PeerId, bool] = {}
    for what, peer, wait in moves:
        now += wait
        if what == "heard":
            detector.heard(peer, now)
        elif what == "unreachable":
            detector.unreachable(peer, now)
        elif what == "forget":
            detector.forget(peer)
            told.pop(peer, None)
        for change in detector.changes(now) if what == "look" else []:
            assert told.get(change.peer, False) != change.up
            assert detector.alive(change.peer, now) == change.up
            told[change.peer] = change.up
        if what == "look":
            assert all(detector.alive(p, now) == up for p, up in told.items())


@given(steps)
def test_next_check_is_never_late_and_never_idle(moves: list[tuple[str, PeerId, float]]) -> None:
    detector, now = Detector(CONFIG), 0.0
    for what, peer, wait in moves:
        now += wait
        if what == "heard":
            detector.heard(peer, now)
        elif what == "unreachable":
            detector.unreachable(peer, now)
        elif what == "forget":
            detector.forget(peer)
        detector.changes(now)
        due = detector.next_check(now)
        if due is None:
            assert not any(detector.alive(p, now) for p in (A, B, C))
            continue
        assert due > now
        assert [p for p in (A, B, C) if detector.alive(p, now)] == [
            p for p in (A, B, C) if detector.alive(p, (now + due) / 2)
        ]
        assert any(detector.alive(p, now) and not detector.alive(p, due) for p in (A, B, C))


def test_nobody_is_judged_while_this_node_is_cut_off() -> None:
    detector = Detector(CONFIG)
    detector.heard(A, 10.0)
    detector.changes(10.0)
    detector.suspend()
    detector.unreachable(A, 11.0)
    assert detector.changes(1000.0) == []
    assert detector.next_check(1000.0) is None


def test_those_that_were_up_get_their_full_patience_afterwards() -> None:
    detector = Detector(CONFIG)
    for peer in (A, B):
        detector.heard(peer, 10.0)
        detector.changes(10.0)
    detector.heard(B, 13.0)
    assert [change.peer for change in detector.changes(14.5)] == [A]
    detector.suspend()
    detector.resume(100.0)
    assert detector.changes(100.0) == []  # A stays down until it is heard
    assert detector.next_check(100.0) == 100.0 + detector.patience_s(B)
