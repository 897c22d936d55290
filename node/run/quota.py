"""How many bad messages a peer may send before it is not listened to for a while.

Refusing costs us too: a signature to check, a line in the event log. A peer that keeps on
sending what is refused is therefore dropped at the door, before its bytes are looked at. Pure:
the time comes in as an argument.
"""

from dataclasses import dataclass

from skerry.protocol.ids import PeerId

BAD_MESSAGES = 100
"""In a burst; honest peers send a few when they restart or when they are late."""
REFILL_SECONDS = 60.0
"""Time in which the whole burst may be sent again, and for which a peer beyond it is shut out."""
MAX_PEERS = 1024
"""Peers remembered; ids cost nothing to make, so the memory for them must be bounded."""
QUOTA = "quota"
"""Reason under which a dropped message is counted."""
REMOVED = "removed"
"""Reason under which messages of a peer are counted that the run's owner keeps out."""
HARMLESS = frozenset({QUOTA, REMOVED, "stale-round", "state-digest", "unavailable"})
"""Refused, but no fault: what a slow, diverged or unreachable honest peer meets."""


@dataclass(slots=True)
class _Bucket:
    used: float
    at: float
    """Monotonic seconds for which ``used`` holds."""
    shut_until: float


class BadMessages:
    """A token bucket per peer: each bad message takes a token, time gives them back."""

    def __init__(self, limit: int = BAD_MESSAGES, refill_s: float = REFILL_SECONDS) -> None:
        """Allow ``limit`` in a burst and ``limit`` per ``refill_s`` in the long run."""
        self._limit, self._refill_s = limit, refill_s
        self._buckets: dict[PeerId, _Bucket] = {}
        """In the order of the newest charge."""

    def charge(self, peer: PeerId, reason: str, now: float) -> bool:
        """Note that something of ``peer`` was refused; True if that shuts it out from now on."""
        if reason in HARMLESS or self.exceeded(peer, now):
            return False
        bucket = self._buckets.pop(peer, None) or _Bucket(0.0, now, now)
        regained = (now - bucket.at) * self._limit / self._refill_s
        bucket.used, bucket.at = max(0.0, bucket.used - regained) + 1.0, now
        shut = bucket.used > self._limit
        if shut:
            bucket.used, bucket.shut_until = 0.0, now + self._refill_s
        self._buckets[peer] = bucket
        if len(self._buckets) > MAX_PEERS:
            del self._buckets[next(iter(self._buckets))]
        return shut

    def exceeded(self, peer: PeerId, now: float) -> bool:
        """Say whether messages of ``peer`` are to be dropped at the door."""
        bucket = self._buckets.get(peer)
        return bucket is not None and now < bucket.shut_until
