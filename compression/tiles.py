"""How a shard is cut into tiles, and tiles into spans that are encoded on their own.

A matrix is cut into square tiles, as if padded with zeros to full ones; leading dimensions of
higher ranks count as rows. All tensors of rank 0 or 1 are joined into one stream, cut every
``chunk`` entries. A position counts only the entries of a tile that exist, row by row, so that
padding has no position and can be neither selected nor named by a payload.

Tiles of equal extent are listed together, in the order of the wire: extents by first appearance,
the stream's last; within an extent by tensor, then row-major. A span is a run of such tiles, 4 Mi
entries when they are full: at 64 of 4096 its gap bytes fill half a zstandard block, and the
Huffman table of each frame costs 0.1 % of the payload (measured; 0.4 % at 1 Mi entries).

Shape suffixes: T tiles of a span, R rows of all its tiles, S tensors of the stream.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

import numpy as np
from numpy.typing import NDArray

from skerry.compression.options import CodecOptions

SPAN_ENTRIES = 2**22


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Where the entries of a span's tiles lie in the flat shard, row after row."""

    begin_R: NDArray[np.int64]
    """Flat index of each row's first entry."""
    length_R: NDArray[np.int64]
    first_T: NDArray[np.int64]
    """First row of each tile; [T + 1], the last one is R."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The tiles of equal extent of one matrix, row-major."""

    origin: int
    """Flat index of the first tile's first entry."""
    stride: int
    """Flat distance between two rows: the matrix's width."""
    side: int
    columns: int
    """Tiles side by side."""
    num_tiles: int

    def bases(self, first: int, stop: int) -> NDArray[np.int64]:
        """Return the flat index of the first entry of the tiles ``first`` to ``stop``."""
        tile_rows, tile_columns = np.divmod(np.arange(first, stop), self.columns)
        return self.origin + self.side * (tile_rows * self.stride + tile_columns)


@dataclass(frozen=True, slots=True)
class MatrixSpan:
    """Tiles of ``height`` x ``width`` existing entries, of any number of matrices."""

    height: int
    width: int
    keep: int
    """Entries kept of each tile."""
    pieces: tuple[tuple[Grid, int, int], ...]
    """Grids, and which of their tiles: the first, and the one behind the last."""

    @property
    def valid(self) -> int:
        """Existing entries of each tile."""
        return self.height * self.width

    @property
    def num_tiles(self) -> int:
        """Number of tiles."""
        return sum(stop - first for _, first, stop in self.pieces)

    def rows(self) -> Rows:
        """Return where the entries lie."""
        within_H = np.arange(self.height)
        begin = [
            (grid.bases(first, stop)[:, None] + grid.stride * within_H).ravel()
            for grid, first, stop in self.pieces
        ]
        begin_R = np.concatenate(begin)
        first_T = np.arange(self.num_tiles + 1) * self.height
        return Rows(begin_R, np.full(begin_R.size, self.width), first_T)


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """All tensors of rank 0 or 1, end to end."""

    starts_S: NDArray[np.int64]
    """Place of each tensor's first entry in the stream."""
    shifts_S: NDArray[np.int64]
    """What to add to a place in the stream to get a flat index, by tensor."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamSpan:
    """Tiles of ``valid`` consecutive entries of the stream."""

    valid: int
    keep: int
    """Entries kept of each tile."""
    num_tiles: int
    first_place: int
    """Place of the first entry in the stream."""
    stream: Stream

    def rows(self) -> Rows:
        """Return where the entries lie: a row ends with its tensor or its tile."""
        tiles_T = self.first_place + self.valid * np.arange(self.num_tiles)
        end = self.first_place + self.valid * self.num_tiles
        starts_S = self.stream.starts_S
        inside = starts_S[(starts_S > self.first_place) & (starts_S < end)]
        places_R = np.union1d(tiles_T, inside)
        tensors_R = np.searchsorted(starts_S, places_R, side="right") - 1
        return Rows(
            begin_R=places_R + self.stream.shifts_S[tensors_R],
            length_R=np.diff(places_R, append=end),
            first_T=np.append(np.searchsorted(places_R, tiles_T), places_R.size),
        )


TileSpan = MatrixSpan | StreamSpan


def kept_entries(options: CodecOptions, valid: int) -> int:
    """Return how many of a tile's existing entries are kept: k of ``chunk``, at least one."""
    return max(1, round(options.k * valid / options.chunk))


def tile_spans(shapes: Sequence[tuple[int, ...]], options: CodecOptions) -> tuple[TileSpan, ...]:
    """Cut a shard of tensors of these shapes, in layout order; together they hold each entry once.

    Raises: ValueError on a negative dimension.
    """
    if any(size < 0 for shape in shapes for size in shape):
        raise ValueError(f"negative dimension in {shapes}")
    # A scalar's prod is 1 and an empty tensor's is 0, which leaves no tile of it.
    sizes = [prod(shape) for shape in shapes]
    offsets = list(accumulate(sizes, initial=0))[:-1]
    placed = [item for item in zip(shapes, sizes, offsets, strict=True) if item[1]]
    matrices = [(s[-1], size, offset) for s, size, offset in placed if len(s) >= 2]
    vectors = [(size, offset) for s, size, offset in placed if len(s) < 2]
    return (*_matrix_spans(matrices, options), *_stream_spans(vectors, options))


def _matrix_spans(
    matrices: list[tuple[int, int, int]], options: CodecOptions
) -> Iterator[MatrixSpan]:
    """Yield the spans of matrices given as (width, entries, offset)."""
    grids: dict[tuple[int, int], list[Grid]] = {}
    for width, size, offset in matrices:
        for first_row, tile_rows, height in _bands(size // width, options.side):
            for first_column, columns, tile_width in _bands(width, options.side):
                origin = offset + first_row * width + first_column
                grid = Grid(origin, width, options.side, columns, tile_rows * columns)
                grids.setdefault((height, tile_width), []).append(grid)
    for (height, width), members in grids.items():
        keep = kept_entries(options, height * width)
        for pieces in _runs(members, SPAN_ENTRIES // options.chunk):
            yield MatrixSpan(height, width, keep, pieces)


def _bands(size: int, side: int) -> list[tuple[int, int, int]]:
    """Cut one dimension into full tiles and the rest: (first entry, number of tiles, extent)."""
    full, rest = divmod(size, side)
    bands = [(0, full, side), (full * side, 1, rest)]
    return [band for band in bands if band[1] and band[2]]


def _runs(grids: list[Grid], most: int) -> Iterator[tuple[tuple[Grid, int, int], ...]]:
    """Cut the tiles of grids, end to end, into runs of at most ``most``."""
    pieces: list[tuple[Grid, int, int]] = []
    room = most
    for grid in grids:
        first = 0
        while first < grid.num_tiles:
            stop = min(grid.num_tiles, first + room)
            pieces.append((grid, first, stop))
            room -= stop - first
            first = stop
            if not room:
                yield tuple(pieces)
                pieces, room = [], most
    if pieces:
        yield tuple(pieces)


def _stream_spans(vectors: list[tuple[int, int]], options: CodecOptions) -> Iterator[StreamSpan]:
    """Yield the spans of the stream of vectors given as (entries, offset)."""
    *places, total = accumulate((size for size, _ in vectors), initial=0)
    starts_S = np.array(places, dtype=np.int64)
    shifts_S = np.array([offset for _, offset in vectors], dtype=np.int64) - starts_S
    stream = Stream(starts_S, shifts_S)
    full, rest = divmod(total, options.chunk)
    most = SPAN_ENTRIES // options.chunk
    for first in range(0, full, most):
        tiles = min(most, full - first)
        yield StreamSpan(options.chunk, options.k, tiles, first * options.chunk, stream)
    if rest:
        yield StreamSpan(rest, kept_entries(options, rest), 1, full * options.chunk, stream)
