"""How long a round may take: learnt from how long rounds took (DESIGN 7.2)."""

from dataclasses import dataclass

_WEIGHT = 0.3
"""Share of the newest round in the moving average."""


@dataclass(slots=True)
class RoundDeadline:
    """Deadline = factor x moving average of the time until all contributions were in."""

    minimum: float
    """Seconds."""
    maximum: float
    """Seconds; used until a round has been measured."""
    factor: float
    average: float | None = None

    def observe(self, seconds: float) -> None:
        """Take in how long the peers of a round took to announce."""
        if self.average is None:
            self.average = seconds
        else:
            self.average += _WEIGHT * (seconds - self.average)

    @property
    def seconds(self) -> float:
        """How long peers may train before they announce what they have."""
        if self.average is None:
            return self.maximum
        return min(self.maximum, max(self.minimum, self.factor * self.average))
