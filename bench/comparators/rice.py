"""Rice codes of the gaps between kept positions: quotient in unary, remainder in r bits.

Source: Rice and Plaunt 1971, "Adaptive variable-length coding for efficient compression of
spacecraft television data".

Shape suffixes: T tiles, K kept entries of a tile, B bytes.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from comparators.bit_stream import put, put_unary, take, take_unary

_MAX_REMAINDER_BITS = 16


def encode(positions_TK: NDArray[np.int64]) -> bytes:
    """Return one byte r, the best for these positions, then the codes of all gaps.

    Args:
        positions_TK: strictly ascending in each tile.
    """
    gaps_TK = np.diff(positions_TK, axis=1, prepend=-1) - 1
    costs = [gaps_TK.size * (1 + r) + int((gaps_TK >> r).sum()) for r in range(_MAX_REMAINDER_BITS)]
    best = int(np.argmin(costs))
    data_B = np.zeros((costs[best] + 7) // 8, dtype=np.uint8)
    _write(gaps_TK.ravel(), best, data_B)
    return bytes([best]) + data_B.tobytes()


def decode(data: bytes, tiles: int, keep: int) -> NDArray[np.int64]:
    """Return the positions [T, K] that were encoded."""
    positions_TK = np.empty((tiles, keep), dtype=np.int64)
    _read(np.frombuffer(data, np.uint8, offset=1), data[0], positions_TK)
    return positions_TK


@njit(cache=True)
def _write(gaps_M: NDArray[np.int64], remainder_bits: int, data_B: NDArray[np.uint8]) -> None:
    place = held = count = 0
    mask = (1 << remainder_bits) - 1
    for gap in gaps_M:
        place, held, count = put_unary(data_B, place, held, count, gap >> remainder_bits)
        place, held, count = put(data_B, place, held, count, gap & mask, remainder_bits)
    if count:
        data_B[place] = held


@njit(cache=True)
def _read(data_B: NDArray[np.uint8], remainder_bits: int, positions_TK: NDArray[np.int64]) -> None:
    place = held = count = 0
    for tile in range(positions_TK.shape[0]):
        position = -1
        for entry in range(positions_TK.shape[1]):
            high, place, held, count = take_unary(data_B, place, held, count)
            low, place, held, count = take(data_B, place, held, count, remainder_bits)
            position += 1 + (high << remainder_bits | low)
            positions_TK[tile, entry] = position
