"""Who is alive: a pure failure detector over signs of life.

Each peer has a patience: how long it may be silent. It follows the peer's own rhythm (an
exponential moving average of the gaps between signs of life, times a factor), so that a slow
link is not taken for a dead peer. A failed request shortens it until the peer is heard again.
While this node itself is cut off (``suspend``), silence says nothing about anyone.
No clock, no timer, no I/O: the caller passes monotonic seconds and asks when to look again.
"""

from dataclasses import dataclass

from skerry.protocol.ids import PeerId


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """How patient to be."""

    factor: float = 4.0
    """Patience in typical gaps: three lost heartbeats in a row are forgiven."""
    min_s: float = 2.0
    max_s: float = 30.0
    expected_gap_s: float = 1.0
    """Taken for a peer's rhythm until two signs of life have shown it."""
    smoothing: float = 0.2
    """Weight of the newest gap in the average, in (0, 1]."""
    shortening: float = 0.5
    """What each failed request leaves of the patience, in (0, 1]; never below ``min_s``."""

    def __post_init__(self) -> None:
        """Refuse settings under which nothing would be decided."""
        in_order = 0 < self.min_s <= self.max_s and self.factor > 0 and self.expected_gap_s > 0
        if not (in_order and 0 < self.smoothing <= 1 and 0 < self.shortening <= 1):
            raise ValueError(f"the detector's settings are out of range: {self}")


@dataclass(frozen=True, slots=True)
class Change:
    """A peer came up or went down."""

    peer: PeerId
    up: bool
    silent_s: float
    """Seconds since it was last heard."""


@dataclass(slots=True)
class _Rhythm:
    """What is known of one peer."""

    heard_at: float
    gap_s: float
    failures: int = 0
    reported_up: bool = False


class Detector:
    """Tells live peers from silent ones; knows exactly those peers that were ever heard."""

    def __init__(self, config: DetectorConfig | None = None) -> None:
        """Start knowing nobody."""
        self._config = config or DetectorConfig()
        self._peers: dict[PeerId, _Rhythm] = {}
        self._suspended = False

    def suspend(self) -> None:
        """Judge nobody: this node has no network, so that all are silent at once."""
        self._suspended = True

    @property
    def suspended(self) -> bool:
        """Whether nobody is judged now."""
        return self._suspended

    def resume(self, now: float) -> None:
        """Judge again; those that were up are given the time to be heard anew."""
        self._suspended = False
        for rhythm in self._peers.values():
            if rhythm.reported_up:
                rhythm.heard_at, rhythm.failures = max(rhythm.heard_at, now), 0

    def heard(self, peer: PeerId, now: float) -> None:
        """Take a sign of life: a heartbeat, or any answer.

        A long silence counts as the longest gap that matters and no more: an outage does not
        make patient for long, while a peer slower than expected does not flap for ever.
        """
        rhythm = self._peers.get(peer)
        if rhythm is None:
            self._peers[peer] = _Rhythm(now, self._config.expected_gap_s)
            return
        if now < rhythm.heard_at:
            return
        gap_s = min(now - rhythm.heard_at, self._config.max_s / self._config.factor)
        rhythm.gap_s += self._config.smoothing * (gap_s - rhythm.gap_s)
        rhythm.heard_at, rhythm.failures = now, 0

    def unreachable(self, peer: PeerId, now: float) -> None:
        """Take a failed request as a reason to be less patient until the peer is heard."""
        rhythm = self._peers.get(peer)
        if rhythm is not None and now >= rhythm.heard_at and not self._suspended:
            rhythm.failures += 1

    def forget(self, peer: PeerId) -> None:
        """Drop a peer that left on purpose or is dead; no change is reported for it."""
        self._peers.pop(peer, None)

    def patience_s(self, peer: PeerId) -> float | None:
        """Return how long ``peer`` may be silent at present, or None if it was never heard."""
        rhythm = self._peers.get(peer)
        return None if rhythm is None else self._patience_s(rhythm)

    def alive(self, peer: PeerId, now: float) -> bool:
        """Say whether ``peer`` was heard within its patience."""
        rhythm = self._peers.get(peer)
        return rhythm is not None and now < self._deadline(rhythm)

    def changes(self, now: float) -> list[Change]:
        """Return who is up or down otherwise than at the last call, sorted by peer.

        A peer that fell silent and was heard again between two calls did not change.
        """
        if self._suspended:
            return []
        found = []
        for peer, rhythm in sorted(self._peers.items()):
            up = now < self._deadline(rhythm)
            if up != rhythm.reported_up:
                rhythm.reported_up = up
                found.append(Change(peer, up, max(0.0, now - rhythm.heard_at)))
        return found

    def next_check(self, now: float) -> float | None:
        """Return when ``changes`` will have something to say if nobody is heard until then.

        ``now`` if it has something already, None if nobody is up or nobody is judged.
        """
        if self._suspended:
            return None
        times = []
        for rhythm in self._peers.values():
            deadline = self._deadline(rhythm)
            if (now < deadline) != rhythm.reported_up:
                return now
            if rhythm.reported_up:
                times.append(deadline)
        return min(times, default=None)

    def _deadline(self, rhythm: _Rhythm) -> float:
        return rhythm.heard_at + self._patience_s(rhythm)

    def _patience_s(self, rhythm: _Rhythm) -> float:
        config = self._config
        patience = min(max(config.factor * rhythm.gap_s, config.min_s), config.max_s)
        return max(config.min_s, patience * config.shortening**rhythm.failures)
