"""Whether a figure of a process grows: a line through its readings after the warm-up."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

HOUR_S = 3600.0
FLAT_SHARE_PER_HOUR = 0.02
"""Growth that counts as flat: at this pace it takes two days to double."""
FLAT_BYTES_PER_HOUR = 1 << 20
"""Allocators take and return pages; less than this says nothing."""
SPARE = 1
"""A pool of threads, such as the Go runtime's in p2pd, may take one more when all of it waits."""


@dataclass(frozen=True, slots=True)
class Trend:
    """How one figure of one process went after the warm-up."""

    first: float
    """Median of the first tenth of the readings."""
    last: float
    """Median of the last tenth."""
    lowest: float
    highest: float
    per_hour: float
    """Slope of the least-squares line."""

    @property
    def is_flat(self) -> bool:
        """Whether growth is within what counts as none; to shrink is no leak."""
        allowed = max(FLAT_BYTES_PER_HOUR, FLAT_SHARE_PER_HOUR * self.first)
        return self.per_hour <= allowed

    @property
    def is_steady(self) -> bool:
        """Whether a count, such as of threads, ends about where it began."""
        return self.last <= self.first + SPARE


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the least-squares slope of ys over xs; 0 where there is no line to draw."""
    if len(xs) < 2:
        return 0.0
    mean_x, mean_y = fmean(xs), fmean(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    shared = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return shared / spread if spread else 0.0


def trend(at_s: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a line through readings in order of time. Raises: ValueError if there is none."""
    if not values:
        raise ValueError("no readings after the warm-up")
    tenth = max(1, len(values) // 10)
    return Trend(
        first=median(values[:tenth]),
        last=median(values[-tenth:]),
        lowest=min(values),
        highest=max(values),
        per_hour=HOUR_S * slope(at_s, values),
    )
