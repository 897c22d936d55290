"""Bytes per second to and from each peer, over the newest seconds."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from skerry.node.run.facts import Traffic
from skerry.protocol.ids import PeerId

WINDOW_S = 10.0
_SAMPLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes per second."""

    up: float
    down: float


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    totals: dict[PeerId, tuple[int, int]]


class Rates:
    """Keeps samples of the totals; sampled when somebody asks, so an idle page costs nothing."""

    def __init__(self) -> None:
        """Begin without a sample."""
        self._samples: deque[_Sample] = deque()

    def sample(self, now: float, traffic: Mapping[PeerId, Traffic]) -> dict[PeerId, Rate]:
        """Take in the totals (``now`` in monotonic seconds); return the rates known by then.

        A peer has no rate before it was in two samples.
        """
        while self._samples and now - self._samples[0].at > WINDOW_S:
            self._samples.popleft()
        totals = {peer: (t.sent, t.received) for peer, t in traffic.items()}
        if not self._samples or now - self._samples[-1].at >= _SAMPLE_S:
            self._samples.append(_Sample(now, totals))
        oldest = self._samples[0]
        passed = now - oldest.at
        if passed < _SAMPLE_S / 2:
            return {}
        return {
            peer: Rate(
                max(0, sent - oldest.totals[peer][0]) / passed,
                max(0, received - oldest.totals[peer][1]) / passed,
            )
            for peer, (sent, received) in totals.items()
            if peer in oldest.totals
        }
