"""Lines of the event log as numbers: which of them make a point, and what it holds."""

import pytest

from skerry.node.sinks.scalars import Point, Scalars


@pytest.fixture
def scalars() -> Scalars:
    return Scalars()


def began(number: int, sent: dict[str, int], received: dict[str, int]) -> dict[str, object]:
    return {"time": 1.0, "event": "began", "round": number, "sent": sent, "received": received}


def committed(number: int, tokens: int, time: float) -> dict[str, object]:
    return {"time": time, "event": "committed", "round": number, "text_tokens": tokens}


def test_losses_by_round(scalars) -> None:
    trained = {"time": 5.0, "event": "trained", "round": 3, "steps": 30, "loss": 2.5}
    assert scalars.take(trained) == Point(3, 5.0, {"loss/train": 2.5})
    validated = {"time": 6.0, "event": "validated", "round": 3, "loss": 2.25}
    assert scalars.take(validated) == Point(3, 6.0, {"loss/validation": 2.25})


def test_pace_between_two_commits_and_none_across_a_gap(scalars) -> None:
    assert scalars.take(committed(1, 600, 10.0)) is None
    point = scalars.take(committed(2, 600, 40.0))
    assert point == Point(2, 40.0, {"text_tokens/round": 600, "text_tokens/second": 20.0})
    assert scalars.take(committed(4, 600, 50.0)) is None
    assert scalars.take(committed(5, 600, 50.0)) is None  # several of one moment: a download


def test_bytes_of_a_round_are_what_the_counters_grew_by(scalars) -> None:
    assert scalars.take(began(1, {"control": 5}, {})) is None
    point = scalars.take(began(2, {"control": 7, "payload": 100}, {"payload": 300}))
    assert point == Point(
        1, 1.0, {"bytes_sent/control": 2, "bytes_sent/payload": 100, "bytes_received/payload": 300}
    )


def test_last_round_s_bytes_come_with_the_end_of_the_run(scalars) -> None:
    scalars.take(began(3, {"payload": 5}, {}))
    ended = {"time": 2.0, "event": "ended", "sent": {"payload": 9}, "received": {}}
    assert scalars.take(ended) == Point(3, 2.0, {"bytes_sent/payload": 4})


@pytest.mark.parametrize(
    "line",
    [
        {"event": "trained"},
        {"event": "trained", "round": "x", "loss": 1.0},
        {"event": "note", "text": "loss"},
        {},
        [],
        None,
    ],
)
def test_other_lines_make_none(scalars, line) -> None:
    assert scalars.take(line) is None
