"""The pseudo-gradient codec "topk-sign": top-k per tile, signs, one scale per tile, gap bytes.

Algorithm: SparseLoCo (arXiv:2603.08163, section 2.1) with other values: a sign per kept entry and
the mean magnitude of the tile's kept entries, which has a lower error than the reference's 2 bits.

A payload, all integers little-endian:

    magic "SKPG" | version u8 | codec u8 | storage u8 | layout digest 8 | gap length u32
    | stored length u32 | checksum 8                                  31 bytes
    scale codes   one byte per tile, in the order of tiles.py; tiles of code 0 send nothing more
    signs         one bit per kept entry, lowest bit first, 1 is negative; padded with 0 bits
    gaps          stored length bytes: raw or one zstandard frame of gap length gap bytes

The checksum (BLAKE2b, 8 bytes) covers everything else; it finds damage, not forgery. What the
decoder allocates follows from shapes and k: each length is checked first.

Shape suffixes: N entries of the shard, T tiles, V existing entries of a tile, K kept entries of a
tile, M kept entries of all tiles.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skerry.compression.drift import Drift, fold
from skerry.compression.errors import CompressionError
from skerry.compression.gaps import (
    Storage,
    compress_gaps,
    decode_gaps,
    decompress_gaps,
    encode_gaps,
    max_gap_bytes,
)
from skerry.compression.options import CodecOptions
from skerry.compression.scales import SCALES, scale_codes
from skerry.compression.tiles import TileGroup, tile_groups, top_positions

MAGIC = b"SKPG"
VERSION = 1
TOPK_SIGN = 1
_HEADER = struct.Struct("<4sBBB8sII8s")
_DIGEST_BYTES = 8
_MAX_LENGTH = 2**32 - 1
_BATCH_ENTRIES = 2**20
"""Entries handled at once when encoding; about 40 bytes of memory each."""


@dataclass(frozen=True, slots=True, eq=False)
class SparseUpdate:
    """The entries that one peer sent of one shard."""

    indices: Tensor
    """[M] int64, strictly ascending flat indices."""
    values: Tensor
    """[M] f32, finite."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one batch of tiles contributes to each section of a payload."""

    codes: NDArray[np.uint8]
    signs: NDArray[np.bool_]
    gaps: NDArray[np.uint8]


class PseudoGradientCodec:
    """Turns the error feedback of one shard into a payload, and a payload into entries."""

    def __init__(self, shapes: tuple[tuple[int, ...], ...], options: CodecOptions) -> None:
        """Lay out the tiles of a shard with these tensors, in layout order.

        Raises: ValueError if the shard is too large for 4 GiB of gaps.
        """
        k = options.k
        self._groups = tile_groups(shapes, k)
        counts = [group.num_tiles for group in self._groups]
        gap_limits = [max_gap_bytes(group.valid, group.keep) for group in self._groups]
        self._keep_T = np.repeat([group.keep for group in self._groups], counts).astype(np.int64)
        self._gap_limit_T = np.repeat(gap_limits, counts).astype(np.int64)
        self._layout_digest = _layout_digest(shapes, k)
        self.numel = sum(group.valid * group.num_tiles for group in self._groups)
        """Entries of the shard."""
        self.max_payload_bytes = self._max_payload_bytes()
        """No payload is longer: every tile sends, and zstandard gains nothing."""
        if self.max_payload_bytes > _MAX_LENGTH:
            raise ValueError(f"shard of {self.numel} entries needs more than {_MAX_LENGTH} bytes")

    def encode(self, feedback: Tensor, drift: Drift | None = None) -> bytes:
        """Return the payload of the largest entries; subtract what it decodes to, in place.

        With ``drift`` one round is folded into the feedback first, in the same pass.

        Afterwards ``feedback`` is, bit for bit, what it was minus what ``decode`` returns; this
        includes the rounding of magnitudes to the tile's scale.

        Args:
            feedback: [N] f32 in main memory.
        Raises: CompressionError("non-finite"), feedback untouched; ValueError on another form.
        """
        form = (feedback.dtype, feedback.device.type, tuple(feedback.shape))
        if form != (torch.float32, "cpu", (self.numel,)):
            raise ValueError(f"feedback is {form}, need f32 [{self.numel}] in main memory")
        if not bool(torch.isfinite(feedback).all()):
            raise CompressionError("non-finite", "error feedback holds an infinity or NaN")
        if drift is not None:
            fold(feedback, drift)
        parts = [
            _encode_tiles(feedback, group, tiles_T)
            for group in self._groups
            for tiles_T in _batches(group)
        ]
        return self._seal(parts)

    def check(self, payload: bytes) -> None:
        """Decode without a result. Raises: CompressionError as ``decode`` does."""
        self.decode(payload)

    def add(self, payload: bytes, into: Tensor, factor: float = 1.0) -> None:
        """Add ``factor`` times the entries of a payload to ``into`` [N] f32, in place.

        Raises: CompressionError as ``decode`` does, with ``into`` untouched.
        """
        update = self.decode(payload)
        into.index_add_(0, update.indices, update.values * torch.tensor(factor))

    def decode(self, payload: bytes) -> SparseUpdate:
        """Return the entries of a payload from anywhere.

        Raises: CompressionError, and no other error, whose reason is one of
            too-long, too-short, bad-magic, bad-version, bad-codec, wrong-layout, bad-checksum,
            bad-storage, wrong-length, bad-padding, bad-zstd, gap-count, index-out-of-range.
        """
        storage, gap_length, stored_length = self._open(payload)
        codes_T = np.frombuffer(payload, np.uint8, self._keep_T.size, _HEADER.size)
        count = int(self._keep_T[codes_T > 0].sum())
        first_sign = _HEADER.size + codes_T.size
        first_gap = first_sign + (count + 7) // 8
        if len(payload) != first_gap + stored_length:
            detail = f"{len(payload)} bytes, header and scales say {first_gap + stored_length}"
            raise CompressionError("wrong-length", detail)
        limit = int(self._gap_limit_T[codes_T > 0].sum())
        if not count <= gap_length <= limit:
            detail = f"{gap_length} gap bytes, allowed {count} to {limit}"
            raise CompressionError("wrong-length", detail)
        signs_M = _unpack_signs(payload[first_sign:first_gap], count)
        raw = decompress_gaps(storage, payload[first_gap:], gap_length)
        gaps_M = decode_gaps(np.frombuffer(raw, np.uint8), count)
        return self._assemble(codes_T, signs_M, gaps_M)

    def _max_payload_bytes(self) -> int:
        sign_bytes = (int(self._keep_T.sum()) + 7) // 8
        return _HEADER.size + self._keep_T.size + sign_bytes + int(self._gap_limit_T.sum())

    def _seal(self, parts: list[_Part]) -> bytes:
        """Put the sections of a payload behind its header."""
        codes = b"".join(part.codes.tobytes() for part in parts)
        signs = [part.signs for part in parts]
        sign_bytes = np.packbits(np.concatenate(signs), bitorder="little") if signs else b""
        gaps = b"".join(part.gaps.tobytes() for part in parts)
        storage, stored = compress_gaps(gaps)
        fields = (MAGIC, VERSION, TOPK_SIGN, storage, self._layout_digest, len(gaps), len(stored))
        body = b"".join((codes, bytes(sign_bytes), stored))
        unsigned = _HEADER.pack(*fields, bytes(_DIGEST_BYTES)) + body
        return _HEADER.pack(*fields, checksum(unsigned)) + body

    def _open(self, payload: bytes) -> tuple[int, int, int]:
        """Check size and header; return storage, gap length and stored length, as announced."""
        if len(payload) > self.max_payload_bytes:
            detail = f"{len(payload)} bytes, limit {self.max_payload_bytes}"
            raise CompressionError("too-long", detail)
        if len(payload) < _HEADER.size + self._keep_T.size:
            detail = f"{len(payload)} bytes, need {_HEADER.size + self._keep_T.size}"
            raise CompressionError("too-short", detail)
        magic, version, codec, storage, layout, gap_length, stored_length, digest = (
            _HEADER.unpack_from(payload)
        )
        _require(magic, MAGIC, "bad-magic")
        _require(version, VERSION, "bad-version")
        _require(codec, TOPK_SIGN, "bad-codec")
        _require(layout, self._layout_digest, "wrong-layout")
        _require(digest, checksum(payload), "bad-checksum")
        _require(storage in tuple(Storage), True, "bad-storage")
        return storage, gap_length, stored_length

    def _assemble(
        self, codes_T: NDArray[np.uint8], signs_M: NDArray[np.bool_], gaps_M: NDArray[np.int64]
    ) -> SparseUpdate:
        """Place the entries of each group of tiles and sort them by flat index."""
        indices, values = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0)]
        first_tile = first_entry = 0
        for group in self._groups:
            codes = codes_T[first_tile : first_tile + group.num_tiles]
            first_tile += group.num_tiles
            tiles = np.flatnonzero(codes)
            entries = slice(first_entry, first_entry + tiles.size * group.keep)
            first_entry = entries.stop
            gaps_TK = torch.from_numpy(gaps_M[entries]).reshape(tiles.size, group.keep)
            indices.append(_flat_indices(group, torch.from_numpy(tiles), gaps_TK).flatten())
            scales_T = SCALES[torch.from_numpy(codes[tiles].astype(np.int64))]
            signs_TK = torch.from_numpy(signs_M[entries]).reshape(tiles.size, group.keep)
            values.append(_signed(scales_T, signs_TK).flatten())
        # Tiles share no entry and positions ascend, so no flat index occurs twice.
        indices_M, order_M = torch.cat(indices).sort()
        return SparseUpdate(indices_M, torch.cat(values)[order_M])


def checksum(payload: bytes) -> bytes:
    """Return the checksum that belongs into a payload's header; of all bytes but itself."""
    view = memoryview(payload)
    digest = blake2b(view[: _HEADER.size - _DIGEST_BYTES], digest_size=_DIGEST_BYTES)
    digest.update(view[_HEADER.size :])
    return digest.digest()


def _layout_digest(shapes: tuple[tuple[int, ...], ...], k: int) -> bytes:
    """Return a digest of shapes and k, so that a payload of another layout is told at once."""
    text = f"{k};" + ";".join(",".join(map(str, shape)) for shape in shapes)
    return blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()


def _require(got: object, needed: object, reason: str) -> None:
    if got != needed:
        raise CompressionError(reason, f"{got!r}, need {needed!r}")


def _batches(group: TileGroup) -> Iterator[Tensor]:
    """Yield the tile numbers of a group in runs of bounded memory."""
    step = max(1, _BATCH_ENTRIES // group.valid)
    for first in range(0, group.num_tiles, step):
        yield torch.arange(first, min(first + step, group.num_tiles))


def _encode_tiles(feedback_N: Tensor, group: TileGroup, tiles_T: Tensor) -> _Part:
    """Select, quantise and subtract the entries of some tiles."""
    everything_1V = torch.arange(group.valid).unsqueeze(0)
    flat_TV = group.flat_indices(tiles_T, everything_1V)
    tile_values_TV = feedback_N[flat_TV]
    positions_TK = top_positions(tile_values_TV.abs(), group.keep)
    flat_TK = flat_TV.gather(1, positions_TK)
    kept_TK = tile_values_TV.gather(1, positions_TK)
    codes_T = scale_codes(kept_TK.abs())
    negative_TK = kept_TK < 0
    sent_TK = _signed(SCALES[codes_T.long()], negative_TK)
    feedback_N[flat_TK] = kept_TK - sent_TK
    active_T = codes_T > 0
    return _Part(
        codes=codes_T.numpy(),
        signs=negative_TK[active_T].flatten().numpy(),
        gaps=encode_gaps(positions_TK[active_T].numpy()),
    )


def _signed(scales_T: Tensor, negative_TK: Tensor) -> Tensor:
    """Return the decoded values [T, K]: the tile's scale with each entry's sign."""
    scales_T1 = scales_T.unsqueeze(1)
    return torch.where(negative_TK, -scales_T1, scales_T1)


def _unpack_signs(data: bytes, count: int) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if bits[count:].any():
        raise CompressionError("bad-padding", "bits behind the last sign are set")
    return bits[:count].astype(np.bool_)


def _flat_indices(group: TileGroup, tiles_T: Tensor, gaps_TK: Tensor) -> Tensor:
    """Return the flat indices [T, K] behind the gaps of the given tiles."""
    # No overflow: gaps add up to less than 255 per gap byte, of which there are below 2^32.
    positions_TK = (gaps_TK + 1).cumsum(1) - 1
    beyond_T = positions_TK[:, -1] >= group.valid
    if bool(beyond_T.any()):
        detail = f"position {int(positions_TK.max())} in a tile of {group.valid} entries"
        raise CompressionError("index-out-of-range", detail)
    return group.flat_indices(tiles_T, positions_TK)
