"""How a shard is cut into tiles, and which entries of a tile are kept.

A matrix is cut into 64x64 tiles, as if padded with zeros to full ones; leading dimensions of
higher ranks count as rows. All tensors of rank 0 or 1 are joined into one stream, cut every 4096
entries. A position counts only the entries of a tile that exist, row by row, so that padding has
no position and can be neither selected nor named by a payload.

Tiles of equal area form a group and are processed together. Their order, which is that of the
wire: groups by first appearance, the stream's last; within a group by tensor, then row-major.

Shape suffixes: T tiles, V existing entries of a tile, K kept entries of a tile, P positions,
S tensors of the stream.
"""

from dataclasses import dataclass
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

TILE_SIDE = 64
TILE_ENTRIES = TILE_SIDE * TILE_SIDE


@dataclass(frozen=True, slots=True, eq=False)
class MatrixTiles:
    """Tiles of ``height`` x ``width`` existing entries, of any number of matrices."""

    height: int
    width: int
    keep: int
    base_T: Tensor
    """Flat index of each tile's first entry."""
    stride_T: Tensor
    """Flat distance between two rows: the matrix's width."""

    @property
    def valid(self) -> int:
        """Existing entries of each tile."""
        return self.height * self.width

    @property
    def num_tiles(self) -> int:
        """Number of tiles."""
        return self.base_T.numel()

    def flat_indices(self, tiles_T: Tensor, positions_TP: Tensor) -> Tensor:
        """Return the flat indices [T, P] of positions in the chosen tiles; T may be broadcast."""
        rows_TP = positions_TP // self.width
        columns_TP = positions_TP - rows_TP * self.width
        stride_T1 = self.stride_T[tiles_T].unsqueeze(1)
        return rows_TP * stride_T1 + columns_TP + self.base_T[tiles_T].unsqueeze(1)


@dataclass(frozen=True, slots=True, eq=False)
class StreamTiles:
    """Chunks of ``valid`` entries of the stream of all 1-D tensors."""

    valid: int
    keep: int
    base_T: Tensor
    """Place of each chunk's first entry in the stream."""
    starts_S: Tensor
    """Place of each tensor's first entry in the stream."""
    shifts_S: Tensor
    """What to add to a place in the stream to get a flat index, by tensor."""

    @property
    def num_tiles(self) -> int:
        """Number of chunks."""
        return self.base_T.numel()

    def flat_indices(self, tiles_T: Tensor, positions_TP: Tensor) -> Tensor:
        """Return the flat indices [T, P] of positions in the chosen chunks; T may be broadcast."""
        places_TP = positions_TP + self.base_T[tiles_T].unsqueeze(1)
        tensors_TP = torch.searchsorted(self.starts_S, places_TP, right=True) - 1
        return places_TP + self.shifts_S[tensors_TP]


TileGroup = MatrixTiles | StreamTiles


def kept_entries(k: int, valid: int) -> int:
    """Return how many of a tile's existing entries are kept: k of 4096, at least one."""
    return max(1, round(k * valid / TILE_ENTRIES))


def tile_groups(shapes: tuple[tuple[int, ...], ...], k: int) -> tuple[TileGroup, ...]:
    """Cut a shard of tensors of these shapes, in layout order; together they hold each entry once.

    Raises: ValueError on a negative dimension or k outside 1..4096.
    """
    if not 1 <= k <= TILE_ENTRIES:
        raise ValueError(f"k is {k}, allowed 1..{TILE_ENTRIES}")
    if any(size < 0 for shape in shapes for size in shape):
        raise ValueError(f"negative dimension in {shapes}")
    # A scalar's prod is 1 and an empty tensor's is 0, which leaves no tile of it.
    sizes = [prod(shape) for shape in shapes]
    offsets = list(accumulate(sizes, initial=0))[:-1]
    placed = [item for item in zip(shapes, sizes, offsets, strict=True) if item[1]]
    matrices = [(s[-1], size, offset) for s, size, offset in placed if len(s) >= 2]
    vectors = [(size, offset) for s, size, offset in placed if len(s) < 2]
    return (*_matrix_groups(matrices, k), *_stream_groups(vectors, k))


def top_positions(magnitudes_TV: Tensor, keep: int) -> Tensor:
    """Return the positions [T, K] of each tile's largest entries, ascending; ties: lowest first.

    ``torch.topk`` promises nothing about which of several equal entries it returns. Its values,
    however, are determined; so only the K-th largest magnitude is taken from it, as a threshold.
    """
    num_tiles = magnitudes_TV.shape[0]
    threshold_T1 = magnitudes_TV.topk(keep, dim=1, sorted=False).values.amin(1, keepdim=True)
    chosen_TV = magnitudes_TV >= threshold_T1
    tied_T = (chosen_TV.sum(1) > keep).nonzero().squeeze(1)
    if tied_T.numel():
        chosen_TV[tied_T] = _break_ties(magnitudes_TV[tied_T], threshold_T1[tied_T], keep)
    # nonzero lists its finds in row-major order: by tile, then by ascending position.
    return chosen_TV.nonzero()[:, 1].reshape(num_tiles, keep)


def _break_ties(magnitudes_TV: Tensor, threshold_T1: Tensor, keep: int) -> Tensor:
    above_TV = magnitudes_TV > threshold_T1
    equal_TV = magnitudes_TV == threshold_T1
    missing_T1 = keep - above_TV.sum(1, keepdim=True)
    return above_TV | (equal_TV & (equal_TV.cumsum(1) <= missing_T1))


def _matrix_groups(matrices: list[tuple[int, int, int]], k: int) -> list[TileGroup]:
    """Group the tiles of matrices given as (width, entries, offset)."""
    found: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
    for width, size, offset in matrices:
        for first_row, tile_rows, height in _bands(size // width):
            for first_column, tile_columns, tile_width in _bands(width):
                rows_R1 = (first_row + TILE_SIDE * torch.arange(tile_rows)).unsqueeze(1)
                columns_C = first_column + TILE_SIDE * torch.arange(tile_columns)
                base_T = (offset + rows_R1 * width + columns_C).flatten()
                stride_T = torch.full_like(base_T, width)
                found.setdefault((height, tile_width), []).append((base_T, stride_T))
    return [
        MatrixTiles(
            height=height,
            width=width,
            keep=kept_entries(k, height * width),
            base_T=torch.cat([base for base, _ in parts]),
            stride_T=torch.cat([stride for _, stride in parts]),
        )
        for (height, width), parts in found.items()
    ]


def _bands(size: int) -> list[tuple[int, int, int]]:
    """Cut one dimension into full tiles and the rest: (first entry, number of tiles, extent)."""
    full, rest = divmod(size, TILE_SIDE)
    bands = [(0, full, TILE_SIDE), (full * TILE_SIDE, 1, rest)]
    return [band for band in bands if band[1] and band[2]]


def _stream_groups(vectors: list[tuple[int, int]], k: int) -> list[TileGroup]:
    """Cut the stream of vectors given as (entries, offset)."""
    *places, total = accumulate((size for size, _ in vectors), initial=0)
    starts_S = torch.tensor(places, dtype=torch.int64)
    shifts_S = torch.tensor([offset for _, offset in vectors], dtype=torch.int64) - starts_S
    full, rest = divmod(total, TILE_ENTRIES)
    chunks = [
        (TILE_ENTRIES, TILE_ENTRIES * torch.arange(full)),
        (rest, torch.tensor([full * TILE_ENTRIES])),
    ]
    return [
        StreamTiles(valid, kept_entries(k, valid), base_T, starts_S, shifts_S)
        for valid, base_T in chunks
        if valid and base_T.numel()
    ]
