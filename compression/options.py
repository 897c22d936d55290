"""What the peers of a run agree on about the pseudo-gradient codec."""

from dataclasses import dataclass
from math import isqrt
from typing import Literal, get_args

Values = Literal["sign", "sym2", "fp16"]
"""How kept entries are written: a sign, a sign and a magnitude bit, or half precision."""

TILE_AREAS = (1024, 4096, 16384)


@dataclass(frozen=True, slots=True)
class CodecOptions:
    """Density, tile size and value format; every peer of a run has the same."""

    k: int = 64
    """Entries kept of a full tile."""
    chunk: int = 4096
    """Entries of a full tile: a square of side 32, 64 or 128, or so many of the 1-D stream."""
    values: Values = "sign"

    def __post_init__(self) -> None:
        """Check every field. Raises: ValueError."""
        if self.chunk not in TILE_AREAS:
            raise ValueError(f"chunk is {self.chunk}, allowed {TILE_AREAS}")
        if not 1 <= self.k <= self.chunk:
            raise ValueError(f"k is {self.k}, allowed 1..{self.chunk}")
        if self.values not in get_args(Values):
            raise ValueError(f"values is {self.values!r}, allowed {get_args(Values)}")

    @property
    def side(self) -> int:
        """Rows, and columns, of a full matrix tile."""
        return isqrt(self.chunk)
