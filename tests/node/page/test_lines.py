"""Lines of the log as the page reads them, whatever stands in the file."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.node.page.lines import Applied, log_entry, of_run, read_line


def line(event: str, **details: object) -> str:
    return json.dumps({"time": 5.0, "event": event, **details})


def test_line_of_the_history_is_read() -> None:
    found = read_line(line("applied", round=3, digest="d", contributions=2))
    assert found == Applied(time=5.0, event="applied", round=3, digest="d")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        line("unheard-of"),
        line("applied", round="x", digest="d"),
        line("applied"),
        '{"event": "left", "time": -1}',
        '{"event": "left", "time": NaN}',
        "[" * 100_000,
    ],
)
def test_any_other_line_is_passed_over(text) -> None:
    assert read_line(text) is None
    entry = log_entry(7, text)
    assert (entry.id, entry.time >= 0, len(entry.text) <= 500) == (7, True, True)


def test_log_shows_details_in_words() -> None:
    entry = log_entry(1, line("refused", peer="p", count=3, names=["a"]))
    assert (entry.time, entry.event, entry.text) == (5.0, "refused", 'peer=p count=3 names=["a"]')


def test_control_characters_of_others_are_not_passed_on() -> None:
    assert log_entry(1, line("refused", reason="a\u001b[31m\u202eb")).text == "reason=a [31m b"


@given(st.text())
def test_no_text_breaks_the_log(text) -> None:
    entry = log_entry(1, text)
    assert type(entry).model_validate_json(entry.model_dump_json()) == entry
    read_line(text)


RUN, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("events", "ours"),
    [
        (["started", RUN, "x", "left", "stopped"], "11110"),
        (["started", OTHER, "x", "left", RUN, "x"], "000011"),
        (["started", RUN, "left", "stopped", "started", RUN], "111111"),
        (["started", RUN, "x", "started", RUN], "11111"),
        (["started", RUN, "left", "started", OTHER, "x"], "111000"),
        (["x", "x"], "00"),
        ([], ""),
    ],
)
def test_lines_belong_to_the_run_that_was_entered_after_them(events, ours) -> None:
    lines = [
        line("entered", run=event) if len(event) == 64 else line(event.replace("x", "note"))
        for event in events
    ]
    assert of_run(lines, RUN) == [mark == "1" for mark in ours]
