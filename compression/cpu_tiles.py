"""Tile kernels for main memory, compiled by numba: one thread, one pass, one tile in the cache.

Selection works on magnitudes as integers: the bits of an fp32 number without its sign ascend
with it. The K-th largest is found by bisection over these integers, counting at each step how
many entries reach the middle. The first guess is as far above the tile's mean integer (in effect,
mean logarithm) as the threshold of the tile before was above its own: one count over the tile is
mostly enough, and the rest of the search sees only some 2 K candidates.

Importing this module compiles or loads the kernels (compiled.py).

Shape suffixes: N entries of the shard, R rows of a span, T tiles, V existing entries of a tile,
M kept entries, C candidates or contributions.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from skerry.compression.compiled import compiled
from skerry.compression.drift import Drift
from skerry.compression.entries import Entries, Weights
from skerry.compression.errors import CompressionError
from skerry.compression.tiles import TileSpan

_Floats = NDArray[np.float32]
_Bits = NDArray[np.uint32]
_Indices = NDArray[np.int64]
_Positions = NDArray[np.uint16]
_Round = tuple[_Floats, _Floats, np.float32]
"""Start [N], local [N] and decay of a drift; the arrays are empty where there is none."""
_Rows = tuple[_Indices, _Indices, _Indices]
"""begin_R, length_R, first_T."""
_Entries = tuple[_Indices, _Positions, _Floats]
"""Counts, positions and values; one count per tile, or per contribution and tile."""

_ROUND = "Tuple((float32[::1], float32[::1], float32))"
_ROWS = "Tuple((int64[::1], int64[::1], int64[::1]))"
_ENTRIES = "Tuple((int64[::1], uint16[::1], float32[::1]))"
_TERMS = "Tuple((int64[:, ::1], uint16[::1], float32[::1]))"

_MAGNITUDE = np.uint32(0x7FFFFFFF)
_INFINITY = 0x7F800000
_GUESS_BELOW = 1 << 19
"""How far below its likely place the threshold is looked for first: 1/16 of an octave."""
_STEP = 1 << 20
"""How far from a wrong guess the next one is: 1/8 of an octave."""
_BATCH_ENTRIES = 1 << 16
"""Entries of the tiles that are loaded together: a quarter megabyte, of a core's own cache."""
_NOTHING = np.zeros(0, np.float32)


class CpuTiles:
    """Kernels for tensors in main memory."""

    def select(self, feedback_N: Tensor, drift: Drift | None, span: TileSpan) -> Entries:
        """See kernels.py."""
        room = span.num_tiles * span.keep + 1  # _select also writes behind the last one
        counts_T = np.empty(span.num_tiles, np.int64)
        positions_M, values_M = np.empty(room, np.uint16), np.empty(room, np.float32)
        out = (counts_T, positions_M, values_M)
        count = _select(feedback_N.numpy(), _round(drift), _rows(span), span.valid, span.keep, out)
        if count < 0:
            raise CompressionError("non-finite", "error feedback holds an infinity or NaN")
        return Entries(counts_T, positions_M[:count], values_M[:count])

    def add(self, into_N: Tensor, span: TileSpan, entries: Entries) -> None:
        """See kernels.py."""
        arrays = (entries.counts_T, entries.positions_M, entries.values_M)
        _add(into_N.numpy(), _rows(span), arrays)

    def mean(
        self, into_N: Tensor, span: TileSpan, terms: Sequence[Entries], weights: Weights
    ) -> None:
        """See kernels.py."""
        arrays = (
            np.stack([one.counts_T for one in terms]),
            np.concatenate([one.positions_M for one in terms]),
            np.concatenate([one.values_M for one in terms]),
        )
        weights_C = np.array(weights.of_terms, np.float32)
        divisor = np.float32(weights.divisor or 0.0)
        _mean(into_N.numpy(), _rows(span), span.valid, arrays, weights_C, divisor)


def _round(drift: Drift | None) -> _Round:
    if drift is None:
        return _NOTHING, _NOTHING, np.float32(1.0)
    return drift.start.numpy(), drift.local.numpy(), np.float32(drift.decay)


@lru_cache(maxsize=1)
def _rows(span: TileSpan) -> _Rows:
    """Return the span's rows; they are asked for twice in a row, to select and to subtract."""
    rows = span.rows()
    return rows.begin_R, rows.length_R, rows.first_T


@compiled(f"void(float32[::1], {_ROUND}, {_ROWS}, int64, int64, float32[:, ::1])")
def _load_tiles(
    feedback_N: _Floats, drift: _Round, rows: _Rows, first: int, stop: int, tiles_BV: _Floats
) -> None:
    """Copy tiles, after folding the drift into them; the first rows of all, then the second.

    Tiles side by side are so read in the order of memory: it is slow at a row of one tile.
    """
    start_N, local_N, decay = drift
    begin_R, length_R, first_T = rows
    place_B = np.zeros(stop - first, np.int64)
    most_rows = 0
    for tile in range(first, stop):
        most_rows = max(most_rows, first_T[tile + 1] - first_T[tile])
    for i in range(most_rows):
        for tile in range(first, stop):
            r = first_T[tile] + i
            if r >= first_T[tile + 1]:
                continue
            # Slices of equal length: only such loops does LLVM vectorise.
            begin, length, place = begin_R[r], length_R[r], place_B[tile - first]
            row_e = feedback_N[begin : begin + length]
            row_out = tiles_BV[tile - first, place : place + length]
            place_B[tile - first] = place + length
            if start_N.size > 0:
                row_start = start_N[begin : begin + length]
                row_local = local_N[begin : begin + length]
                for j in range(length):
                    folded = row_e[j] * decay + (row_start[j] - row_local[j])
                    row_e[j] = folded
                    row_out[j] = folded
            else:
                for j in range(length):
                    row_out[j] = row_e[j]


@compiled("UniTuple(int64, 2)(uint32[::1], uint32[::1])")
def _take_bits(raw_V: _Bits, bits_V: _Bits) -> tuple[int, int]:
    """Write magnitudes as integers; return the largest and the mean of them."""
    largest = total = np.uint32(0)
    for i in range(raw_V.size):
        bits = raw_V[i] & _MAGNITUDE
        bits_V[i] = bits
        largest = max(largest, bits)
        # Upper halves are below 2^15, tiles not above 2^14 entries: the sum fits, and is faster.
        total = np.uint32(total + (bits >> np.uint32(16)))
    return int(np.int64(largest)), int(np.int64(total) << 16) // raw_V.size


@compiled("int64(uint32[::1], int64)")
def _count(bits_V: _Bits, floor: int) -> int:
    """Return how many entries reach ``floor``."""
    limit = np.uint32(floor)
    count = 0
    for i in range(bits_V.size):
        count += bits_V[i] >= limit
    return count


@compiled("int64(uint32[::1], int64, uint16[::1])")
def _collect(bits_V: _Bits, floor: int, found_V: _Positions) -> int:
    """Write the positions of the entries that reach ``floor``; without a branch. [V + 1]"""
    limit = np.uint32(floor)
    count = 0
    for i in range(bits_V.size):
        found_V[count] = i
        count += bits_V[i] >= limit
    return count


@compiled("UniTuple(int64, 2)(uint32[::1], int64, int64, int64, int64, int64)")
def _search(
    bits_V: _Bits, keep: int, low: int, high: int, first: int, enough: int
) -> tuple[int, int]:
    """Narrow low (reached by ``keep`` entries) and high (not) until few enough reach low.

    Tries ``first`` first, then places near it, then halves. Stops when at most ``enough`` entries
    reach low, or when low is exactly the magnitude of the K-th largest entry.
    """
    middle = first if low < first < high else (low + high) // 2
    step = _STEP
    while high - low > 1:
        count = _count(bits_V, middle)
        if count >= keep:
            low = middle
            if count <= enough:
                break
            middle = min(low + step, (low + high) // 2)
        else:
            high = middle
            middle = max(high - step, (low + high) // 2)
        step *= 2
    return low, high


@compiled(f"int64(float32[::1], {_ROUND}, {_ROWS}, int64, int64, {_ENTRIES})")
def _select(
    feedback_N: _Floats, drift: _Round, rows: _Rows, valid: int, keep: int, out: _Entries
) -> int:
    """Select from each tile; return the number of entries written, or -1 at an infinity or NaN."""
    counts_T, positions_M, values_M = out
    batch = max(1, _BATCH_ENTRIES // valid)
    tiles_BV = np.empty((batch, valid), np.float32)
    bits_V = np.empty(valid, np.uint32)
    found_V = np.empty(valid + 1, np.uint16)
    bits_C = np.empty(valid, np.uint32)
    rise = 0
    written = 0
    for tile in range(counts_T.size):
        if tile % batch == 0:
            stop = min(tile + batch, counts_T.size)
            _load_tiles(feedback_N, drift, rows, tile, stop, tiles_BV)
        tile_V = tiles_BV[tile % batch]
        largest, level = _take_bits(tile_V.view(np.uint32), bits_V)
        if largest >= _INFINITY:
            return -1
        low, high = _search(bits_V, keep, 0, largest + 1, level + rise, 2 * keep)
        low = max(low, 1)  # the smallest magnitude but zero: zeros are never selected
        candidates = _collect(bits_V, low, found_V)
        for i in range(candidates):
            bits_C[i] = bits_V[found_V[i]]
        wanted = min(keep, candidates)
        if candidates > wanted:
            low, high = _search(bits_C[:candidates], keep, low, high, 0, 0)
            rise = low - level - _GUESS_BELOW
        ties = wanted - _count(bits_C[:candidates], low + 1)
        counts_T[tile] = wanted
        for i in range(candidates):
            # No branch on whether it is kept: every other one would be predicted wrongly. What is
            # not kept is overwritten by the next one that is.
            tied = int(bits_C[i] == low)
            kept = int(bits_C[i] > low) | (tied & int(ties > 0))
            ties -= tied
            positions_M[written] = found_V[i]
            values_M[written] = tile_V[found_V[i]]
            written += kept
    return written


@compiled(f"void(float32[::1], {_ROWS}, {_ENTRIES})")
def _add(into_N: _Floats, rows: _Rows, entries: _Entries) -> None:
    begin_R, length_R, first_T = rows
    counts_T, positions_M, values_M = entries
    flat_K = np.empty(counts_T.max(), np.int64)
    entry = 0
    for tile in range(counts_T.size):
        row = first_T[tile]
        shift = begin_R[row]
        row_end = length_R[row]
        # Apart from the additions: a wrongly predicted row would hold up their loads.
        for i in range(counts_T[tile]):
            position = np.int64(positions_M[entry + i])
            while position >= row_end:
                row += 1
                shift = begin_R[row] - row_end
                row_end += length_R[row]
            flat_K[i] = shift + position
        for i in range(counts_T[tile]):
            into_N[flat_K[i]] += values_M[entry + i]
        entry += counts_T[tile]


@compiled(f"void(float32[::1], {_ROWS}, int64, {_TERMS}, float32[::1], float32)")
def _mean(
    into_N: _Floats,
    rows: _Rows,
    valid: int,
    terms: _Entries,
    weights_C: _Floats,
    divisor: np.float32,
) -> None:
    """Sum up one tile at a time; a divisor of 0 stands for the sum of weights."""
    begin_R, length_R, first_T = rows
    counts_CT, positions_M, values_M = terms
    next_C = np.zeros(weights_C.size, np.int64)
    for c in range(1, weights_C.size):
        next_C[c] = next_C[c - 1] + counts_CT[c - 1].sum()
    sums_V = np.empty(valid, np.float32)
    tally_V = np.empty(valid, np.float32)
    for tile in range(counts_CT.shape[1]):
        sums_V[:] = 0.0
        tally_V[:] = divisor
        for c in range(counts_CT.shape[0]):
            weight = weights_C[c] if divisor == 0 else np.float32(0.0)
            for entry in range(next_C[c], next_C[c] + counts_CT[c, tile]):
                position = positions_M[entry]
                sums_V[position] += values_M[entry]
                tally_V[position] += weight
            next_C[c] += counts_CT[c, tile]
        place = 0
        for r in range(first_T[tile], first_T[tile + 1]):
            row = into_N[begin_R[r] : begin_R[r] + length_R[r]]
            sums = sums_V[place : place + length_R[r]]
            tally = tally_V[place : place + length_R[r]]
            for i in range(row.size):
                row[i] = sums[i] / tally[i] if tally[i] > 0 else np.float32(0.0)
            place += length_R[r]
