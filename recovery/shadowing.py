"""When a stage's shards are copied to their holder, and how fast. Pure.

One shard at a time: the one whose copy is oldest, once it is due and the one before has arrived.
So a slow uplink makes shadows older but never a queue, and sender and holder keep no second copy of
the stage. What may be sent is what gradients, activations and contributions leave of the uplink,
and no more than a share of it.

A copy is the difference from the one before it (shadow_codec.py) as long as the holder has
confirmed that; a holder that lost it, or another holder, gets a whole one.

Steps are the run's inner steps, times monotonic seconds, both passed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShadowRules:
    """How often and how much."""

    every: int = 10
    """Inner steps after which a shard's copy is due again."""
    share: float = 0.05
    """Of the uplink, at most."""
    burst_s: float = 2.0
    """So many seconds' worth may be sent at once after a pause."""

    def __post_init__(self) -> None:
        """Refuse settings under which nothing would ever be sent."""
        if not (self.every > 0 and 0 < self.share <= 1 and self.burst_s > 0):
            raise ValueError(f"the settings for shadows are out of range: {self}")


@dataclass(slots=True)
class SpareUplink:
    """How many bytes may go out now: a token bucket, filled by what others leave."""

    rules: ShadowRules
    uplink: float
    """Bytes per second, as measured."""
    at: float
    """When it was last filled."""
    busy: float = 0.0
    """Bytes per second that everything else sends."""
    _tokens: float = 0.0

    def measured(self, uplink: float, busy: float, now: float) -> None:
        """Take in what the uplink carries and what of it is used, from now on."""
        self._fill(now)
        self.uplink, self.busy = uplink, busy
        self._tokens = min(self._tokens, self.rate * self.rules.burst_s)

    @property
    def rate(self) -> float:
        """Bytes per second for shadows."""
        return max(0.0, min(self.uplink - self.busy, self.rules.share * self.uplink))

    def allowed(self, now: float) -> int:
        """Return how many bytes may be sent now."""
        self._fill(now)
        return int(self._tokens)

    def spend(self, size: int, now: float) -> None:
        """Note bytes that are sent, at most as many as are allowed. Raises: ValueError if more."""
        if size > self.allowed(now):
            raise ValueError(f"{size} bytes, {int(self._tokens)} are allowed")
        self._tokens -= size

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self.at)
        self._tokens = min(self._tokens + passed * self.rate, self.rate * self.rules.burst_s)
        self.at = max(self.at, now)


class ShadowSchedule:
    """Which shard of a stage to copy next, and how old the copies are."""

    def __init__(self, shards: Sequence[str], rules: ShadowRules) -> None:
        """Begin with a holder that has nothing."""
        self._rules = rules
        self._held: dict[str, int | None] = dict.fromkeys(shards)
        self._agreed = dict(self._held)
        """Of these, the newest copies of a round's start."""
        self._under_way: str | None = None

    def next(self, step: int) -> str | None:
        """Return the shard whose copy is to be made at this step; None if none is.

        One that is lacking comes before one that is old; of equals, in the order of the model.
        """
        if self._under_way is not None:
            return None
        due = [
            shard
            for shard, held in self._held.items()
            if held is None or step - held >= self._rules.every
        ]
        oldest = min(due, key=lambda shard: _or_never(self._held[shard]), default=None)
        if oldest is not None:
            self._under_way = oldest
        return oldest

    @property
    def every(self) -> int:
        """Inner steps after which a shard's copy is due again."""
        return self._rules.every

    def begin_round(self) -> None:
        """What steps have made within a round does not stand for what is agreed upon after it."""
        self._held = dict(self._agreed)

    def confirmed(self, shard: str, step: int) -> None:
        """The holder has the copy under way, of a round's start.

        Raises: ValueError if another shard's is under way.
        """
        self.confirmed_within(shard, step)
        self._agreed[shard] = step

    def confirmed_within(self, shard: str, step: int) -> None:
        """The holder has the copy under way, of a step within a round. Raises: ValueError."""
        self._end(shard)
        self._held[shard] = step

    def refused(self, shard: str) -> None:
        """The holder cannot use the copy under way; the next one is whole."""
        self._end(shard)
        self._held[shard] = self._agreed[shard] = None

    def given_up(self) -> None:
        """The copy under way did not arrive; the holder still has the one before."""
        self._under_way = None

    def age(self, step: int) -> int | None:
        """Return how many inner steps the oldest copy is behind; None while one is lacking."""
        held = list(self._held.values())
        known = [one for one in held if one is not None]
        return step - min(known) if len(known) == len(held) else None

    def _end(self, shard: str) -> None:
        if self._under_way != shard:
            raise ValueError(f"{shard} is not under way, {self._under_way} is")
        self._under_way = None


def _or_never(step: int | None) -> int:
    return -1 if step is None else step
