"""Elias-Fano codes of kept positions: low bits as they are, high parts as unary steps.

Each tile takes the same number of bits, so that a tile can be found without reading the others.
Source: Vigna 2013, "Quasi-succinct indices" (arXiv:1206.4300), section 2.

Shape suffixes: T tiles, K kept entries of a tile, B bytes.
"""

from math import log2

import numpy as np
from numba import njit
from numpy.typing import NDArray

from comparators.bit_stream import put, put_unary, take, take_unary


def low_bits(area: int, keep: int) -> int:
    """Return how many bits of a position are written as they are."""
    return max(0, int(log2(area / keep)))


def encode(positions_TK: NDArray[np.int64], area: int) -> bytes:
    """Return the codes of positions below ``area``, strictly ascending in each tile."""
    tiles, keep = positions_TK.shape
    low = low_bits(area, keep)
    data_B = np.zeros((tiles * _tile_bits(area, keep) + 7) // 8, dtype=np.uint8)
    _write(positions_TK, low, (area - 1) >> low, data_B)
    return data_B.tobytes()


def decode(data: bytes, tiles: int, keep: int, area: int) -> NDArray[np.int64]:
    """Return the positions [T, K] that were encoded."""
    positions_TK = np.empty((tiles, keep), dtype=np.int64)
    low = low_bits(area, keep)
    _read(np.frombuffer(data, np.uint8), low, (area - 1) >> low, positions_TK)
    return positions_TK


def _tile_bits(area: int, keep: int) -> int:
    low = low_bits(area, keep)
    return keep * (low + 1) + ((area - 1) >> low)


@njit(cache=True)
def _write(
    positions_TK: NDArray[np.int64], low: int, highest: int, data_B: NDArray[np.uint8]
) -> None:
    place = held = count = 0
    mask = (1 << low) - 1
    for positions_K in positions_TK:
        for position in positions_K:
            place, held, count = put(data_B, place, held, count, position & mask, low)
        before = 0
        for position in positions_K:
            high = position >> low
            place, held, count = put_unary(data_B, place, held, count, high - before)
            before = high
        for _ in range(highest - before):
            place, held, count = put(data_B, place, held, count, 0, 1)
    if count:
        data_B[place] = held


@njit(cache=True)
def _read(
    data_B: NDArray[np.uint8], low: int, highest: int, positions_TK: NDArray[np.int64]
) -> None:
    place = held = count = 0
    for tile in range(positions_TK.shape[0]):
        for entry in range(positions_TK.shape[1]):
            positions_TK[tile, entry], place, held, count = take(data_B, place, held, count, low)
        high = 0
        for entry in range(positions_TK.shape[1]):
            step, place, held, count = take_unary(data_B, place, held, count)
            high += step
            positions_TK[tile, entry] |= high << low
        for _ in range(highest - high):
            _, place, held, count = take(data_B, place, held, count, 1)
