"""Who may send or receive next when a direction is limited: a token bucket with priorities.

What the others wait for at every step goes before what they wait for once per round, and that
before what only makes up for a loss. Nothing starves: who has waited for a while goes first. The
bucket may be overdrawn by one piece, so that any rate works with any size of pieces. Pure: the time
comes in as an argument, in monotonic seconds.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

BURST_S = 0.25
"""Seconds of the rate that may go at once after a pause."""
STARVED_S = 5.0
"""Whoever has waited for longer goes before all others."""


class Priority(IntEnum):
    """What a piece belongs to; the lowest number goes first."""

    CONTROL = 0
    """Never waits: heartbeats and commits are small, and everything else depends on them."""
    GRADIENT = 1
    """Activations and gradients of a ring."""
    PSEUDO_GRADIENT = 2
    """Payloads of outer rounds."""
    SHADOW = 3
    """Stale copies of stages."""
    STATE = 4
    """Parameters for who joins or heals."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    priority: Priority
    num_bytes: int
    since: float


class Bucket:
    """One direction."""

    def __init__(self, bytes_per_s: float = math.inf) -> None:
        """Allow ``bytes_per_s``, positive; infinity: nobody waits."""
        self._rate = bytes_per_s
        self._tokens, self._at = 0.0, -math.inf
        self._waiting: dict[int, _Waiting] = {}
        self._newest = 0

    @property
    def bytes_per_s(self) -> float:
        """The rate in force."""
        return self._rate

    def set_rate(self, bytes_per_s: float, now: float) -> None:
        """Change the rate; what is owed stays owed."""
        self._refill(now)
        self._rate = bytes_per_s

    def ask(self, priority: Priority, num_bytes: int, now: float) -> int | None:
        """Ask for a piece: None if it may go at once, else the number under which it waits."""
        self._refill(now)
        free = priority is Priority.CONTROL or (not self._waiting and self._tokens > 0)
        if free or math.isinf(self._rate):
            self._spend(num_bytes)
            return None
        self._newest += 1
        self._waiting[self._newest] = _Waiting(priority, num_bytes, now)
        return self._newest

    def forget(self, number: int) -> None:
        """Give up waiting."""
        self._waiting.pop(number, None)

    def granted(self, now: float) -> list[int]:
        """Return who may go now, in order."""
        self._refill(now)
        found: list[int] = []
        while self._waiting and (self._tokens > 0 or math.isinf(self._rate)):
            number = min(self._waiting, key=lambda n: self._rank(n, now))
            self._spend(self._waiting.pop(number).num_bytes)
            found.append(number)
        return found

    def next_at(self, now: float) -> float | None:
        """Return when somebody may go; None if nobody waits."""
        if not self._waiting:
            return None
        self._refill(now)
        if self._tokens > 0 or math.isinf(self._rate):
            return now
        # Just enough to be above zero, however small the rate and however late the clock.
        return now + (1.0 - self._tokens) / self._rate

    def _rank(self, number: int, now: float) -> tuple[bool, int, int]:
        waiting = self._waiting[number]
        starved = now - waiting.since > STARVED_S
        return (False, 0, number) if starved else (True, waiting.priority, number)

    def _spend(self, num_bytes: int) -> None:
        if not math.isinf(self._rate):
            self._tokens -= num_bytes

    def _refill(self, now: float) -> None:
        if math.isinf(self._rate):
            self._tokens = 0.0
        else:
            most = self._rate * BURST_S
            gained = most if math.isinf(self._at) else self._rate * max(0.0, now - self._at)
            self._tokens = min(self._tokens + gained, most)
        self._at = max(self._at, now)
