"""What one peer may ask of this node before it is not listened to: streams, bytes, bad messages.

Refusing costs us too: a signature to check, a line in the event log. Each peer therefore has a
penalty that fades with time; what is refused adds to it. Beyond the limit the peer is shut out:
what it sends is dropped at the door, before it is looked at. If it goes on knocking its
connections are to be ended, and each time it is shut out for twice as long. Good conduct makes
the next time shorter again. Pure: the time comes in as an argument, in monotonic seconds.
"""

from dataclasses import dataclass, field
from enum import Enum

from skerry.protocol.ids import PeerId
from skerry.protocol.shadows import NO_BASE, NOT_NOW

QUOTA = "quota"
"""Reason under which is counted what a peer sends while it is shut out."""
REMOVED = "removed"
"""Reason under which messages of a peer are counted that the run's owner keeps out."""
FALSE_STATE = "false-state"
"""Parameters that are not those a commit vouches for: no honest peer sends them, since it checks
what it reads from its own disk."""
JUDGED = frozenset({"norm", "direction", "copy"})
"""Contributions that do not count: their author is doubted, but may go on."""
NO_FAULT = {"stale-round", "state-digest", "unavailable", NO_BASE, *NOT_NOW}
HARMLESS = JUDGED | NO_FAULT | {QUOTA, REMOVED}
"""Refused, but no fault: what a slow, diverged or unreachable honest peer meets."""


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """How much is allowed."""

    penalty: float = 100.0
    """Bad messages in a burst; honest peers send a few when they restart or when they are late."""
    forgive_s: float = 60.0
    """Time in which a full penalty has faded."""
    streams: int = 16
    """Open at once."""
    stream_burst: float = 128.0
    """Streams opened at once or in quick succession; a lost network opens several anew."""
    streams_per_s: float = 4.0
    """Streams opened in the long run."""
    byte_burst: float = 64.0 * 2**20
    """Bytes that a peer may send unasked, in a burst: commits of a large swarm are megabytes."""
    bytes_per_s: float = 4.0 * 2**20
    connections: int = 8
    """At once; a direct one in each direction, some by relay, and those that are just closing."""
    knocks: int = 100
    """Messages of a peer that is shut out, after which its connections are ended."""
    shut_s: float = 60.0
    """How long a peer is shut out the first time."""
    longest_shut_s: float = 3600.0
    amends_s: float = 1800.0
    """Time without being shut out that makes the next time half as long."""
    peers: int = 1024
    """Peers remembered; ids cost nothing to make, so the memory for them must be bounded."""


COSTS = {
    "bytes": 20.0,
    "stream-rate": 5.0,
    "connections": 20.0,
    "garbage": 2.0,
    "silent": 2.0,
    FALSE_STATE: 10.0,  # of the shards under way at once several may be false before it is dropped
}
"""Penalty by reason; anything else that is refused costs 1."""


class Verdict(Enum):
    """What follows from a charge."""

    HEARD = "heard"
    """Nothing: the peer is listened to, or is shut out already."""
    SHUT_OUT = "shut-out"
    """From now on what it sends is to be dropped."""
    DISCONNECT = "disconnect"
    """It goes on all the same: its connections are to be ended."""


@dataclass(slots=True)
class _Bucket:
    """Fills by use, empties with time."""

    used: float = 0.0
    at: float = 0.0

    def add(self, amount: float, limit: float, per_s: float, now: float) -> bool:
        """Take ``amount`` if it fits under ``limit``; say whether it did."""
        self.used = max(0.0, self.used - per_s * max(0.0, now - self.at))
        self.at = max(self.at, now)
        if self.used + amount > limit:
            return False
        self.used += amount
        return True


@dataclass(slots=True)
class _Account:
    """What is remembered of one peer."""

    penalty: _Bucket = field(default_factory=_Bucket)
    opened: _Bucket = field(default_factory=_Bucket)
    received: _Bucket = field(default_factory=_Bucket)
    streams: int = 0
    knocks: int = 0
    shut_until: float | None = None
    severity: int = 0
    """How often it was shut out; half as long for each ``amends_s`` since."""


class Quotas:
    """The accounts of all peers."""

    def __init__(self, limits: QuotaLimits | None = None) -> None:
        """Know nobody yet."""
        self.limits = limits or QuotaLimits()
        self._accounts: dict[PeerId, _Account] = {}
        """In the order of their newest use."""

    def __len__(self) -> int:
        """Return how many peers are remembered."""
        return len(self._accounts)

    def shut_out(self, peer: PeerId, now: float) -> bool:
        """Say whether what ``peer`` sends is to be dropped at the door."""
        account = self._accounts.get(peer)
        return account is not None and account.shut_until is not None and now < account.shut_until

    def open_stream(self, peer: PeerId, now: float) -> str:
        """Count a stream that ``peer`` opens, or return the reason why it must be closed.

        A stream that was counted must be given back by ``close_stream``.
        """
        if self.shut_out(peer, now):
            return QUOTA
        account, limits = self._touch(peer), self.limits
        if account.streams >= limits.streams:
            return "streams"
        if not account.opened.add(1.0, limits.stream_burst, limits.streams_per_s, now):
            return "stream-rate"
        account.streams += 1
        return ""

    def close_stream(self, peer: PeerId) -> None:
        """Note the end of a counted stream."""
        account = self._accounts.get(peer)
        if account is not None:
            account.streams = max(0, account.streams - 1)

    def receive(self, peer: PeerId, num_bytes: int, now: float) -> str:
        """Count bytes of a stream that ``peer`` opened, or return why it must be closed."""
        if self.shut_out(peer, now):
            return QUOTA
        bucket, limits = self._touch(peer).received, self.limits
        fits = bucket.add(float(num_bytes), limits.byte_burst, limits.bytes_per_s, now)
        return "" if fits else "bytes"

    def charge(self, peer: PeerId, reason: str, now: float) -> Verdict:
        """Note that something of ``peer`` was refused, and return what follows."""
        if self.shut_out(peer, now):
            return self._knock(self._touch(peer), now) if reason == QUOTA else Verdict.HEARD
        if reason in HARMLESS:
            return Verdict.HEARD
        account, limits = self._touch(peer), self.limits
        cost, fades = COSTS.get(reason, 1.0), limits.penalty / limits.forgive_s
        if account.penalty.add(cost, limits.penalty, fades, now):
            return Verdict.HEARD
        self._shut(account, now)
        return Verdict.SHUT_OUT

    def _knock(self, account: _Account, now: float) -> Verdict:
        account.knocks += 1
        if account.knocks <= self.limits.knocks:
            return Verdict.HEARD
        self._shut(account, now)
        return Verdict.DISCONNECT

    def _shut(self, account: _Account, now: float) -> None:
        limits = self.limits
        if account.shut_until is not None:
            amends = int(max(0.0, now - account.shut_until) / limits.amends_s)
            account.severity = max(0, account.severity - amends)
        # Doubling ends where it has no effect, so that the number stays small.
        seconds = min(limits.shut_s * 2.0**account.severity, limits.longest_shut_s)
        if seconds < limits.longest_shut_s:
            account.severity += 1
        account.shut_until = now + seconds
        account.penalty.used, account.knocks = 0.0, 0

    def _touch(self, peer: PeerId) -> _Account:
        """Return the account of ``peer`` as the newest; the oldest without streams may go."""
        account = self._accounts.pop(peer, None) or _Account()
        self._accounts[peer] = account
        if len(self._accounts) > self.limits.peers:
            others = (name for name, a in self._accounts.items() if not a.streams and name != peer)
            oldest = next(others, None)
            if oldest is not None:
                del self._accounts[oldest]
        return account
