"""What the kept entries of a tile add up to, the same bits on every platform.

``np.sum`` picks its order of additions by vector width and memory layout. Here a tile's entries are
padded with zeros to a power of two, and the second half is added to the first until one is left;
zeros change nothing, so it does not matter to how many they are padded.

Importing this module compiles or loads the kernels (compiled.py).

Shape suffixes: T tiles, M entries of all tiles, end to end.
"""

import numpy as np
from numpy.typing import NDArray

from skerry.compression.compiled import compiled


def tile_sums(
    magnitudes_M: NDArray[np.float32], counts_T: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the sum [T] of each tile's magnitudes, ``counts_T`` of each; of none, 0."""
    sums_T = np.empty(counts_T.size)
    _halve(magnitudes_M, counts_T, sums_T)
    return sums_T


def tile_minima(
    magnitudes_M: NDArray[np.float32], counts_T: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the smallest magnitude [T] of each tile; of none, 0."""
    lowest_T = np.zeros(counts_T.size)
    has_T = counts_T > 0
    if has_T.any():
        firsts_T = counts_T.cumsum() - counts_T
        lowest_T[has_T] = np.minimum.reduceat(magnitudes_M, firsts_T[has_T])
    return lowest_T


@compiled("void(float32[::1], int64[::1], float64[::1])")
def _halve(
    magnitudes_M: NDArray[np.float32], counts_T: NDArray[np.int64], sums_T: NDArray[np.float64]
) -> None:
    widest = 1
    for tile in range(counts_T.size):
        while widest < counts_T[tile]:
            widest *= 2
    padded_K = np.empty(widest, np.float64)
    first = 0
    for tile in range(counts_T.size):
        count = counts_T[tile]
        width = 1
        while width < count:
            width *= 2
        padded_K[count:width] = 0.0
        padded_K[0] = 0.0  # where there is no entry
        for i in range(count):
            padded_K[i] = magnitudes_M[first + i]
        first += count
        while width > 1:
            width //= 2
            # Slices of equal length: only such loops does LLVM vectorise.
            lower, upper = padded_K[:width], padded_K[width : 2 * width]
            for i in range(width):
                lower[i] += upper[i]
        sums_T[tile] = padded_K[0]
