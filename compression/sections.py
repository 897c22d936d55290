"""A section of a payload: bytes as they are or, where that is shorter, one zstandard frame.

Which of the two is told by the lengths: stored and raw length are equal, or the stored one is
smaller. Frames carry no checksum (the payload has one) and say how large their content is.
Gap bytes have no matches worth finding; what counts is zstandard's Huffman stage. Level 1 with
the longest minimal match gives the same size as level 12, twice as fast (measured).
"""

import zstandard

from skerry.compression.errors import CompressionError

_PARAMETERS = zstandard.ZstdCompressionParameters.from_level(1, min_match=7)
_MIN_WINDOW = 1024
"""Smallest window a frame header can ask for."""


def pack(raw: bytes) -> bytes:
    """Return whichever is shorter: the bytes themselves or one zstandard frame of them."""
    packed = zstandard.ZstdCompressor(compression_params=_PARAMETERS).compress(raw)
    return packed if len(packed) < len(raw) else raw


def unpack(stored: bytes, raw_length: int) -> bytes:
    """Return the ``raw_length`` bytes; allocates no more than a small multiple of that.

    The caller has checked ``raw_length`` against what the layout allows.
    Raises: CompressionError with reason wrong-length or bad-zstd.
    """
    if len(stored) == raw_length:
        return stored
    if len(stored) > raw_length:
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
    window = max(raw_length, _MIN_WINDOW)
    if announced.window_size > window:
        raise CompressionError("bad-zstd", f"window of {announced.window_size} bytes")
    decompressor = zstandard.ZstdDecompressor(max_window_size=window)
    raw = decompressor.decompress(frame, max_output_size=raw_length, allow_extra_data=False)
    if len(raw) != raw_length:
        raise CompressionError("bad-zstd", f"{len(raw)} bytes, not {raw_length}")
    return raw
