"""Ascending positions as gap bytes, and gap bytes through zstandard.

A gap is the number of entries skipped before a kept one, counted anew in each tile: 0 is
adjacent, so descending or repeated positions cannot be written. A gap is 255 repeated gap // 255
times, followed by gap % 255. Kept entries are spread almost evenly, so zstandard finds no
matches; its Huffman stage alone brings a gap to 7.4 bits at 64 of 4096.

Shape suffixes: T tiles, K kept entries of a tile, M kept entries of all tiles, G gap bytes.
"""

from enum import IntEnum

import numpy as np
import zstandard
from numpy.typing import NDArray

from skerry.compression.errors import CompressionError

ESCAPE = 255
_LEVEL = 1
_MIN_WINDOW = 1024
"""Smallest window a frame header can ask for."""


class Storage(IntEnum):
    """How the gap bytes are stored."""

    RAW = 0
    ZSTD = 1


def max_gap_bytes(valid: int, keep: int) -> int:
    """Return the most gap bytes of one tile: all entries not kept are skipped in one gap."""
    return keep + (valid - keep) // ESCAPE


def encode_gaps(positions_TK: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the gap bytes [G] of strictly ascending positions in each tile."""
    gaps_M = (np.diff(positions_TK, axis=1, prepend=-1) - 1).ravel()
    escapes_M, last_M = np.divmod(gaps_M, ESCAPE)
    ends_M = np.cumsum(escapes_M + 1)
    data_G = np.full(int(ends_M[-1]) if ends_M.size else 0, ESCAPE, dtype=np.uint8)
    data_G[ends_M - 1] = last_M
    return data_G


def decode_gaps(data_G: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Return ``count`` gaps [M].

    Raises: CompressionError("gap-count") if there are more or fewer, or the last is unfinished.
    """
    ends_M = np.flatnonzero(data_G != ESCAPE)
    unfinished = data_G.size > 0 and int(data_G[-1]) == ESCAPE
    if ends_M.size != count or unfinished:
        raise CompressionError("gap-count", f"{ends_M.size} complete gaps, need {count}")
    escapes_M = np.diff(ends_M, prepend=-1) - 1
    return escapes_M * ESCAPE + data_G[ends_M].astype(np.int64)


def compress_gaps(raw: bytes) -> tuple[Storage, bytes]:
    """Return whichever is smaller: the bytes themselves or one zstandard frame of them."""
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(raw) if raw else raw
    return (Storage.ZSTD, packed) if len(packed) < len(raw) else (Storage.RAW, raw)


def decompress_gaps(storage: int, stored: bytes, raw_length: int) -> bytes:
    """Return the ``raw_length`` gap bytes; allocates no more than a small multiple of that.

    The caller has checked ``raw_length`` against what the tiles allow.
    Raises: CompressionError with reason bad-storage, wrong-length or bad-zstd.
    """
    if storage == Storage.RAW:
        if len(stored) != raw_length:
            raise CompressionError("wrong-length", f"{len(stored)} raw bytes, not {raw_length}")
        return stored
    if storage != Storage.ZSTD:
        raise CompressionError("bad-storage", f"{storage} is no way of storing gap bytes")
    if len(stored) >= raw_length:
        raise CompressionError("wrong-length", f"{len(stored)} bytes for {raw_length} raw ones")
    try:
        return _inflate(stored, raw_length)
    except zstandard.ZstdError as exc:
        raise CompressionError("bad-zstd", str(exc)) from exc


def _inflate(frame: bytes, raw_length: int) -> bytes:
    """Decompress one frame; what its header asks for is checked before anything is allocated."""
    announced = zstandard.get_frame_parameters(frame)
    if announced.content_size != raw_length:
        raise CompressionError("bad-zstd", f"content size {announced.content_size}")
    # A frame of known size never needs a window larger than its content.
    if announced.window_size > max(raw_length, _MIN_WINDOW):
        raise CompressionError("bad-zstd", f"window of {announced.window_size} bytes")
    window = max(raw_length, _MIN_WINDOW)
    decompressor = zstandard.ZstdDecompressor(max_window_size=window)
    raw = decompressor.decompress(frame, max_output_size=raw_length, allow_extra_data=False)
    if len(raw) != raw_length:
        raise CompressionError("bad-zstd", f"{len(raw)} bytes, not {raw_length}")
    return raw
