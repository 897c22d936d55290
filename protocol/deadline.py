"""How long something that others do may take: learnt from how long it took (DESIGN 7.2, 11)."""

from dataclasses import dataclass

_WEIGHT = 0.3
"""Share of the newest time in the moving average."""


@dataclass(slots=True)
class AdaptiveDeadline:
    """Deadline = factor x exponential moving average of the times, within bounds."""

    minimum: float
    """Seconds."""
    maximum: float
    """Seconds; used until something has been measured."""
    factor: float
    average: float | None = None

    def observe(self, seconds: float) -> None:
        """Take in how long it took once."""
        if self.average is None:
            self.average = seconds
        else:
            self.average += _WEIGHT * (seconds - self.average)

    @property
    def seconds(self) -> float:
        """How long it may take now."""
        if self.average is None:
            return self.maximum
        return min(self.maximum, max(self.minimum, self.factor * self.average))
