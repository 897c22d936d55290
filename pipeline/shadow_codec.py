"""The bytes of a shadow: one shard in bf16, whole or as the difference from the shadow before it.

A few inner steps move most parameters by a few units in the last place of bf16, or not at all. So
the difference is taken between the bit patterns, as 16-bit integers that wrap around, which loses
nothing: whoever applies all deltas holds exactly what a whole shadow would have brought. Small
differences of either sign become small numbers (zigzag); high and low bytes are packed apart,
since the high ones of both forms repeat. Whichever form is shorter is sent.

    kind (1 byte: 0 whole, 1 delta) | BLAKE2b-256 of the base (32, zero if whole)
    | stored length of the high bytes (u32, little-endian) | high bytes | low bytes

Each part is a section (compression/sections.py). What it must be follows from the shard, so nothing
is allocated because a payload says so, and a delta on another base than the holder's is refused.

Shape suffix: N parameters of the shard.
"""

import struct
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skerry.compression.errors import CompressionError
from skerry.compression.sections import pack, unpack
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import HASH_BYTES

_WHOLE, _DELTA = 0, 1
_HEADER = struct.Struct(f"<B{HASH_BYTES}sI")
_NO_BASE = bytes(HASH_BYTES)
_SIGN_BIT = 15


def encode_shadow(values_N: Tensor, base_N: Tensor | None) -> bytes:
    """Encode one shard, to the nearest bf16.

    Args:
        values_N: [N] f32 or bf16.
        base_N: [N] bf16, the shadow that the holder has confirmed; None if it has none.
    """
    bits_N = _bits(values_N.detach().cpu().to(torch.bfloat16))
    whole = _packed(_WHOLE, _NO_BASE, bits_N)
    if base_N is None:
        return whole
    before_N = _bits(base_N)
    moved_N = (bits_N - before_N).view(np.int16)
    zigzag_N = ((moved_N << 1) ^ (moved_N >> _SIGN_BIT)).view(np.uint16)
    delta = _packed(_DELTA, _hash(before_N), zigzag_N)
    return min(whole, delta, key=len)


def is_delta(payload: bytes) -> bool:
    """Say whether a payload needs the shadow before it."""
    return payload[:1] == bytes([_DELTA])


def decode_shadow(payload: bytes, numel: int, base_N: Tensor | None) -> Tensor:
    """Return the shard [N] bf16 that a payload and the shadow before it make.

    Args:
        numel: N, of the shard's layout.
        base_N: [N] bf16, what is held so far; None if nothing is.
    Raises: ProtocolError("shadow") if the payload is not one of N parameters,
    ProtocolError("shadow-base") if it is a delta upon another shadow: ask for a whole one.
    """
    kind, base, high_bytes = _header(payload)
    if kind == _WHOLE:
        return _tensor(_unpacked(payload, high_bytes, numel))
    before_N = None if base_N is None else _bits(base_N)
    if before_N is None or before_N.size != numel or _hash(before_N) != base:
        raise ProtocolError("shadow-base", "a delta upon a shadow that is not the one held here")
    zigzag_N = _unpacked(payload, high_bytes, numel)
    moved_N = (zigzag_N >> 1) ^ (-(zigzag_N & 1).astype(np.int16)).view(np.uint16)
    return _tensor(before_N + moved_N)


def _header(payload: bytes) -> tuple[int, bytes, int]:
    if len(payload) < _HEADER.size:
        raise ProtocolError("shadow", f"a shadow of {len(payload)} bytes")
    kind, base, high_bytes = _HEADER.unpack_from(payload)
    if kind not in (_WHOLE, _DELTA) or high_bytes > len(payload) - _HEADER.size:
        raise ProtocolError("shadow", f"kind {kind}, high part of {high_bytes} bytes")
    if kind == _WHOLE and base != _NO_BASE:
        raise ProtocolError("shadow", "a whole shadow that names a base")
    return kind, base, high_bytes


def _packed(kind: int, base: bytes, words_N: NDArray[np.uint16]) -> bytes:
    planes = words_N.astype("<u2", copy=False).view(np.uint8).reshape(-1, 2)
    high, low = (pack(np.ascontiguousarray(planes[:, side]).tobytes()) for side in (1, 0))
    return b"".join((_HEADER.pack(kind, base, len(high)), high, low))


def _unpacked(payload: bytes, high_bytes: int, numel: int) -> NDArray[np.uint16]:
    middle = _HEADER.size + high_bytes
    try:
        high = unpack(payload[_HEADER.size : middle], numel)
        low = unpack(payload[middle:], numel)
    except CompressionError as error:
        raise ProtocolError("shadow", str(error)) from None
    words_N = np.frombuffer(high, np.uint8).astype(np.uint16)
    words_N <<= 8
    words_N |= np.frombuffer(low, np.uint8)
    return words_N


def _bits(values_N: Tensor) -> NDArray[np.uint16]:
    return values_N.contiguous().view(torch.int16).numpy().view(np.uint16)


def _tensor(bits_N: NDArray[np.uint16]) -> Tensor:
    return torch.from_numpy(bits_N.view(np.int16)).view(torch.bfloat16)


def _hash(bits_N: NDArray[np.uint16]) -> bytes:
    return blake2b(bits_N.astype("<u2", copy=False).tobytes(), digest_size=HASH_BYTES).digest()
