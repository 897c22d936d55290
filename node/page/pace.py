"""How fast a run goes: goodput, and the time until its last round; pure but for ``Average``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from skerry.node.page.models import Goodput
from skerry.node.page.round import Round

WINDOW_ROUNDS = 10
"""Newest rounds that are measured: recent enough to show a change, enough to be steady."""
_MIN_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """What the newest finished rounds took."""

    rounds: int
    text_tokens: int
    seconds: float
    """From the first one's start to the last one's end, so waits in between count."""

    @property
    def round_s(self) -> float:
        """Seconds for one round."""
        return self.seconds / self.rounds


class Average:
    """A value that jumps, averaged over time; asked for seldom or often, it comes to the same."""

    def __init__(self) -> None:
        """Begin without a value."""
        self._at: float | None = None
        self._value = 0.0

    def sample(self, now: float, value: float, over_s: float) -> float:
        """Take in the value of this moment (monotonic seconds); return the average.

        What is ``over_s`` ago weighs 1/e of what is now; the first value stands for all before.
        """
        if self._at is None or over_s <= 0 or self._value == 0:
            self._value = value
        else:
            weight = 1 - math.exp(-max(0.0, now - self._at) / over_s)
            self._value += weight * (value - self._value)
        self._at = now
        return self._value


def pace_of(rows: Mapping[int, Round]) -> Pace | None:
    """Measure the newest rounds that follow each other without a gap; None if too few."""
    newest: list[Round] = []
    for number in sorted(rows, reverse=True):
        row = rows[number]
        if row.duration_s is None or row.started_at is None or number == 0:
            if newest:
                break
            continue
        if newest and number != newest[-1].round - 1:
            break
        newest.append(row)
        if len(newest) == WINDOW_ROUNDS:
            break
    if len(newest) < _MIN_ROUNDS:
        return None
    first, last = newest[-1], newest[0]
    seconds = _end(last) - (first.started_at or 0.0)
    tokens = sum(row.text_tokens or 0 for row in newest)
    return Pace(len(newest), tokens, seconds) if seconds > 0 else None


def goodput_of(pace: Pace | None, undisturbed_per_s: float) -> Goodput | None:
    """Compare the committed text tokens with what the roster's peers make while they train.

    Both are measured, so of a run that only trains the first may come out above the second.
    """
    if pace is None:
        return None
    rate = pace.text_tokens / pace.seconds
    known = undisturbed_per_s > 0
    return Goodput(
        text_tokens_per_s=rate,
        undisturbed_per_s=undisturbed_per_s if known else None,
        ratio=min(1.0, rate / undisturbed_per_s) if known else None,
        over_s=pace.seconds,
    )


def eta_s(pace: Pace | None, rounds_left: int, round_began_s: float) -> float | None:
    """Return seconds until the last round ends, ``round_began_s`` after the current one began."""
    if pace is None or rounds_left <= 0:
        return None
    return max(0.0, rounds_left * pace.round_s - min(round_began_s, pace.round_s))


def _end(row: Round) -> float:
    return (row.started_at or 0.0) + (row.duration_s or 0.0)
