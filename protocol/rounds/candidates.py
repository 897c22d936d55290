"""For whom a plan is made."""

from dataclasses import dataclass

from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Offer


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live peer that may take part in the next round."""

    peer: PeerId
    offer: Offer
