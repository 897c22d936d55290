"""The vote minimum: an entry counts only if enough payloads name it.

Shape suffixes: C payloads, T tiles of a span, M entries of all payloads, V positions of a tile.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skerry.compression.agreement import end_to_end
from skerry.compression.compiled import compiled
from skerry.compression.entries import Entries


def with_votes(terms: Sequence[Entries], valid: int, least: int) -> list[Entries]:
    """Return the entries of one span that at least ``least`` of the payloads name.

    Args:
        terms: each payload's entries of the span.
        valid: positions of each tile.
        least: payloads; with 1 or less nothing is left out.
    """
    if least <= 1 or not terms:
        return list(terms)
    counts_CT, positions_M = end_to_end(terms)
    chosen_M = np.empty(positions_M.size, np.bool_)
    _count(counts_CT, positions_M, valid, least, chosen_M)
    ends = np.cumsum([one.positions_M.size for one in terms])[:-1]
    return [one.only(some_M) for one, some_M in zip(terms, np.split(chosen_M, ends), strict=True)]


@compiled("void(int64[:, ::1], uint16[::1], int64, int64, boolean[::1])")
def _count(
    counts_CT: NDArray[np.int64],
    positions_M: NDArray[np.uint16],
    valid: int,
    least: int,
    chosen_M: NDArray[np.bool_],
) -> None:
    number, tiles = counts_CT.shape
    next_C = np.zeros(number, np.int64)
    for c in range(1, number):
        next_C[c] = next_C[c - 1] + counts_CT[c - 1].sum()
    votes_V = np.zeros(valid, np.int64)
    for tile in range(tiles):
        for c in range(number):
            for entry in range(next_C[c], next_C[c] + counts_CT[c, tile]):
                votes_V[positions_M[entry]] += 1
        for c in range(number):
            for entry in range(next_C[c], next_C[c] + counts_CT[c, tile]):
                chosen_M[entry] = votes_V[positions_M[entry]] >= least
            next_C[c] += counts_CT[c, tile]
        votes_V[:] = 0
