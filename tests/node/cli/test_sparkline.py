"""A curve in one line: as wide as asked, from lowest to highest."""

import math

from hypothesis import given
from hypothesis import strategies as st

from skerry.node.cli.sparkline import sparkline


def test_lowest_and_highest_span_the_marks() -> None:
    assert sparkline([0.0, 3.5, 7.0], 10) == "▁▅█"
    assert sparkline([7.0, 0.0], 10, ascii_only=True) == "@_"
    assert sparkline([2.0, 2.0, 2.0], 10) == "▁▁▁"


def test_more_values_than_room_are_averaged() -> None:
    assert sparkline([0.0, 0.0, 8.0, 8.0, 4.0, 4.0], 3) == "▁█▅"


def test_values_that_together_are_no_number_are_averaged_all_the_same() -> None:
    assert sparkline([0.0, 0.0, 1e308, 1e308], 2) == "▁█"


def test_too_little_is_nothing() -> None:
    assert sparkline([1.0], 10) == ""
    assert sparkline([1.0, math.nan], 10) == ""
    assert sparkline([1.0, 2.0], 0) == ""


@given(st.lists(st.floats(), max_size=300), st.integers(1, 80))
def test_any_values_are_drawn_within_the_width(values, width) -> None:
    drawn = sparkline(values, width)
    assert len(drawn) <= width
    finite = sum(map(math.isfinite, values))
    assert len(drawn) == (min(finite, width) if finite > 1 else 0)
