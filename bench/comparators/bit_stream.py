"""Bits into bytes and back for the index coders, compiled; lowest bit first.

Shape suffix: B bytes.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

MAX_BITS = 32
"""Most bits that one ``put`` or ``take`` moves."""


@njit(cache=True)
def put(
    data_B: NDArray[np.uint8], place: int, held: int, count: int, value: int, bits: int
) -> tuple[int, int, int]:
    """Append ``bits`` bits; ``held`` are ``count`` < 8 bits not yet written at ``place``.

    Returns: place, held and count afterwards.
    """
    held |= value << count
    count += bits
    while count >= 8:
        data_B[place] = held & 255
        held >>= 8
        count -= 8
        place += 1
    return place, held, count


@njit(cache=True)
def put_unary(
    data_B: NDArray[np.uint8], place: int, held: int, count: int, value: int
) -> tuple[int, int, int]:
    """Append ``value`` zeros and a one."""
    while value >= MAX_BITS:
        place, held, count = put(data_B, place, held, count, 0, MAX_BITS)
        value -= MAX_BITS
    return put(data_B, place, held, count, 1 << value, value + 1)


@njit(cache=True)
def take(
    data_B: NDArray[np.uint8], place: int, held: int, count: int, bits: int
) -> tuple[int, int, int, int]:
    """Read ``bits`` bits; ``held`` are ``count`` bits read ahead of ``place``.

    Returns: the value, then place, held and count afterwards.
    """
    while count < bits:
        held |= int(data_B[place]) << count
        place += 1
        count += 8
    return held & ((1 << bits) - 1), place, held >> bits, count - bits


@njit(cache=True)
def take_unary(
    data_B: NDArray[np.uint8], place: int, held: int, count: int
) -> tuple[int, int, int, int]:
    """Read zeros up to and with the next one.

    Returns: the number of zeros, then place, held and count afterwards.
    """
    zeros = 0
    while True:
        if count == 0:
            held = int(data_B[place])
            place += 1
            count = 8
        if held == 0:
            zeros += count
            count = 0
            continue
        while held & 1 == 0:
            zeros += 1
            held >>= 1
            count -= 1
        return zeros, place, held >> 1, count - 1
