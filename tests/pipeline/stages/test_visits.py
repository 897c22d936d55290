"""Slots and attempts: what may begin, what it replaces, what is kept."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline.stages.tasks import Place
from skerry.pipeline.stages.visits import Visit, Visits
from skerry.protocol.errors import ProtocolError

PLACES = st.builds(Place, st.integers(0, 3), st.integers(0, 2), st.integers(0, 2))


def visit(place: Place, size: int = 5) -> Visit:
    return Visit(place, ("block.0",), 1, b"ab", bytes(size), begins=False)


def admit(visits: Visits, place: Place) -> str:
    """Add a visit; returns why not, or nothing."""
    try:
        visits.check(place)
    except ProtocolError as error:
        return error.reason
    visits.add(visit(place))
    return ""


@given(st.integers(1, 4), st.lists(PLACES, max_size=30))
@settings(deadline=None)
def test_slots_bound_what_is_kept_and_attempts_never_go_back(slots, places):
    visits, newest = Visits(slots), {}
    for place in places:
        reason = admit(visits, place)
        latest = newest.get(place.microbatch, 0)
        assert (reason == "stale") == (place.attempt < latest)
        if not reason:
            newest[place.microbatch] = place.attempt
        assert len(visits) <= slots
        assert visits.kept_bytes == 7 * len(visits)


def test_a_refused_check_changes_nothing():
    visits = Visits(1)
    assert admit(visits, Place(0, 0, 1)) == ""
    assert admit(visits, Place(1, 0, 1)) == "slots"
    assert admit(visits, Place(0, 0, 1)) == "duplicate"
    assert visits.get(Place(0, 0, 1)).kept_bytes == 7


def test_a_microbatch_may_be_here_at_two_hops():
    visits = Visits(2)
    assert admit(visits, Place(0, 0, 1)) == admit(visits, Place(0, 0, 3)) == ""
    assert admit(visits, Place(0, 1, 2)) == ""
    assert len(visits) == 1, "both visits of the earlier attempt are over"
    with pytest.raises(ProtocolError, match="attempt 1"):
        visits.get(Place(0, 0, 3))


def test_a_dropped_visit_does_not_come_again():
    visits = Visits(2)
    admit(visits, Place(0, 0, 1))
    admit(visits, Place(0, 0, 3))
    visits.drop(Place(0, 0, 1))
    assert len(visits) == 1, "the other hop goes on"
    visits.drop(Place(0, 0, 1))
    assert admit(visits, Place(0, 0, 1)) == "duplicate"
    visits.drop(Place(1, 0, 1))
    assert admit(visits, Place(1, 0, 1)) == "duplicate", "though it never was here"
    assert admit(visits, Place(0, 1, 1)) == ""
    with pytest.raises(ProtocolError):
        visits.drop(Place(-1, 0, 0))


def test_another_step_begins_with_nothing():
    visits = Visits(1)
    admit(visits, Place(0, 5, 1))
    visits.clear()
    assert (len(visits), visits.kept_bytes) == (0, 0)
    assert admit(visits, Place(0, 0, 1)) == ""
