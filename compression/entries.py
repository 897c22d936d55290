"""The kept entries of one span of tiles, in main memory, and what they weigh in a mean.

Shape suffixes: T tiles of the span, M kept entries of all its tiles.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Entries tile by tile, in each tile by ascending position."""

    counts_T: NDArray[np.int64]
    """Entries of each tile."""
    positions_M: NDArray[np.uint16]
    """Place among the tile's existing entries."""
    values_M: NDArray[np.float32]

    def of_tiles(self, chosen_T: NDArray[np.bool_]) -> "Entries":
        """Return the entries of the chosen tiles only; the others then have none."""
        if chosen_T.all():
            return self
        chosen_M = np.repeat(chosen_T, self.counts_T)
        return Entries(
            np.where(chosen_T, self.counts_T, 0),
            self.positions_M[chosen_M],
            self.values_M[chosen_M],
        )

    def only(self, chosen_M: NDArray[np.bool_]) -> "Entries":
        """Return the chosen entries."""
        if chosen_M.all():
            return self
        tiles_M = np.repeat(np.arange(self.counts_T.size), self.counts_T)
        counts_T = np.bincount(tiles_M[chosen_M], minlength=self.counts_T.size)
        return Entries(counts_T, self.positions_M[chosen_M], self.values_M[chosen_M])


@dataclass(frozen=True, slots=True)
class Weights:
    """What a sum of contributions is divided by to become their mean."""

    of_terms: tuple[float, ...]
    """Of each contribution, fp32 numbers above 0."""
    divisor: float | None
    """The divisor of every entry; None for the sum of the weights of those that have it."""
