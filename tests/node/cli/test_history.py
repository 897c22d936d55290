"""What the log has told: only of this run, failures with their end, rounds in a line each."""

import pytest
from moments import OTHER, RUN_ID, SELF, START, line, round_lines, rounds

from skerry.node.cli import history as history_module
from skerry.node.cli.history import History


def told(lines: list[str]) -> History:
    history = History(RUN_ID)
    history.take(lines)
    return history


def texts(happenings) -> list[str]:
    return [happening.text for happening in happenings]


def test_a_failure_is_one_entry_that_says_when_it_was_mended() -> None:
    down = line("peer-down", START, peer=OTHER)
    history = told([down])
    assert texts(history.troubles()) == ["2NASuq fell silent"]
    assert history.troubles()[0].severity == "error"
    history.take([line("peer-up", START + 95, peer=OTHER)])
    assert texts(history.troubles()) == ["2NASuq fell silent; mended after 1 min 35 s"]
    assert history.troubles()[0].severity == "recovered"


def test_rounds_comings_and_goings_are_events_in_order() -> None:
    history = told(
        [*rounds(1), line("peer-left", START + 5, peer=OTHER), *round_lines(2, START + 10)]
    )
    assert texts(history.events()) == [
        "2NASuq left",
        "round 1: 2 contributions, val loss 4.500, 1,000 text tokens",
        "round 2: 2 contributions, val loss 2.750, 1,000 text tokens",
    ]
    assert history.troubles() == []


def test_who_was_left_out_of_a_round_is_named() -> None:
    commit = round_lines(1, START)[1].replace('"late": []', f'"late": ["{OTHER}"]')
    assert texts(told([commit]).events()) == [
        "round 1: 2 contributions, without 2NASuq, 1,000 text tokens"
    ]


def test_other_runs_are_passed_over() -> None:
    other = [line("entered", run="ef" * 32, name="other"), *rounds(3)]
    mine = [line("entered", run=RUN_ID, name="first"), *round_lines(1, START + 100)]
    assert told([*rounds(2), *other]).figures().losses == ()
    assert told([*other, *mine]).figures().losses == (3.0,)
    assert told([*mine, *other, *mine]).figures().losses == (3.0,)


@pytest.mark.parametrize("bad", ['{"time": 1, "ev', "", "[]", '{"time": "x", "event": "began"}'])
def test_lines_that_say_nothing_are_passed_over(bad) -> None:
    assert len(told([bad, *rounds(2), bad]).figures().losses) == 2


def test_memory_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(history_module, "_KEPT", 5)
    gone = [line("peer-left", START + i, peer=SELF) for i in range(20)]
    history = told([*rounds(9), *gone])
    assert len(history.events()) == 10
    assert history.events()[-1].time == START + 89


def test_line_begins_with_the_time_of_day() -> None:
    (event,) = told([line("peer-left", START, peer=OTHER)]).events()
    assert event.line[2] == event.line[5] == ":"
    assert event.line.endswith("  2NASuq left")
