"""Minimax cuts: contiguous items over ordered bins, so that the slowest bin is as fast as possible.

Used twice: blocks over stages (bins alike), and stages over the members of a ring (each with its
own speed and memory). O(bins * items^2), exact.
"""

from collections.abc import Callable
from functools import cache
from math import inf

Cost = Callable[[int, int, int], float]
"""Seconds of bin k for items i to before j; infinite if they do not fit."""


def minimax_cuts(items: int, bins: int, cost: Cost, empty_first: bool = False) -> tuple[int, ...]:
    """Return where each bin ends; every bin gets an item, but the first maybe none.

    Of equally good cuts the one whose earlier bins are smallest. Empty if nothing is feasible.
    """

    @cache
    def best(bin_: int, end: int) -> tuple[float, int]:
        """Return the slowest of bins 0 .. bin_ over items 0 .. end, and where bin_ begins."""
        if bin_ == 0:
            enough = end > 0 or empty_first
            return (cost(0, 0, end) if enough else inf), 0
        first = bin_ - (1 if empty_first else 0)
        found = (inf, first)
        for begin in range(first, end):
            slowest = max(best(bin_ - 1, begin)[0], cost(bin_, begin, end))
            if slowest < found[0]:
                found = (slowest, begin)
        return found

    for known in range(bins):  # bottom up, so that recursion stays shallow
        for end in range(items + 1):
            best(known, end)
    if best(bins - 1, items)[0] == inf:
        return ()
    ends, end = [items], items
    for bin_ in range(bins - 1, 0, -1):
        end = best(bin_, end)[1]
        ends.append(end)
    return tuple(reversed(ends))
