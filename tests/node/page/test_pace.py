"""Goodput and the time that is left."""

import math

import pytest
from test_history import row

from skerry.node.page.pace import WINDOW_ROUNDS, Average, eta_s, goodput_of, pace_of


def rows(*spans: tuple[int, float, float]):
    """Finished rounds: number, start, duration; 100 text tokens each."""
    return {n: row(n, started_at=s, duration_s=d, text_tokens=100) for n, s, d in spans}


def test_pace_counts_the_waits_between_rounds() -> None:
    pace = pace_of(rows((1, 0.0, 10.0), (2, 30.0, 10.0)))
    assert (pace.rounds, pace.seconds, pace.text_tokens, pace.round_s) == (2, 40.0, 200, 20.0)


def test_pace_is_that_of_the_newest_rounds() -> None:
    many = rows(*((n, 100.0 * n, 100.0) for n in range(1, 30)))
    assert pace_of(many).rounds == WINDOW_ROUNDS


@pytest.mark.parametrize(
    "known",
    [
        {},
        rows((1, 0.0, 10.0)),
        rows((1, 0.0, 10.0), (3, 0.0, 10.0)),
        rows((0, 0.0, 10.0), (1, 0.0, 10.0)),
    ],
)
def test_too_few_rounds_have_no_pace(known) -> None:
    assert pace_of(known) is None
    assert goodput_of(pace_of(known), 10.0) is None
    assert eta_s(pace_of(known), 5, 0.0) is None


def test_rounds_still_going_on_are_not_measured() -> None:
    known = rows((1, 0.0, 10.0), (2, 10.0, 10.0)) | {3: row(3, started_at=20.0)}
    assert pace_of(known).rounds == 2


def test_rounds_known_from_the_chain_alone_end_the_window() -> None:
    known = {1: row(1), **rows((2, 0.0, 10.0), (3, 10.0, 10.0))}
    assert pace_of(known).rounds == 2


def test_goodput_is_the_share_of_the_undisturbed_rate() -> None:
    pace = pace_of(rows((1, 0.0, 10.0), (2, 10.0, 10.0)))
    assert goodput_of(pace, 20.0).ratio == pytest.approx(0.5)
    assert goodput_of(pace, 0.0).ratio is None
    assert goodput_of(pace, 5.0).ratio == 1, "both are measured"


def test_average_follows_a_jump_in_its_own_time_however_often_it_is_asked() -> None:
    seldom, often = Average(), Average()
    assert seldom.sample(0.0, 10.0, 5.0) == often.sample(0.0, 10.0, 5.0) == 10.0
    for tenth in range(1, 51):
        latest = often.sample(tenth / 10, 20.0, 5.0)
    assert latest == pytest.approx(20 - 10 / math.e)
    assert seldom.sample(5.0, 20.0, 5.0) == pytest.approx(latest)
    assert often.sample(5.0, 1000.0, 5.0) == pytest.approx(latest), "no time has passed"


def test_average_begins_with_the_first_rate_there_is() -> None:
    average = Average()
    assert average.sample(0.0, 0.0, 60.0) == 0
    assert average.sample(1.0, 7.0, 60.0) == 7


def test_time_left_shrinks_within_a_round_but_not_below_the_rounds_to_come() -> None:
    pace = pace_of(rows((1, 0.0, 10.0), (2, 10.0, 10.0)))
    assert eta_s(pace, 3, 0.0) == 30.0
    assert eta_s(pace, 3, 4.0) == 26.0
    assert eta_s(pace, 3, 1000.0) == 20.0
    assert eta_s(pace, 0, 0.0) is None
