"""Deficit round-robin: which path the next microbatch takes, so that quotas hold at any time.

Every path earns its share with each microbatch; the one that is owed most is drawn and pays one.
After a multiple of the quotas' sum each path was drawn exactly as often as its quota says, and in
between no path is ahead of its share by a whole microbatch.
"""

from collections.abc import Sequence
from functools import lru_cache


class DeficitRouter:
    """Draws paths in proportion to their quotas; no randomness, no clock."""

    def __init__(self, quotas: Sequence[int]) -> None:
        """Begin with nothing owed. Raises: ValueError without a positive quota."""
        if not quotas or min(quotas) < 0 or sum(quotas) == 0:
            raise ValueError(f"quotas are {list(quotas)}, need some above 0 and none below")
        self._quotas = tuple(quotas)
        self._owed = [0] * len(quotas)

    def draw(self) -> int:
        """Return the path of the next microbatch; of equally owed ones the first."""
        for path, quota in enumerate(self._quotas):
            self._owed[path] += quota
        drawn = max(range(len(self._owed)), key=lambda path: (self._owed[path], -path))
        self._owed[drawn] -= sum(self._quotas)
        return drawn


@lru_cache(4096)
def drawn_order(quotas: tuple[int, ...]) -> tuple[int, ...]:
    """Return the paths of all microbatches of one inner step."""
    router = DeficitRouter(quotas)
    return tuple(router.draw() for _ in range(sum(quotas)))
