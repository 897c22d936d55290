"""The bytes of one shard's contribution: written section by section, opened with every check.

All integers are little-endian:

    header        magic "SKPG" | version u8 | values u8 | k u16 | chunk u16 | layout digest 8
                  | entries u32 | raw tile bytes u32 | stored tile bytes u32 | checksum 8
                  (38 bytes)
    span table    per span of tiles.py: raw gap bytes u32 | stored gap bytes u32
    tile section  one scale code per tile (0: it sends nothing)
                  then, for "sym2", the code of larger entries of each tile that sends
                  then the number of entries u16 of each tile that sends; left out if all
                  of them send as many as the layout keeps
    spans         values, then gap bytes; tiles in order, entries by ascending position
                  "sign": one bit per entry, lowest bit first, 1 is negative, padded with 0 bits
                  "sym2": the same, then likewise one bit per entry, 1 is a larger one
                  "fp16": two bytes per entry

The tile section and each span's gap bytes are stored as they are or as one zstandard frame
(sections.py). The checksum (BLAKE2b, 8 bytes) covers everything else; it finds damage, not
forgery. Every length is checked against the layout before anything of that length is allocated.

Shape suffixes: T tiles of the shard, A tiles that send something, S spans.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from math import fsum, sqrt
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from skerry.compression.entries import Entries
from skerry.compression.errors import CompressionError
from skerry.compression.gaps import decode_gaps, encode_gaps
from skerry.compression.layout import (
    DIGEST_BYTES,
    ESCAPE,
    HEADER,
    SPAN_ROW,
    PayloadLayout,
    max_gap_bytes,
    value_bytes,
)
from skerry.compression.options import Values
from skerry.compression.sections import pack, unpack
from skerry.compression.tiles import TileSpan
from skerry.compression.values import Levels, Quantised, dequantise, square_sums

MAGIC = b"SKPG"
VERSION = 2
_NOTHING = np.zeros(0, np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class SpanParts:
    """What one span contributes to the sections of a payload."""

    levels: Levels
    counts_T: NDArray[np.int64]
    values: bytes
    raw_gaps: int
    gaps: bytes


def span_parts(span: TileSpan, quantised: Quantised) -> SpanParts:
    """Write one span."""
    sent = quantised.sent
    limit = span.num_tiles * max_gap_bytes(span.valid, span.keep)
    raw = encode_gaps(sent.counts_T, sent.positions_M, limit).tobytes()
    return SpanParts(quantised.levels, sent.counts_T, quantised.data, len(raw), pack(raw))


def seal(layout: PayloadLayout, parts: Sequence[SpanParts]) -> bytes:
    """Put the sections of a payload, all spans in order, behind its header."""
    options = layout.options
    raw_tiles = _tile_section(layout, parts)
    tiles = pack(raw_tiles)
    rows = (SPAN_ROW.pack(part.raw_gaps, len(part.gaps)) for part in parts)
    spans = (data for part in parts for data in (part.values, part.gaps))
    body = b"".join((*rows, tiles, *spans))
    entries = sum(int(part.counts_T.sum()) for part in parts)
    agreed = (MAGIC, VERSION, _values_code(options.values), options.k, options.chunk)
    header = (*agreed, layout.digest, entries, len(raw_tiles), len(tiles))
    unsigned = HEADER.pack(*header, bytes(DIGEST_BYTES)) + body
    return HEADER.pack(*header, checksum(unsigned)) + body


def checksum(payload: bytes) -> bytes:
    """Return the checksum that belongs into a payload's header; of all bytes but itself."""
    view = memoryview(payload)
    digest = blake2b(view[: HEADER.size - DIGEST_BYTES], digest_size=DIGEST_BYTES)
    digest.update(view[HEADER.size :])
    return digest.digest()


class OpenedPayload:
    """A payload whose header and tile section are checked; spans are decoded one by one."""

    def __init__(self, layout: PayloadLayout, payload: bytes) -> None:
        """Check everything but the spans' contents.

        Raises: CompressionError, and no other error, whose reason is one of too-long, too-short,
            bad-magic, bad-version, bad-codec, wrong-layout, bad-checksum, wrong-length, bad-zstd,
            bad-scale, wrong-count.
        """
        self._layout, self._payload = layout, payload
        entries, raw_tiles, stored_tiles = _open_header(layout, payload)
        first_tile_byte = HEADER.size + SPAN_ROW.size * len(layout.spans)
        first_span_byte = first_tile_byte + stored_tiles
        table = np.frombuffer(payload, "<u4", 2 * len(layout.spans), HEADER.size)
        self._lengths_S2: list[list[int]] = table.reshape(-1, 2).tolist()
        section = unpack(payload[first_tile_byte:first_span_byte], raw_tiles)
        self._codes_T, self._highs_T, self._counts_T = _open_tiles(layout, section)
        _require(int(self._counts_T.sum()), entries, "wrong-count")
        self._values_S = [self._value_bytes(i) for i in range(len(layout.spans))]
        sizes = [v + gap[1] for v, gap in zip(self._values_S, self._lengths_S2, strict=True)]
        self._starts_S = list(accumulate(sizes, initial=first_span_byte))
        _require(len(payload), self._starts_S[-1], "wrong-length")

    def entries(self, index: int) -> Entries:
        """Decode the span ``index`` of the layout; needs no other span.

        Raises: CompressionError, and no other error, whose reason is one of wrong-length,
            bad-padding, bad-zstd, gap-count, index-out-of-range, non-finite.
        """
        layout, counts_T = self._layout, self._counts(index)
        levels, data = self._levels(index), self._value_data(index)
        values_M = dequantise(layout.options.values, levels, counts_T, data)
        raw = self._raw_gaps(index, layout.spans[index].valid)
        positions_M = decode_gaps(raw, counts_T, layout.spans[index].valid)
        return Entries(counts_T, positions_M, values_M)

    def norm(self) -> float:
        """Return the L2 norm of all values, the same bits on every platform.

        Needs no position. Raises: CompressionError as ``entries`` does.
        """
        values = self._layout.options.values
        return sqrt(
            fsum(
                term
                for i in range(len(self._layout.spans))
                for term in square_sums(
                    values, self._levels(i), self._counts(i), self._value_data(i)
                )
            )
        )

    def _tiles(self, index: int) -> slice:
        return slice(*self._layout.first_tiles[index : index + 2])

    def _counts(self, index: int) -> NDArray[np.int64]:
        return self._counts_T[self._tiles(index)]

    def _levels(self, index: int) -> Levels:
        tiles = self._tiles(index)
        return Levels(self._codes_T[tiles], self._highs_T[tiles])

    def _value_bytes(self, index: int) -> int:
        return value_bytes(self._layout.options.values, int(self._counts(index).sum()))

    def _value_data(self, index: int) -> bytes:
        start = self._starts_S[index]
        return self._payload[start : start + self._values_S[index]]

    def _raw_gaps(self, index: int, valid: int) -> NDArray[np.uint8]:
        """Return a span's gap bytes, whose number is checked against what the tiles allow."""
        raw_length, stored_length = self._lengths_S2[index]
        counts_T = self._counts(index)
        least = int(counts_T.sum())
        most = least + int(((valid - counts_T[counts_T > 0]) // ESCAPE).sum())
        if not least <= raw_length <= most:
            detail = f"{raw_length} gap bytes, allowed {least} to {most}"
            raise CompressionError("wrong-length", detail)
        stop = self._starts_S[index + 1]
        raw = unpack(self._payload[stop - stored_length : stop], raw_length)
        return np.frombuffer(raw, np.uint8)


def _tile_section(layout: PayloadLayout, parts: Sequence[SpanParts]) -> bytes:
    codes_T = np.concatenate([_NOTHING, *(part.levels.codes_T for part in parts)])
    highs_T = np.concatenate([_NOTHING, *(part.levels.highs_T for part in parts)])
    counts_T = np.concatenate([np.zeros(0, np.int64), *(part.counts_T for part in parts)])
    sends_T = codes_T > 0
    highs_A = highs_T[sends_T] if highs_T.size else highs_T
    full = np.array_equal(counts_T[sends_T], layout.keep_T[sends_T])
    counts = b"" if full else counts_T[sends_T].astype("<u2").tobytes()
    return codes_T.tobytes() + highs_A.tobytes() + counts


def _open_header(layout: PayloadLayout, payload: bytes) -> tuple[int, int, int]:
    """Check size and header; return entries, raw and stored tile bytes, as announced."""
    if len(payload) > layout.max_payload_bytes:
        detail = f"{len(payload)} bytes, limit {layout.max_payload_bytes}"
        raise CompressionError("too-long", detail)
    smallest = HEADER.size + SPAN_ROW.size * len(layout.spans)
    if len(payload) < smallest:
        raise CompressionError("too-short", f"{len(payload)} bytes, need {smallest}")
    magic, version, values, k, chunk, digest, *lengths, seal = HEADER.unpack_from(payload)
    options = layout.options
    _require(magic, MAGIC, "bad-magic")
    _require(version, VERSION, "bad-version")
    _require(values, _values_code(options.values), "bad-codec")
    _require((k, chunk, digest), (options.k, options.chunk, layout.digest), "wrong-layout")
    _require(seal, checksum(payload), "bad-checksum")
    entries, raw_tiles, stored_tiles = lengths
    if raw_tiles > layout.max_tile_bytes or smallest + stored_tiles > len(payload):
        detail = f"{stored_tiles} tile bytes for {raw_tiles} raw ones"
        raise CompressionError("wrong-length", detail)
    return entries, raw_tiles, stored_tiles


def _open_tiles(
    layout: PayloadLayout, section: bytes
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
    """Return scale codes, high codes and counts [T] of a raw tile section."""
    if len(section) < layout.num_tiles:
        raise CompressionError("wrong-length", f"{len(section)} bytes for {layout.num_tiles} tiles")
    codes_T = np.frombuffer(section, np.uint8, layout.num_tiles)
    sends_T = codes_T > 0
    senders = int(sends_T.sum())
    first_count = layout.num_tiles + (senders if layout.options.values == "sym2" else 0)
    if len(section) not in (first_count, first_count + 2 * senders):
        raise CompressionError("wrong-length", f"{len(section)} bytes for {senders} senders")
    highs_T = _open_highs(layout, codes_T, section)
    counts_T = np.where(sends_T, layout.keep_T, 0)
    if len(section) > first_count:
        counts_A = np.frombuffer(section, "<u2", senders, first_count).astype(np.int64)
        keep_A = layout.keep_T[sends_T]
        if (counts_A < 1).any() or (counts_A > keep_A).any() or np.array_equal(counts_A, keep_A):
            raise CompressionError("wrong-count", "a tile's number of entries")
        counts_T[sends_T] = counts_A
    return codes_T, highs_T, counts_T


def _open_highs(
    layout: PayloadLayout, codes_T: NDArray[np.uint8], section: bytes
) -> NDArray[np.uint8]:
    """Return the high codes [T] of "sym2", or nothing; codes must be such as an encoder writes."""
    values = layout.options.values
    if values == "fp16" and (codes_T > 1).any():
        raise CompressionError("bad-scale", f"code {codes_T.max()} under fp16")
    if values != "sym2":
        return _NOTHING
    sends_T = codes_T > 0
    highs_T = np.zeros_like(codes_T)
    highs_T[sends_T] = np.frombuffer(section, np.uint8, int(sends_T.sum()), codes_T.size)
    if (highs_T < codes_T).any():
        raise CompressionError("bad-scale", "larger entries with the smaller scale")
    return highs_T


def _values_code(values: Values) -> int:
    return 1 + get_args(Values).index(values)


def _require(got: object, needed: object, reason: str) -> None:
    if got != needed:
        raise CompressionError(reason, f"{got!r}, need {needed!r}")
