"""Codes of ascending positions beside each other: ours, Rice, Elias-Fano, 12 bits.

Shape suffixes: T tiles, K kept entries of a tile.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from codec_bench.limits import bits_per_index
from codec_bench.results import IndexResult
from codec_bench.timing import Operation, fastest
from comparators import elias_fano, rice
from comparators.bits import pack_12, unpack_12
from skerry.compression.gaps import decode_gaps, encode_gaps
from skerry.compression.layout import max_gap_bytes
from skerry.compression.sections import pack, unpack

_LENGTH = struct.Struct("<I")

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Coder:
    """One code of positions [T, K], strictly ascending in each tile."""

    encode: Callable[[Positions], bytes]
    decode: Callable[[bytes], object]


def top_positions(entries: int, keep: int, area: int) -> Positions:
    """Return where the largest of normal entries lie, [T, K]."""
    tiles_TV = torch.randn(entries // area, area, generator=torch.Generator().manual_seed(0))
    return tiles_TV.abs().topk(keep, dim=1).indices.sort(dim=1).values.numpy()


def coders(shape: tuple[int, ...], area: int) -> dict[str, Coder]:
    """Return every code for positions of this shape, [T, K]."""
    tiles, keep = shape
    kept = tiles * keep
    return {
        "gap bytes + zstd (ours)": _ours(tiles, keep, area),
        "Rice": Coder(rice.encode, lambda data: rice.decode(data, tiles, keep)),
        "Elias-Fano": Coder(
            lambda chosen: elias_fano.encode(chosen, area),
            lambda data: elias_fano.decode(data, tiles, keep, area),
        ),
        "12 bits (reference)": Coder(
            lambda chosen: pack_12(torch.from_numpy(chosen).flatten()).numpy().tobytes(),
            lambda data: unpack_12(
                torch.from_numpy(np.frombuffer(bytearray(data), np.uint8)), kept
            ),
        ),
    }


def results(entries: int, keep: int, area: int, repetitions: int) -> Iterator[IndexResult]:
    """Yield each code's size and speed, then the limit."""
    positions_TK = top_positions(entries, keep, area)
    limit = bits_per_index(area, keep)
    table = coders(positions_TK.shape, area)
    coded = {name: coder.encode(positions_TK) for name, coder in table.items()}
    operations = {}
    for name, coder in table.items():
        operations["encode", name] = Operation(partial(coder.encode, positions_TK))
        operations["decode", name] = Operation(partial(coder.decode, coded[name]))
    seconds = fastest(operations, repetitions)
    for name, data in coded.items():
        bits = 8 * len(data) / positions_TK.size
        yield IndexResult(
            coder=name,
            keep=keep,
            area=area,
            bits_per_index=bits,
            over_limit=bits / limit - 1,
            encode_mindex_s=positions_TK.size / 1e6 / seconds["encode", name],
            decode_mindex_s=positions_TK.size / 1e6 / seconds["decode", name],
        )
    yield IndexResult(
        coder="limit: log2 C(n, k) / k",
        keep=keep,
        area=area,
        bits_per_index=limit,
        over_limit=0.0,
        encode_mindex_s=None,
        decode_mindex_s=None,
    )


def _ours(tiles: int, keep: int, area: int) -> Coder:
    """Return the codec's index code: the number of gap bytes, then the bytes through zstandard."""
    counts_T = np.full(tiles, keep, dtype=np.int64)
    most = tiles * max_gap_bytes(area, keep)

    def encode(positions_TK: Positions) -> bytes:
        gaps = encode_gaps(counts_T, positions_TK.ravel().astype(np.uint16), most).tobytes()
        return _LENGTH.pack(len(gaps)) + pack(gaps)

    def decode(data: bytes) -> object:
        (length,) = _LENGTH.unpack_from(data)
        gaps = np.frombuffer(unpack(data[_LENGTH.size :], length), np.uint8)
        return decode_gaps(gaps, counts_T, area)

    return Coder(encode, decode)
