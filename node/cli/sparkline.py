"""A curve in one line of text."""

import itertools
import math
from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=+*#@"


def sparkline(values: Sequence[float], width: int, ascii_only: bool = False) -> str:
    """Draw the values from lowest to highest, oldest first, in at most ``width`` characters.

    More values than that are averaged in equal stretches. Values that are not finite are left
    out; fewer than two leave nothing to draw.
    """
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2 or width < 1:
        return ""
    points = _averaged(finite, width)
    low, span = min(points), max(points) - min(points)
    marks = _ASCII if ascii_only else _BLOCKS
    if not math.isfinite(span) or span == 0:
        return marks[0] * len(points)
    top = len(marks) - 1
    return "".join(marks[round((point - low) / span * top)] for point in points)


def _averaged(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [index * len(values) // width for index in range(width + 1)]
    stretches = (values[first:end] for first, end in itertools.pairwise(edges))
    return [math.fsum(value / len(stretch) for value in stretch) for stretch in stretches]
