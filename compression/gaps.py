"""Ascending positions as gap bytes.

A gap is the number of entries skipped before a kept one, counted anew in each tile: 0 is
adjacent, so descending or repeated positions cannot be written. A gap is 255 repeated gap // 255
times, followed by gap % 255.

Shape suffixes: T tiles, M kept entries of all tiles, G gap bytes.
"""

import numpy as np
from numpy.typing import NDArray

from skerry.compression.compiled import compiled
from skerry.compression.errors import CompressionError
from skerry.compression.layout import ESCAPE

_FINE, _WRONG_COUNT, _OUT_OF_RANGE = 0, 1, 2


def encode_gaps(
    counts_T: NDArray[np.int64], positions_M: NDArray[np.uint16], limit: int
) -> NDArray[np.uint8]:
    """Return the gap bytes [G], at most ``limit``, of strictly ascending positions in each tile."""
    data = np.empty(limit, np.uint8)
    return data[: _write(counts_T, positions_M, data)]


def decode_gaps(
    data_G: NDArray[np.uint8], counts_T: NDArray[np.int64], valid: int
) -> NDArray[np.uint16]:
    """Return the positions [M] in tiles of ``valid`` entries, ``counts_T`` of each.

    Raises: CompressionError("gap-count") if there are more or fewer gaps or the last is
    unfinished, CompressionError("index-out-of-range").
    """
    positions_M = np.empty(int(counts_T.sum()), np.uint16)
    outcome = _read(data_G, counts_T, valid, positions_M)
    if outcome == _WRONG_COUNT:
        raise CompressionError("gap-count", f"{data_G.size} bytes for {positions_M.size} gaps")
    if outcome == _OUT_OF_RANGE:
        raise CompressionError("index-out-of-range", f"position behind a tile of {valid} entries")
    return positions_M


@compiled("int64(int64[::1], uint16[::1], uint8[::1])")
def _write(
    counts_T: NDArray[np.int64], positions_M: NDArray[np.uint16], data: NDArray[np.uint8]
) -> int:
    """Write gap bytes; return their number."""
    entry = written = 0
    for tile in range(counts_T.size):
        following = np.int64(0)
        for _ in range(counts_T[tile]):
            position = np.int64(positions_M[entry])
            gap = position - following
            following = position + 1
            entry += 1
            while gap >= ESCAPE:
                data[written] = ESCAPE
                written += 1
                gap -= ESCAPE
            data[written] = gap
            written += 1
    return written


@compiled("int64(Array(uint8, 1, 'C', True), int64[::1], int64, uint16[::1])")
def _read(
    data_G: NDArray[np.uint8],
    counts_T: NDArray[np.int64],
    valid: int,
    positions_M: NDArray[np.uint16],
) -> int:
    """Read all gaps; return what is wrong with them."""
    entry = read = 0
    for tile in range(counts_T.size):
        following = np.int64(0)
        for _ in range(counts_T[tile]):
            byte = np.int64(ESCAPE)
            while byte == ESCAPE:
                if read == data_G.size:
                    return _WRONG_COUNT
                byte = np.int64(data_G[read])
                read += 1
                following += byte
            if following >= valid:
                return _OUT_OF_RANGE
            positions_M[entry] = following
            following += 1
            entry += 1
    return _FINE if read == data_G.size else _WRONG_COUNT
