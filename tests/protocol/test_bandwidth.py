"""Who goes next in a limited direction: rates hold, urgent pieces go first, and nobody starves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.bandwidth import BURST_S, STARVED_S, Bucket, Priority

pieces = st.lists(
    st.tuples(st.sampled_from(Priority), st.integers(1, 5000), st.floats(0.0, 2.0)), max_size=30
)


def drained(bucket: Bucket, now: float) -> list[tuple[int, float]]:
    """Let everyone who waits go; return who went when."""
    found = []
    while (at := bucket.next_at(now)) is not None:
        now = max(now, at)
        went = bucket.granted(now)
        assert went, "nobody went when somebody could"
        found += [(number, now) for number in went]
    return found


def test_without_a_limit_nobody_waits() -> None:
    bucket = Bucket()
    assert all(bucket.ask(Priority.STATE, 10**9, 0.0) is None for _ in range(9))


def test_urgent_pieces_go_first_and_equals_in_turn() -> None:
    bucket = Bucket(1000.0)
    assert bucket.ask(Priority.STATE, 1000, 0.0) is None  # what a pause has saved up
    order = [Priority.STATE, Priority.PSEUDO_GRADIENT, Priority.STATE, Priority.GRADIENT]
    numbers = [bucket.ask(priority, 10, 0.0) for priority in (*order, Priority.SHADOW)]
    went = [number for number, _ in drained(bucket, 0.0)]
    assert went == [numbers[3], numbers[1], numbers[4], numbers[0], numbers[2]]


def test_control_never_waits_but_counts() -> None:
    bucket = Bucket(1000.0)
    assert bucket.ask(Priority.CONTROL, 10_000, 0.0) is None
    assert bucket.ask(Priority.CONTROL, 10_000, 0.0) is None
    bucket.ask(Priority.GRADIENT, 10, 0.0)
    [(_, at)] = drained(bucket, 0.0)
    assert at >= (20_000 - 1000 * BURST_S) / 1000


def test_who_has_waited_for_long_goes_before_urgent_ones() -> None:
    bucket = Bucket(1000.0)
    bucket.ask(Priority.GRADIENT, 20_000, 0.0)
    patient = bucket.ask(Priority.STATE, 10, 0.0)
    later = STARVED_S + 1.0
    urgent = bucket.ask(Priority.GRADIENT, 10, later)
    assert [number for number, _ in drained(bucket, later)] == [patient, urgent]


def test_a_new_rate_holds_at_once() -> None:
    bucket = Bucket(1.0)
    bucket.ask(Priority.STATE, 1000, 0.0)
    bucket.ask(Priority.STATE, 1000, 0.0)
    assert bucket.next_at(0.0) > 500
    bucket.set_rate(1000.0, 0.0)
    assert bucket.next_at(0.0) == pytest.approx(1.0, abs=0.3)
    bucket.set_rate(math.inf, 0.0)
    assert bucket.next_at(0.0) == 0.0 and len(bucket.granted(0.0)) == 1
    assert bucket.next_at(0.0) is None


def test_who_gives_up_is_passed_over() -> None:
    bucket = Bucket(1000.0)
    bucket.ask(Priority.STATE, 1000, 0.0)
    first, second = (bucket.ask(Priority.STATE, 10, 0.0) for _ in range(2))
    bucket.forget(first)
    assert [number for number, _ in drained(bucket, 0.0)] == [second]


@given(st.floats(1.0, 1e6), pieces)
def test_no_more_goes_than_the_rate_allows_and_everyone_goes(rate: float, asked) -> None:
    bucket, now = Bucket(rate), 0.0
    sent: list[tuple[float, int]] = []
    sizes: dict[int, int] = {}
    for priority, size, pause in asked:
        now += pause
        sent += [(now, sizes[number]) for number in bucket.granted(now)]
        number = bucket.ask(priority, size, now)
        if number is None:
            sent.append((now, size))
        else:
            sizes[number] = size
    sent += [(at, sizes[number]) for number, at in drained(bucket, now)]
    assert sum(size for _, size in sent) == sum(size for _, size, _ in asked)
    total, largest = 0, max((size for _, size, _ in asked), default=0)
    control = sum(size for priority, size, _ in asked if priority is Priority.CONTROL)
    for at, size in sent:
        total += size
        assert total <= rate * (at + BURST_S) * 1.001 + largest + control + 1
