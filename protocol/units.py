"""Durations, sizes and rates with units, as people write them: "70s", "50GB", "100mbit"."""

import re
from typing import Annotated

from pydantic import BeforeValidator

_TEXT = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z/]*)\s*")
DURATION_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
RATE_UNITS = {"bit": 0.125, "kbit": 125.0, "mbit": 125e3, "gbit": 125e6, "B/s": 1.0}


def parse_quantity(value: object, units: dict[str, float] | dict[str, int]) -> float:
    """Return ``value`` in base units; plain numbers pass unchanged.

    Raises: ValueError naming the known units.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _TEXT.fullmatch(value) if isinstance(value, str) else None
    known = {name.lower(): factor for name, factor in units.items()}
    if match is None or match[2].lower() not in known:
        raise ValueError(f"{value!r} needs a number and a unit of {', '.join(units)}")
    return float(match[1]) * known[match[2].lower()]


Seconds = Annotated[float, BeforeValidator(lambda value: parse_quantity(value, DURATION_UNITS))]
"""A duration in seconds; written "500ms", "70s", "10m", "2h"."""

Bytes = Annotated[int, BeforeValidator(lambda value: int(parse_quantity(value, SIZE_UNITS)))]
"""A size in bytes; written "50GB" or "64MiB"."""

BytesPerSecond = Annotated[float, BeforeValidator(lambda value: parse_quantity(value, RATE_UNITS))]
"""A rate in bytes per second; written "100mbit"."""
