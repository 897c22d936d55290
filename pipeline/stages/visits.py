"""Which microbatches are under way at one peer, and what is kept of them until they come back.

What is kept of a visit is its input as it came over the wire, encoded: with int8 in a subspace of
40 dimensions, 44 bytes per text token where activations of width 4096 would take 16 KiB. It is
decoded again, to the same bits, when its gradient comes.
"""

from dataclasses import dataclass

from skerry.pipeline.stages.tasks import MAX_HOPS, MAX_MICROBATCHES, Place
from skerry.protocol.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Visit:
    """One microbatch at one hop, between its forward pass and its gradient."""

    place: Place
    blocks: tuple[str, ...]
    """What it passed, in order."""
    sequences: int
    text: bytes
    """Text token ids: windows at the origin; elsewhere what the wire needs, or nothing."""
    activations: bytes
    """The input; empty at the origin, which embeds the text again."""
    begins: bool
    """Whether the microbatch was embedded here."""

    @property
    def kept_bytes(self) -> int:
        """What it takes until its gradient comes."""
        return len(self.text) + len(self.activations)


class Visits:
    """The visits of one inner step, in a bounded number of slots."""

    def __init__(self, slots: int) -> None:
        """Keep so many visits at a time."""
        self.slots = slots
        self.clear()

    def __len__(self) -> int:
        """Return how many slots are taken."""
        return len(self._visits)

    @property
    def kept_bytes(self) -> int:
        """What all visits keep."""
        return sum(visit.kept_bytes for visit in self._visits.values())

    def clear(self) -> None:
        """Forget everything, for another step."""
        self._visits: dict[Place, Visit] = {}
        self._seen: set[Place] = set()
        self._scored: set[Place] = set()
        self._newest: dict[int, int] = {}
        """Latest attempt of each microbatch."""

    def check(self, place: Place) -> None:
        """Refuse a visit that may not begin. Raises: ProtocolError as tasks.py says."""
        self._check_numbers(place)
        self._check_attempt(place)
        if place in self._seen:
            raise ProtocolError("duplicate", f"{place} was here before")
        replaced = sum(one.microbatch == place.microbatch for one in self._older_than(place))
        if len(self._visits) - replaced >= self.slots:
            raise ProtocolError("slots", f"all {self.slots} slots are taken")

    def add(self, visit: Visit) -> None:
        """Keep a visit that passed ``check``; earlier attempts of the microbatch are over."""
        for older in self._older_than(visit.place):
            del self._visits[older]
        self._newest[visit.place.microbatch] = visit.place.attempt
        self._seen.add(visit.place)
        self._visits[visit.place] = visit

    def get(self, place: Place) -> Visit:
        """Return a visit under way. Raises: ProtocolError("stale") or ("unknown")."""
        self._check_attempt(place)
        if place not in self._visits:
            raise ProtocolError("unknown", f"{place} is not under way here")
        return self._visits[place]

    def check_unscored(self, place: Place) -> None:
        """Refuse a second loss of one visit. Raises: ProtocolError("duplicate")."""
        if place in self._scored:
            raise ProtocolError("duplicate", f"{place} has its loss already")

    def mark_scored(self, place: Place) -> None:
        """Note that a visit has its loss."""
        self._scored.add(place)

    def remove(self, place: Place) -> None:
        """Free the slot of a visit that is under way."""
        del self._visits[place]

    def drop(self, place: Place) -> None:
        """Free a visit's slot, if it has one, and let it not come again."""
        self._check_numbers(place)
        self._seen.add(place)
        self._visits.pop(place, None)

    def _older_than(self, place: Place) -> list[Place]:
        return [
            one
            for one in self._visits
            if one.microbatch == place.microbatch and one.attempt < place.attempt
        ]

    def _check_numbers(self, place: Place) -> None:
        if not (0 <= place.microbatch < MAX_MICROBATCHES and 0 <= place.hop < MAX_HOPS):
            raise ProtocolError("range", f"microbatch {place.microbatch}, hop {place.hop}")

    def _check_attempt(self, place: Place) -> None:
        newest = self._newest.get(place.microbatch, 0)
        if place.attempt < newest:
            raise ProtocolError("stale", f"{place}, attempt {newest} has begun")
