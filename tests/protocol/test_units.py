"""Quantities as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from skerry.protocol.units import (
    DURATION_UNITS,
    RATE_UNITS,
    SIZE_UNITS,
    Bytes,
    BytesPerSecond,
    Seconds,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Seconds, "500ms", 0.5),
        (Seconds, "70s", 70.0),
        (Seconds, " 10 m ", 600.0),
        (Seconds, "1.5h", 5400.0),
        (Seconds, "2d", 172800.0),
        (Bytes, "50GB", 50 * 10**9),
        (Bytes, "64MiB", 64 * 2**20),
        (Bytes, "64mib", 64 * 2**20),
        (Bytes, ".5kB", 500),
        (BytesPerSecond, "100mbit", 12.5e6),
        (BytesPerSecond, "7 B/s", 7.0),
        (Seconds, 3, 3.0),
    ],
)
def test_quantities_have_units(kind, text, value):
    assert TypeAdapter(kind).validate_python(text) == value


@pytest.mark.parametrize(
    "text", ["", "10", "s", "10 parsecs", "1e3s", "-1s", "1,5s", None, True, []]
)
def test_anything_else_names_the_known_units(text):
    with pytest.raises(ValueError, match="needs a number and a unit of ms, s, m, h, d"):
        parse_quantity(text, DURATION_UNITS)
    with pytest.raises(ValidationError):
        TypeAdapter(Seconds).validate_python(text)


@given(st.integers(0, 10**9), st.sampled_from([DURATION_UNITS, SIZE_UNITS, RATE_UNITS]), st.data())
def test_number_and_unit_multiply(number, units, data):
    name = data.draw(st.sampled_from([unit for unit in units if unit.isalpha()]))
    assert parse_quantity(f"{number}{name}", units) == number * units[name]
