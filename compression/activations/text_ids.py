"""The codec of text token ids: each takes the bits that the vocabulary needs.

A payload, all integers little-endian:

    version u8 | bits u8 | count u32      6 bytes
    ids           ``bits`` bits each, lowest first, lowest id first; padded with 0 bits

A vocabulary of 262,144 needs 18 bits, so 2.25 bytes per text token.

Shape suffixes: T text tokens, B bits of an id, 4 bytes of an id.
"""

import struct

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skerry.compression.errors import CompressionError

VERSION = 1
MAX_VOCAB_SIZE = 2**32
_HEADER = struct.Struct("<BBI")
_MAX_COUNT = 2**32 - 1


def id_bits(vocab_size: int) -> int:
    """Return the bits per id. Raises: ValueError unless 1 <= vocab_size <= 2^32."""
    if not 1 <= vocab_size <= MAX_VOCAB_SIZE:
        raise ValueError(f"vocabulary of {vocab_size}, allowed 1..{MAX_VOCAB_SIZE}")
    return max(1, (vocab_size - 1).bit_length())


def ids_bytes(count: int, vocab_size: int) -> int:
    """Return the length of a payload of ``count`` ids."""
    return _HEADER.size + (count * id_bits(vocab_size) + 7) // 8


def encode_ids(ids_T: Tensor, vocab_size: int) -> bytes:
    """Return the payload of ids [T], of any integer type and on any device.

    Raises: CompressionError("id-out-of-range"); ValueError on another form or vocabulary.
    """
    bits = id_bits(vocab_size)
    if ids_T.dim() != 1 or ids_T.is_floating_point() or ids_T.numel() > _MAX_COUNT:
        raise ValueError(f"ids are {ids_T.dtype} {list(ids_T.shape)}, need integers [T]")
    values_T = ids_T.long().cpu().numpy()
    _require_known(values_T, vocab_size)
    bytes_T4 = values_T.astype("<u4").view(np.uint8).reshape(-1, 4)
    bits_TB = np.unpackbits(bytes_T4, axis=1, count=bits, bitorder="little")
    packed = np.packbits(bits_TB, bitorder="little").tobytes()
    return _HEADER.pack(VERSION, bits, values_T.size) + packed


def decode_ids(payload: bytes, count: int, vocab_size: int) -> Tensor:
    """Return the ids [count] int64 of a payload from anywhere.

    Raises: CompressionError, and no other error: too-short, bad-version, wrong-bits, wrong-count,
        wrong-length, bad-padding, id-out-of-range; ValueError on another vocabulary.
    """
    bits = id_bits(vocab_size)
    _require_header(payload, bits, count)
    if len(payload) != ids_bytes(count, vocab_size):
        detail = f"{len(payload)} bytes, need {ids_bytes(count, vocab_size)}"
        raise CompressionError("wrong-length", detail)
    packed = np.frombuffer(payload, np.uint8, offset=_HEADER.size)
    flags = np.unpackbits(packed, bitorder="little")
    if flags[count * bits :].any():
        raise CompressionError("bad-padding", "bits behind the last id are set")
    bits_TB = np.zeros((count, 32), np.uint8)
    bits_TB[:, :bits] = flags[: count * bits].reshape(count, bits)
    bytes_T4 = np.packbits(bits_TB, axis=1, bitorder="little")
    values_T = bytes_T4.view("<u4").ravel().astype(np.int64)
    _require_known(values_T, vocab_size)
    return torch.from_numpy(values_T)


def _require_header(payload: bytes, bits: int, count: int) -> None:
    if len(payload) < _HEADER.size:
        raise CompressionError("too-short", f"{len(payload)} bytes, need {_HEADER.size}")
    names = ("bad-version", "wrong-bits", "wrong-count")
    needed = (VERSION, bits, count)
    for reason, got, need in zip(names, _HEADER.unpack_from(payload), needed, strict=True):
        if got != need:
            raise CompressionError(reason, f"{got}, need {need}")


def _require_known(values_T: NDArray[np.int64], vocab_size: int) -> None:
    unknown_T = values_T[(values_T < 0) | (values_T >= vocab_size)]
    if unknown_T.size:
        raise CompressionError("id-out-of-range", f"{unknown_T[0]} of {vocab_size}")
