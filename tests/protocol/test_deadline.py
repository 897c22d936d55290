"""Deadlines follow what was measured, within their bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.deadline import AdaptiveDeadline

times = st.lists(st.floats(0, 1000), min_size=1, max_size=20)


def deadline() -> AdaptiveDeadline:
    return AdaptiveDeadline(minimum=5.0, maximum=60.0, factor=2.0)


def test_before_anything_is_measured_it_is_the_longest():
    assert deadline().seconds == 60.0


def test_it_is_a_multiple_of_the_moving_average():
    d = deadline()
    d.observe(10.0)
    assert d.seconds == 20.0
    d.observe(20.0)
    assert d.seconds == pytest.approx(26.0)


@given(times)
def test_it_stays_within_its_bounds(seconds):
    d = deadline()
    for value in seconds:
        d.observe(value)
        assert 5.0 <= d.seconds <= 60.0


@given(times, st.floats(3, 29))
def test_it_forgets_what_was(seconds, now):
    d = deadline()
    for value in [*seconds, *[now] * 60]:
        d.observe(value)
    assert d.seconds == pytest.approx(2.0 * now, rel=1e-3)
