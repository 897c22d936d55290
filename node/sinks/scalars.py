"""Lines of the event log as numbers to plot: loss, validation loss, pace and bytes by round."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Point:
    """What is known of a round at one moment."""

    round: int
    time: float
    """Unix seconds."""
    values: Mapping[str, float]
    """By name, such as "loss/train"."""


@dataclass(slots=True)
class Scalars:
    """Turns the lines of one run into points, in their order."""

    _committed: tuple[int, float] | None = None
    """Newest commit: round and time."""
    _round: int = 0
    """The newest that has begun."""
    _bytes: dict[str, int] = field(default_factory=dict)
    """Counters at the round's start, by the name of their scalar."""

    def take(self, line: Mapping[str, Any]) -> Point | None:
        """Return the point that a line makes; None for most of them."""
        match line:
            case {"event": "trained", "round": int(number), "loss": float(loss)}:
                return self._point(number, line, {"loss/train": loss})
            case {"event": "validated", "round": int(number), "loss": float(loss)}:
                return self._point(number, line, {"loss/validation": loss})
            case {"event": "committed", "round": int(number), "text_tokens": int(tokens)}:
                return self._pace(number, tokens, line)
            case {"event": "began", "round": int(number), "sent": dict(), "received": dict()}:
                return self._traffic(number, line)
            case {"event": "ended", "sent": dict(), "received": dict()}:
                return self._traffic(self._round + 1, line)
            case _:
                return None

    def _pace(self, number: int, tokens: int, line: Mapping[str, Any]) -> Point | None:
        """Return the swarm's text tokens per second; none across a gap in the commits."""
        before, self._committed = self._committed, (number, line["time"])
        if before is None or before[0] != number - 1 or line["time"] <= before[1]:
            return None
        pace = tokens / (line["time"] - before[1])
        return self._point(number, line, {"text_tokens/round": tokens, "text_tokens/second": pace})

    def _traffic(self, number: int, line: Mapping[str, Any]) -> Point | None:
        """Return the bytes of the round that has ended: the counters count from the start."""
        now = {
            f"bytes_{way}/{kind}": int(count)
            for way in ("sent", "received")
            for kind, count in line[way].items()
        }
        before, self._bytes, self._round = self._bytes, now, number
        values = {name: count - before.get(name, 0) for name, count in now.items()}
        return self._point(number - 1, line, values) if values and number > 1 else None

    def _point(self, number: int, line: Mapping[str, Any], values: Mapping[str, float]) -> Point:
        return Point(number, line["time"], dict(values))
