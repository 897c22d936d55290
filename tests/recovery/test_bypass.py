"""A made-up stage is passed over by fewer and fewer microbatches, and always visited by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.recovery.bypass import Bypass, routes_around

bypasses = st.builds(Bypass, st.floats(0.0, 0.999), st.integers(0, 50))


@given(bypasses, st.integers(0, 60), st.integers(1, 40))
def test_somebody_visits_and_ever_fewer_pass(bypass, age, microbatches):
    passing = bypass.passing(age, microbatches)
    assert passing <= set(range(microbatches))
    assert len(passing) < microbatches
    assert len(passing) >= len(bypass.passing(age + 1, microbatches))
    if age >= bypass.steps:
        assert not passing


def test_half_pass_at_first_in_other_places_each_step():
    bypass = Bypass(first=0.5, steps=10)
    assert bypass.passing(0, 8) == {0, 2, 4, 6}
    assert bypass.passing(5, 8) == {5, 1}
    assert bypass.passing(0, 8) != bypass.passing(1, 8)


@pytest.mark.parametrize(("first", "steps"), [(1.0, 5), (-0.1, 5), (0.5, -1)])
def test_a_stage_that_nobody_visits_would_never_train(first, steps):
    with pytest.raises(ValueError, match="bypass"):
        Bypass(first, steps)


def test_routes_leave_out_what_is_passed_over():
    orders = [(0, 1, 2), (1, 0, 2)]
    assert routes_around(orders, {1: {1}, 2: {0, 1}}) == [(0, 1), (0,)]
    assert routes_around(orders, {}) == orders
