"""The event log as text, from a daemon or from its file."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.node.cli.events import Wanted, event_lines, event_text, known_names
from skerry.protocol.errors import DaemonError


def test_line_reads_as_clock_event_and_details() -> None:
    noon = time.mktime((2026, 5, 4, 12, 3, 9, 0, 0, -1))
    line = json.dumps({"time": noon, "event": "commit", "round": 3, "peers": ["a", "b"]})
    assert event_text(line) == "12:03:09 commit round=3 peers=[a b]"
    assert event_text(json.dumps({"time": noon, "event": "start"})) == "12:03:09 start"


@pytest.mark.parametrize(
    "line", ['{"time": 1, "ev', "[]", "3", "{}", '{"time": "x", "event": 1}', '{"time": 1e99}']
)
def test_line_that_is_no_event_is_shown_as_it_is(line) -> None:
    assert event_text(line) == line


@given(st.text() | st.dictionaries(st.sampled_from(["time", "event", "x"]), st.text()).map(str))
def test_no_line_breaks_the_terminal(line) -> None:
    assert event_text(line).isprintable()


def test_details_cannot_break_the_line() -> None:
    line = json.dumps({"time": 0, "event": "refused", "reason": "\x1b[2J\nfake"})
    assert event_text(line).endswith("refused reason= [2J fake")


def test_without_a_daemon_the_file_is_read(home) -> None:
    home.create()
    home.events_file.write_text("1\n2\n3\n")
    assert list(event_lines(home, Wanted(2), follow=False)) == ["2", "3"]


def test_file_that_was_turned_over_is_read_too(home) -> None:
    home.create()
    home.events_file.with_suffix(".old.jsonl").write_text("1\n2\n")
    home.events_file.write_text("3\n")
    assert list(event_lines(home, Wanted(2), follow=False)) == ["2", "3"]


def test_with_a_daemon_it_is_asked(home, control) -> None:
    home.events_file.write_text("from the file\n")
    control.lines = ["from the daemon"]
    assert list(event_lines(home, Wanted(5), follow=False)) == ["from the daemon"]


@pytest.mark.parametrize("follow", [False, True])
def test_neither_daemon_nor_file_is_an_error(home, follow) -> None:
    with pytest.raises(DaemonError, match="SK-DMN-001"):
        list(event_lines(home, Wanted(5), follow))


def test_nobody_to_follow_is_an_error_even_with_a_file(home) -> None:
    home.create()
    home.events_file.write_text("1\n")
    with pytest.raises(DaemonError, match="SK-DMN-001"):
        list(event_lines(home, Wanted(5), follow=True))


def test_details_are_short(home) -> None:
    peer = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"
    details = {"commit": "ab" * 32, "loss": 2.123456789, "leader": None, "sent": {"payload": 7}}
    text = event_text(json.dumps({"time": 0, "event": "x", "peers": [peer], **details}))
    expected = "peers=[2NASuq] commit=abababab loss=2.12346 leader=null sent={payload=7}"
    assert text.endswith(f" x {expected}")


LOG = [
    json.dumps({"time": time, "event": event})
    for time, event in ((10, "began"), (20, "peer-down"), (30, "began"), (40, "ended"))
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), [10, 20, 30, 40]),
        (Wanted(last=2), [30, 40]),
        (Wanted(names=frozenset({"began", "ended"})), [10, 30, 40]),
        (Wanted(names=frozenset({"began"}), last=1), [30]),
        (Wanted(since=20.0), [20, 30, 40]),
        (Wanted(since=20.0, names=frozenset({"began"})), [30]),
    ],
)
@pytest.mark.parametrize("running", [False, True])
def test_only_wanted_lines_are_given(home, request, running, wanted, found) -> None:
    if running:
        request.getfixturevalue("control").lines = LOG
    else:
        home.create()
        home.events_file.write_text("\n".join(LOG) + "\n")
    lines = list(event_lines(home, wanted, follow=False))
    assert [json.loads(line)["time"] for line in lines] == found


def test_lines_to_come_are_chosen_from_too(home, control) -> None:
    control.lines = LOG
    lines = event_lines(home, Wanted(names=frozenset({"ended"})), follow=True)
    assert [json.loads(line)["time"] for line in lines] == [40]


def test_names_to_complete_are_those_in_the_log(home) -> None:
    assert known_names(home) == []
    home.create()
    home.events_file.write_text("\n".join([*LOG, "cut off {"]))
    assert known_names(home) == ["began", "ended", "peer-down"]
