"""How long bytes take over one direction of a virtual link: a pure function of a seeded draw."""

import math
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Link:
    """What one direction between two peers is like.

    Loss delays, as it does below a real stream: a lost segment is sent again after
    ``retransmit_s``, twice that after the next loss, and what follows it in its stream waits.
    After ``max_retransmits`` losses in a row the stream is reset.
    """

    delay_s: float = 0.0
    """One way."""
    jitter_s: float = 0.0
    """Up to this much more, drawn per segment: segments of different streams overtake."""
    loss: float = 0.0
    """Probability that a transmission of a segment is lost."""
    retransmit_s: float = 0.2
    max_retransmits: int = 8
    bytes_per_s: float = math.inf
    """Shared by all streams of this direction, first come, first served."""

    def __post_init__(self) -> None:
        """Refuse what no link can be."""
        times = min(self.delay_s, self.jitter_s, self.retransmit_s, self.max_retransmits)
        if times < 0 or not 0 <= self.loss <= 1 or not self.bytes_per_s > 0:
            raise ValueError(f"no such link: {self}")


@dataclass(frozen=True, slots=True)
class Passage:
    """What becomes of one segment."""

    at: float
    """When it arrives, or when the sender gives up."""
    lost: bool


class Wire:
    """One direction of a link in use: remembers until when it is busy."""

    def __init__(self, link: Link, rng: Random) -> None:
        """Draw losses and jitter from ``rng``, which belongs to this wire alone."""
        self.link = link
        self._rng = rng
        self._free_at = 0.0

    def send(self, num_bytes: int, now: float) -> Passage:
        """Put ``num_bytes`` on the wire; each lost transmission uses its share of it as well."""
        link = self.link
        took_s = num_bytes / link.bytes_per_s
        sent_at = max(now, self._free_at) + took_s
        self._free_at = sent_at
        patience_s = link.retransmit_s
        for _ in range(link.max_retransmits + 1):
            if self._rng.random() >= link.loss:
                jitter_s = link.jitter_s * self._rng.random()
                return Passage(sent_at + link.delay_s + jitter_s, lost=False)
            self._free_at += took_s
            sent_at += patience_s + took_s
            patience_s *= 2
        return Passage(sent_at, lost=True)
