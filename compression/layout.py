"""What follows from a shard's shapes and the codec options alone: spans, digest, size limits.

Loads neither torch nor numba: the node process takes the limits from here.

Shape suffix: T tiles of the shard.
"""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate
from struct import Struct

import numpy as np

from skerry.compression.options import CodecOptions, Values
from skerry.compression.tiles import TileSpan, tile_spans

HEADER = Struct("<4sBBHH8sIII8s")
"""pseudogradient.py says what each field is."""
SPAN_ROW = Struct("<II")
DIGEST_BYTES = 8
ESCAPE = 255
"""A gap byte of this value is followed by another one of the same gap."""
_MAX_LENGTH = 2**32 - 1


class PayloadLayout:
    """The tiles of one shard and how large a payload can be."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], options: CodecOptions) -> None:
        """Lay out a shard of tensors of these shapes, in layout order.

        Raises: ValueError on a negative dimension or if a payload could pass 4 GiB.
        """
        self.options = options
        self.spans: tuple[TileSpan, ...] = tile_spans(shapes, options)
        tiles = [span.num_tiles for span in self.spans]
        self.first_tiles: tuple[int, ...] = tuple(accumulate(tiles, initial=0))
        """First tile of each span, and the number of all tiles."""
        self.numel: int = sum(span.valid * span.num_tiles for span in self.spans)
        """Entries of the shard."""
        self.keep_T = np.repeat([span.keep for span in self.spans], tiles).astype(np.int64)
        """Entries kept of each tile."""
        self.valid_T = np.repeat([span.valid for span in self.spans], tiles).astype(np.int64)
        """Existing entries of each tile."""
        self.digest: bytes = _digest(shapes, options)
        """Of shapes and options, so that a payload of another layout is told at once."""
        self.max_payload_bytes: int = self._max_payload_bytes()
        """No payload is longer: every tile sends, and zstandard gains nothing."""
        if self.max_payload_bytes > _MAX_LENGTH:
            raise ValueError(f"shard of {self.numel} entries needs more than {_MAX_LENGTH} bytes")

    @property
    def num_tiles(self) -> int:
        """Tiles of the shard."""
        return self.first_tiles[-1]

    @property
    def max_tile_bytes(self) -> int:
        """Most bytes of the tile section: per tile a count and one or two scale codes."""
        return (4 if self.options.values == "sym2" else 3) * self.num_tiles

    def _max_payload_bytes(self) -> int:
        fixed = HEADER.size + SPAN_ROW.size * len(self.spans) + self.max_tile_bytes
        return fixed + sum(
            value_bytes(self.options.values, span.keep * span.num_tiles)
            + span.num_tiles * max_gap_bytes(span.valid, span.keep)
            for span in self.spans
        )


def max_gap_bytes(valid: int, keep: int) -> int:
    """Return the most gap bytes of one tile: all entries not kept are skipped in one gap."""
    return keep + (valid - keep) // ESCAPE


def value_bytes(values: Values, count: int) -> int:
    """Return how many bytes the values of ``count`` entries of a span take."""
    bit_bytes = (count + 7) // 8
    return {"sign": bit_bytes, "sym2": 2 * bit_bytes, "fp16": 2 * count}[values]


def _digest(shapes: Sequence[tuple[int, ...]], options: CodecOptions) -> bytes:
    text = f"{options.values};{options.k};{options.chunk};"
    text += ";".join(",".join(map(str, shape)) for shape in shapes)
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()
