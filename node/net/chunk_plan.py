"""Which chunks of a blob come from which holder: each goes on with a run of its own. Pure.

Whoever is done takes over the second half of the longest run that is left, so a slow holder ends up
with little and one that fails with nothing. Towards the end a chunk may be on its way from two.
"""

from collections.abc import Collection

from skerry.protocol.ids import PeerId


class ChunkPlan:
    """What is missing, and who is to bring it."""

    def __init__(self, missing: Collection[int]) -> None:
        """Nobody brings anything yet."""
        self._owner: dict[int, PeerId | None] = dict.fromkeys(sorted(missing))
        """By chunk that is not here, in order."""

    @property
    def missing(self) -> int:
        """How many chunks are not here."""
        return len(self._owner)

    def take(self, holder: PeerId) -> range | None:
        """Return what ``holder``, who has nothing to do, is to bring next; None for nothing."""
        found = self._free(holder) or self._half_of_another(holder)
        for chunk in found:
            self._owner[chunk] = holder
        return range(found[0], found[-1] + 1) if found else None

    def take_over(self, holder: PeerId) -> range | None:
        """Return a chunk that somebody else is slow to bring; None if nothing is left."""
        chunk = next((one for one, owner in self._owner.items() if owner != holder), None)
        if chunk is None:
            return None
        self._owner[chunk] = holder
        return range(chunk, chunk + 1)

    def is_due(self, holder: PeerId, chunk: int) -> bool:
        """Say whether ``holder`` is still the one who brings a chunk."""
        return chunk in self._owner and self._owner[chunk] == holder

    def done(self, chunk: int) -> bool:
        """Note that a chunk is here; say whether it was missing."""
        missed = chunk in self._owner
        self._owner.pop(chunk, None)
        return missed

    def give_up(self, holder: PeerId) -> None:
        """Note that ``holder`` brings nothing more."""
        for chunk, owner in self._owner.items():
            if owner == holder:
                self._owner[chunk] = None

    def _free(self, holder: PeerId) -> list[int]:
        """Return the first run of chunks that nobody brings: ``holder`` has left its own."""
        found: list[int] = []
        for chunk, owner in self._owner.items():
            if owner in (None, holder) and (not found or chunk == found[-1] + 1):
                found.append(chunk)
            elif found:
                break
        return found

    def _half_of_another(self, holder: PeerId) -> list[int]:
        runs: dict[PeerId, list[int]] = {}
        for chunk, owner in self._owner.items():
            if owner not in (None, holder):
                assert owner is not None
                runs.setdefault(owner, []).append(chunk)
        longest = max(runs.values(), key=len, default=[])
        half = longest[(len(longest) + 1) // 2 :]
        # Two runs of one owner may have a gap between them, once a chunk in it was taken over.
        return [chunk for i, chunk in enumerate(half) if chunk == half[0] + i]
