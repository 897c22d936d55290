"""Numbers as people read them, and names that cannot take over a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.node.cli.wording import (
    clock,
    count,
    duration,
    loss,
    name_of,
    names_of,
    percent,
    printable,
    size,
)


@given(st.text())
def test_text_of_others_is_one_printable_line(text) -> None:
    safe = printable(text)
    assert safe.isprintable() or not safe
    assert len(safe) == len(text)


def test_escape_sequences_are_defused() -> None:
    assert printable("\x1b[2Jgone\nnext") == " [2Jgone next"


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_550_000, "1.6 MB"), (3e12, "3.0 TB")],
)
def test_size(num_bytes, text) -> None:
    assert size(num_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "0 s"), (59.9, "59 s"), (60, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_duration(seconds, text) -> None:
    assert duration(seconds) == text


def test_peer_ids_are_short_and_words_are_not() -> None:
    assert name_of("12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5") == "MtimQ5"
    assert name_of("the first peer") == "the first peer"


def test_loss_that_was_not_measured_is_a_dash() -> None:
    assert (loss(0.0), loss(3.14159)) == ("-", "3.142")
    assert count(1234567.0) == "1,234,567"


def test_long_lists_of_names_are_cut() -> None:
    assert names_of([]) == ""
    assert names_of(["a", "b", "c"]) == "a, b, c"
    assert names_of(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_share_that_is_no_number_is_a_dash() -> None:
    assert (percent(0.256), percent(float("nan"))) == ("26 %", "-")


@given(st.floats() | st.integers())
def test_any_time_is_a_time_of_day_or_dashes(seconds) -> None:
    assert len(clock(seconds)) == len("09:05:07")
    assert clock(seconds)[2] == ":"
