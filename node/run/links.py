"""What lies between this node and each of the others: round trips and rates, as they were met.

Measured on what travels anyway (answers to heartbeats, payloads), and by a probe where nothing has
(probing.py). Every node tells the others its own figures in some of its heartbeats; who has a plan
made joins them (``agreed``). Nothing here decides anything.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median, median_low

from skerry.pipeline.planning.request import MeasuredLink
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import MAX_LINKS, LinkFigures

LEAST_BYTES = 64 * 1024
"""What is smaller says more of the delay than of the rate."""
_SAMPLES = 16
_LEAST_DELAY_S, _MOST_DELAY_S = 0.0001, 5.0
_LEAST_RATE, _MOST_RATE = 10e3, 1.25e9
"""Bytes per second: a bad modem, ten gigabits."""


@dataclass(slots=True)
class _Samples:
    round_trips_s: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))


@dataclass(slots=True)
class Links:
    """The links of this node, by the peer at the other end, and what the others say of theirs."""

    told: dict[PeerId, tuple[LinkFigures, ...]] = field(default_factory=dict)
    """The newest that each member has said."""
    own: dict[PeerId, _Samples] = field(default_factory=dict)
    """What was measured here."""

    def answered(self, peer: PeerId, took_s: float) -> None:
        """Take in how long a peer took to answer a short message."""
        self._of(peer).round_trips_s.append(took_s)

    def received(self, peer: PeerId, num_bytes: int, took_s: float) -> None:
        """Take in how fast something came from a peer."""
        if num_bytes >= LEAST_BYTES:
            self._of(peer).rates.append(num_bytes / max(took_s, 1e-6))

    def has_rate(self, peer: PeerId) -> bool:
        """Say whether anything large has come from a peer."""
        return peer in self.own and bool(self.own[peer].rates)

    def figures(self, members: Iterable[PeerId]) -> tuple[LinkFigures, ...]:
        """Return the median of what was measured to these peers, to no more than may be told."""
        found = (self._figures(peer) for peer in sorted(members) if peer in self.own)
        return tuple(found)[:MAX_LINKS]

    def uplink_of(self, peer: PeerId) -> float:
        """Return how fast things come from a peer, as most of those say to whom any came; else 0.

        Bytes per second. What one of several says cannot raise it alone.
        """
        told = (one for figures in self.told.values() for one in figures if one.peer == peer)
        rates = [one.bytes_per_s for one in told if one.bytes_per_s]
        return min(max(median_low(rates), _LEAST_RATE), _MOST_RATE) if rates else 0.0

    def _of(self, peer: PeerId) -> _Samples:
        return self.own.setdefault(peer, _Samples())

    def _figures(self, peer: PeerId) -> LinkFigures:
        samples = self.own[peer]
        round_trip_s = median(samples.round_trips_s) if samples.round_trips_s else 0.0
        rate = median(samples.rates) if samples.rates else 0.0
        return LinkFigures(peer, round(round_trip_s * 1e6), round(rate))


def agreed(
    told: Mapping[PeerId, tuple[LinkFigures, ...]], peers: Iterable[PeerId]
) -> tuple[MeasuredLink, ...]:
    """Return the links that both ends have measured; the worse of their figures counts.

    So nobody makes a link look better than the other end finds it. Rates that not both know are 0,
    and everything is within bounds.
    """
    ends = {peer: {one.peer: one for one in told.get(peer, ())} for peer in peers}
    pairs = ((a, b, ends[a].get(b), ends[b].get(a)) for a, b in combinations(sorted(ends), 2))
    return tuple(
        MeasuredLink(a, b, _delay_s(one, other), _rate(one, other))
        for a, b, one, other in pairs
        if one and other and one.round_trip_us and other.round_trip_us
    )


def _delay_s(one: LinkFigures, other: LinkFigures) -> float:
    """Return the seconds of one way."""
    delay_s = max(one.round_trip_us, other.round_trip_us) / 2e6
    return min(max(delay_s, _LEAST_DELAY_S), _MOST_DELAY_S)


def _rate(one: LinkFigures, other: LinkFigures) -> float:
    rate = min(one.bytes_per_s, other.bytes_per_s)
    return min(max(rate, _LEAST_RATE), _MOST_RATE) if rate else 0.0
