"""What a ring learns from the time things take: patience, and how many microbatches to have on
their way.

By Little's law K = ceil(loop time / bottleneck time) microbatches keep the busiest peer or uplink
busy. The loop time counts without the time spent waiting in queues, else K would feed on itself:
more on the way means longer queues. Each peer adds its waits to the frames that pass (frames.Pace)
and raises the bottleneck to its own if that is longer.
"""

import math
from dataclasses import dataclass, field

from skerry.protocol.rings.frames import Pace

_WEIGHT = 0.2
"""Share of the newest measurement in a moving average."""
_MICRO = 1e-6


@dataclass(slots=True)
class Average:
    """A moving average of seconds."""

    value: float | None = None

    def observe(self, seconds: float) -> None:
        """Take in one measurement."""
        if self.value is None:
            self.value = seconds
        else:
            self.value += _WEIGHT * (seconds - self.value)

    @property
    def seconds(self) -> float:
        """The average; 0 before anything was measured."""
        return self.value or 0.0


@dataclass(slots=True)
class Busy:
    """How long one microbatch keeps this peer's processor and its uplink busy."""

    compute: Average = field(default_factory=Average)
    """Forward, input gradient and weight gradient together."""
    forward_upload: Average = field(default_factory=Average)
    backward_upload: Average = field(default_factory=Average)

    @property
    def bottleneck_us(self) -> int:
        """Microseconds of the busier of the two."""
        upload = self.forward_upload.seconds + self.backward_upload.seconds
        return micros(max(self.compute.seconds, upload))


@dataclass(slots=True)
class Flight:
    """How many microbatches the origin has on their way at a time."""

    planned: int
    """Until the first one has come back."""
    most: int
    """The origin's own slots."""
    loop: Average = field(default_factory=Average)
    """Around the ring, without waits."""
    bottleneck: Average = field(default_factory=Average)

    def observe(self, loop_s: float, pace: Pace) -> None:
        """Take in a microbatch that came back after ``loop_s``, with its waits."""
        self.loop.observe(max(loop_s - pace.queued_us * _MICRO, 0.0))
        self.bottleneck.observe(pace.bottleneck_us * _MICRO)

    @property
    def window(self) -> int:
        """K, at least 1; one more than needed, so that a slot is reserved while the others run."""
        if self.bottleneck.seconds <= 0:
            wanted = self.planned
        else:
            wanted = math.ceil(self.loop.seconds / self.bottleneck.seconds) + 1
        return max(1, min(wanted, self.most))


def micros(seconds: float) -> int:
    """Return whole microseconds."""
    return max(0, round(seconds / _MICRO))
