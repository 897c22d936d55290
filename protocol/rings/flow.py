"""How much data may be under way on a stream, so that it is busy and yet no queue builds up in it.

Below a stream lie buffers of unknown size; what is in them can no longer be overtaken. So a sender
keeps no more under way than the stream delivers in the time that a byte takes at least, plus a
little: limit = rate x (least delay + slack). Rate and delay are measured by the credit that comes
back, in the manner of BBR (Cardwell et al., ACM Queue 14(5), 2016): the highest rate at which
bytes were taken in, and the least time between sending a byte and hearing that it was taken in. A
lower rate is only believed when it was this limit that held the sender back.
"""

from collections import deque
from dataclasses import dataclass, field

_SLACK_S = 0.05
"""What a control frame may wait behind data, beyond the stream's own delay."""
_FLOOR_BYTES = 64 * 1024
"""Under way before anything was measured, and at least."""
_FORGETTING = 0.1
"""How fast a lower rate is believed."""
_GROWTH = 1.25
_STILL_GROWING = 3
"""Delays after the rate last grew by that factor; until then up to twice as much is under way."""


@dataclass(frozen=True, slots=True)
class _Departure:
    at: float
    last_byte: int
    """Bytes sent up to and with this chunk."""
    taken_then: int
    """Bytes known to be taken in when it left."""
    held_back: bool


@dataclass(slots=True)
class Flow:
    """The data lanes of one direction of a stream."""

    rate: float = 0.0
    """Bytes per second."""
    least_delay_s: float = float("inf")
    _now: float = 0.0
    _grown_at: float = 0.0
    _grown_from: float = 0.0
    _sent: int = 0
    _taken: int = 0
    _held_back: bool = False
    _departures: deque[_Departure] = field(default_factory=deque)

    @property
    def limit(self) -> int:
        """Bytes that may be under way."""
        if not self.rate:
            return _FLOOR_BYTES
        growing = self._now < self._grown_at + _STILL_GROWING * self.least_delay_s
        slack_s = max(_SLACK_S, self.least_delay_s) if growing else _SLACK_S
        return max(_FLOOR_BYTES, int(self.rate * (self.least_delay_s + slack_s)))

    def room(self) -> int:
        """Return how many bytes may be sent now; asking in vain is remembered."""
        room = self.limit - (self._sent - self._taken)
        self._held_back = room <= 0
        return max(room, 0)

    def sent(self, size: int, now: float) -> None:
        """Note that a chunk has left."""
        self._sent += size
        self._departures.append(_Departure(now, self._sent, self._taken, self._held_back))

    def taken(self, size: int, now: float) -> None:
        """Note that the other side has taken in ``size`` more bytes."""
        self._taken += size
        newest: _Departure | None = None
        while self._departures and self._departures[0].last_byte <= self._taken:
            newest = self._departures.popleft()
        if newest is None or now <= newest.at:
            return
        self._now = now
        self.least_delay_s = min(self.least_delay_s, now - newest.at)
        sample = (self._taken - newest.taken_then) / (now - newest.at)
        if sample > self.rate:
            self.rate = sample
            if sample > _GROWTH * self._grown_from:
                self._grown_at, self._grown_from = now, sample
        elif newest.held_back:
            self.rate += _FORGETTING * (sample - self.rate)
