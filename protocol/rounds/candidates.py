"""For whom a plan is made."""

from dataclasses import dataclass

from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Offer


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live peer that may take part in the next round."""

    peer: PeerId
    offer: Offer
    rate: float = 0.0
    """Text tokens per second through one block, forward, to count on; 0: not measured."""
