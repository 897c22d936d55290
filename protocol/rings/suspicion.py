"""Who may have lost a microbatch: what the origin concludes when one does not come back.

A member can say that it has passed a microbatch on and keep it, or send the next one something that
is thrown away; nobody complains then, and the origin only sees that the time is over. It cannot
know who it was, but who loses microbatches is on the way of all that are lost. So each one counts
against all members of its way, and one that comes back clears them; the member with the most
losses is passed by for a while, twice as long each time, where there is another way.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

_MOST_DOUBLINGS = 6


@dataclass(slots=True)
class Suspicion:
    """What the origin holds against each member."""

    ban_s: float
    """How long a member is passed by the first time."""
    _losses: Counter[int] = field(default_factory=Counter)
    """Microbatches lost on a way by it since the last one that came back."""
    _times: Counter[int] = field(default_factory=Counter)
    """How often it was suspected, less what has come back since."""
    _until: dict[int, float] = field(default_factory=dict)

    def lost(self, members: Collection[int], now: float) -> int | None:
        """A microbatch is lost on a way by these; return whom to pass by, if that is new."""
        for member in members:
            self._losses[member] += 1
        suspect = max(sorted(members), key=self._losses.__getitem__, default=None)
        if suspect is None or now < self._until.get(suspect, now):
            return None
        doublings = min(self._times[suspect], _MOST_DOUBLINGS)
        self._times[suspect] += 1
        self._until[suspect] = now + self.ban_s * 2**doublings
        return suspect

    def came_back(self, members: Collection[int]) -> None:
        """A microbatch has come back by way of these: it was none of them."""
        for member in members:
            self._losses.pop(member, None)
            self._until.pop(member, None)
            self._times[member] = max(0, self._times[member] - 1)

    def suspects(self, now: float) -> Iterator[frozenset[int]]:
        """Yield whom to pass by: all suspects, and where there is no such way, ever fewer.

        Those with the fewest losses are trusted first. The last set is empty.
        """
        found = [member for member, until in self._until.items() if now < until]
        found.sort(key=lambda member: (-self._losses[member], member))
        for number in range(len(found), -1, -1):
            yield frozenset(found[:number])
