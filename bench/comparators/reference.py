"""The scheme of SparseLoCo: top-k per 64x64 tile, 2-bit values, 12-bit positions.

Written from the paper (Covenant-72B, arXiv:2603.08163, section 2.1) in plain torch, as fast as
that allows: no loop over tiles, no synchronisation, indices as narrow as torch takes them. The
caller updates the error feedback, ``e <- beta e + delta``, before ``encode``. Where paper and
published code differ, this follows the paper, and says what the code would send:

- a matrix is cut into tiles of the largest divisors up to 64 of its sides, a vector into runs of
  the largest divisor up to 4096; k is scaled with a tile's size so that the density is the same;
- values are packed four to a byte; the published code ships one byte each (``shipped_bytes``);
- an entry's mean is over the peers that sent it, as in the published code.

Shape suffixes: N entries of the shard, T tiles of a tensor, V entries of a tile, K kept entries of
a tile, M kept entries of a tensor, R contributions, B bytes, C symbols of the codebook.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

from comparators.bits import pack_2, pack_12, unpack_2, unpack_12
from comparators.quantiser import quantise

TILE_SIDE = 64
TILE_ENTRIES = TILE_SIDE * TILE_SIDE
SYMBOLS = 4
_PARAMETER_BYTES = 4 * (1 + SYMBOLS)
"""What the quantiser of one tensor sends beside the symbols: shift and codebook in f32."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedTensor:
    """What is sent of one tensor."""

    positions_B: Tensor
    """u8: 12 bits for each kept entry, tile by tile."""
    symbols_B: Tensor
    """u8: 2 bits for each kept entry."""
    codebook_C: Tensor
    """[4] f32: the value of each symbol, the shift included."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferencePayload:
    """What is sent of one shard."""

    tensors: tuple[QuantisedTensor, ...]
    kept: int
    """Entries sent."""

    @property
    def index_bytes(self) -> int:
        """Bytes of the positions."""
        return sum(tensor.positions_B.numel() for tensor in self.tensors)

    @property
    def num_bytes(self) -> int:
        """Bytes as the paper counts them, the quantiser's parameters included."""
        symbols = sum(tensor.symbols_B.numel() for tensor in self.tensors)
        return self.index_bytes + symbols + _PARAMETER_BYTES * len(self.tensors)

    @property
    def shipped_bytes(self) -> int:
        """Bytes as the published code sends them: a whole byte for each 2-bit symbol."""
        return self.index_bytes + self.kept + _PARAMETER_BYTES * len(self.tensors)


@dataclass(frozen=True, slots=True)
class _Tiling:
    """How one tensor is seen as tiles: its rows by columns, cut into height by width."""

    first: int
    """Flat index of the tensor's first entry."""
    rows: int
    columns: int
    height: int
    width: int
    keep: int

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def across(self) -> int:
        """Tiles side by side."""
        return self.columns // self.width

    @property
    def num_tiles(self) -> int:
        return self.across * (self.rows // self.height)

    def tiles(self, feedback_N: Tensor) -> Tensor:
        """Return the tensor's entries by tile, [T, V]; a copy unless the tiles are contiguous."""
        part = feedback_N[self.first : self.first + self.size]
        cut = part.view(-1, self.height, self.across, self.width).transpose(1, 2)
        return cut.reshape(-1, self.height * self.width)

    def join(self, tiles_TV: Tensor) -> Tensor:
        """Return the entries in the tensor's own order, the inverse of ``tiles``."""
        return tiles_TV.view(-1, self.across, self.height, self.width).transpose(1, 2).reshape(-1)

    def flat_indices(self, positions_TK: Tensor) -> Tensor:
        """Return where positions within the tiles lie in the shard, [T, K]."""
        tiles_T1 = torch.arange(self.num_tiles).unsqueeze(1)
        corner_T1 = tiles_T1 // self.across * (self.height * self.columns)
        corner_T1 += tiles_T1 % self.across * self.width + self.first
        if self.height == 1 or self.width == self.columns:
            return positions_TK + corner_T1
        rows_TK = positions_TK // self.width
        return positions_TK + rows_TK * (self.columns - self.width) + corner_T1


class ReferenceScheme:
    """Encodes and decodes one shard; holds no state."""

    def __init__(self, shapes: tuple[tuple[int, ...], ...], k: int) -> None:
        """Lay out a shard with these tensors, one after the other; k of 4096 are kept."""
        sizes = [prod(shape) for shape in shapes]
        firsts = accumulate(sizes, initial=0)
        placed = zip(shapes, sizes, firsts, strict=False)
        self._tilings = tuple(_tiling(shape, first, k) for shape, size, first in placed if size)
        self.numel = sum(sizes)
        """Entries of the shard."""

    def encode(self, feedback_N: Tensor) -> ReferencePayload:
        """Return the payload of the largest entries; subtract what it decodes to, in place.

        Args:
            feedback_N: [N] f32 in main memory, after this round's update.
        """
        tensors = tuple(_encode_tensor(feedback_N, tiling) for tiling in self._tilings)
        return ReferencePayload(tensors, sum(t.num_tiles * t.keep for t in self._tilings))

    def decode(self, payload: ReferencePayload) -> tuple[Tensor, Tensor]:
        """Return the flat indices [M] int64, ascending, and their values [M] f32."""
        pairs = zip(self._tilings, payload.tensors, strict=True)
        parts = [(tiling, *_unpack(tiling, tensor)) for tiling, tensor in pairs]
        indices_M = torch.cat([t.flat_indices(place).flatten() for t, place, _ in parts])
        values_M = torch.cat([values.flatten() for _, _, values in parts])
        indices_M, order_M = indices_M.sort()
        return indices_M, values_M[order_M]

    def add(self, payload: ReferencePayload, total_N: Tensor) -> None:
        """Add what one peer sent to ``total_N`` [N] f32, through the scheme's own decoder."""
        total_N.add_(self.mean([payload]))

    def mean(self, payloads: Sequence[ReferencePayload]) -> Tensor:
        """Return [N] f32: each entry's mean over the peers that sent it, 0 where nobody did."""
        mean_N = torch.empty(self.numel)
        for number, tiling in enumerate(self._tilings):
            sent = [_unpack(tiling, payload.tensors[number]) for payload in payloads]
            positions_TM = torch.cat([positions_TK for positions_TK, _ in sent], 1)
            values_TM = torch.cat([values_TK for _, values_TK in sent], 1)
            tiles_TV = torch.zeros(tiling.num_tiles, tiling.height * tiling.width)
            tiles_TV.scatter_reduce_(1, positions_TM, values_TM, "mean", include_self=False)
            mean_N[tiling.first : tiling.first + tiling.size] = tiling.join(tiles_TV)
        return mean_N


def _tiling(shape: tuple[int, ...], first: int, k: int) -> _Tiling:
    """Cut one tensor; leading dimensions of higher ranks count as rows."""
    columns = shape[-1] if shape else 1
    rows = prod(shape) // columns
    flat = len(shape) < 2
    height = 1 if flat else _largest_divisor(rows, TILE_SIDE)
    width = _largest_divisor(columns, TILE_ENTRIES if flat else TILE_SIDE)
    keep = max(1, round(k * height * width / TILE_ENTRIES))
    return _Tiling(first, rows, columns, height, width, keep)


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


def _encode_tensor(feedback_N: Tensor, tiling: _Tiling) -> QuantisedTensor:
    tiles_TV = tiling.tiles(feedback_N)
    positions_TK = tiles_TV.abs().topk(tiling.keep, dim=1, sorted=False).indices
    symbols_M, codebook_C = quantise(tiles_TV.gather(1, positions_TK).flatten(), SYMBOLS)
    sent_M = codebook_C[symbols_M.int()]
    feedback_N.index_add_(0, tiling.flat_indices(positions_TK).flatten(), sent_M, alpha=-1)
    return QuantisedTensor(pack_12(positions_TK.flatten()), pack_2(symbols_M), codebook_C)


def _unpack(tiling: _Tiling, tensor: QuantisedTensor) -> tuple[Tensor, Tensor]:
    """Return positions within the tiles [T, K] int64 and their values [T, K]."""
    form = (tiling.num_tiles, tiling.keep)
    positions_TK = unpack_12(tensor.positions_B, prod(form)).view(form)
    symbols_M = unpack_2(tensor.symbols_B, prod(form))
    return positions_TK, tensor.codebook_C[symbols_M.int()].view(form)
