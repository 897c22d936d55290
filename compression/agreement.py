"""How far the payloads of one shard name the same entries, and whether with the same sign.

Honest peers train different text, so their largest entries hardly coincide: beyond chance only
where the signal is stronger than the noise, and there their signs mostly agree. A reversed update
disagrees, a random one does neither, a copy names the same entries throughout.

All counts are integers, the same on every platform and in every order; sums of them over shards
say more than those of one shard.

Shape suffixes: C payloads, T tiles of a span, M entries of all payloads, V positions of a tile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skerry.compression.compiled import compiled
from skerry.compression.entries import Entries
from skerry.compression.errors import CompressionError
from skerry.compression.payload import OpenedPayload
from skerry.compression.pseudogradient import PseudoGradientCodec

_Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """What payloads have in common; the diagonals of the matrices are zero."""

    sent_C: _Counts
    """Entries of each payload."""
    shared_CC: _Counts
    """Entries that both of a pair name."""
    balance_CC: _Counts
    """Of those, the ones with equal signs minus the ones with opposite signs."""
    squares: tuple[float, ...]
    """Squared L2 norm of each payload's values."""
    flaws: Mapping[int, str]
    """Why payloads are malformed, by their number; all else said of them means nothing."""

    def __add__(self, other: "Agreement") -> "Agreement":
        """Return what both shards show; of the same payloads in the same order."""
        squares = zip(self.squares, other.squares, strict=True)
        return Agreement(
            self.sent_C + other.sent_C,
            self.shared_CC + other.shared_CC,
            self.balance_CC + other.balance_CC,
            tuple(one + two for one, two in squares),
            {**other.flaws, **self.flaws},
        )


def agreement(codec: PseudoGradientCodec, payloads: Sequence[bytes]) -> Agreement:
    """Compare all pairs of payloads of one shard, span by span.

    The time is that of decoding, plus a step for each entry that two payloads share. This decodes
    all of every payload, so whatever is malformed shows; such a payload then takes no further part.
    """
    readers = [_Reader(codec, payload) for payload in payloads]
    number = len(readers)
    sent_C = np.zeros(number, np.int64)
    shared_CC, balance_CC = np.zeros((2, number, number), np.int64)
    for index, span in enumerate(codec.layout.spans if readers else ()):
        terms = [one.entries(index) for one in readers]
        sent_C += [one.positions_M.size for one in terms]
        counts_CT, positions_M = end_to_end(terms)
        negative_M = np.concatenate([np.signbit(one.values_M) for one in terms])
        _compare(counts_CT, positions_M, negative_M, span.valid, shared_CC, balance_CC)
    squares = tuple(one.square() for one in readers)
    flaws = {i: one.flaw for i, one in enumerate(readers) if one.flaw}
    return Agreement(sent_C, shared_CC, balance_CC, squares, flaws)


class _Reader:
    """A payload that may be malformed; what is left of it is then as if it sent nothing."""

    def __init__(self, codec: PseudoGradientCodec, payload: bytes) -> None:
        self.flaw = ""
        self._layout = codec.layout
        self._opened: OpenedPayload | None = None
        try:
            self._opened = codec.open(payload)
        except CompressionError as error:
            self.flaw = error.reason

    def entries(self, index: int) -> Entries:
        """Return the entries of a span."""
        if self._opened is not None and not self.flaw:
            try:
                return self._opened.entries(index)
            except CompressionError as error:
                self.flaw = error.reason
        nothing_T = np.zeros(self._layout.spans[index].num_tiles, np.int64)
        return Entries(nothing_T, np.zeros(0, np.uint16), np.zeros(0, np.float32))

    def square(self) -> float:
        """Return the squared norm."""
        if self._opened is None or self.flaw:
            return 0.0
        norm = self._opened.norm()
        return norm * norm


def end_to_end(terms: Sequence[Entries]) -> tuple[_Counts, NDArray[np.uint16]]:
    """Return the counts [C, T] and, payload after payload, the positions [M] of a span."""
    counts_CT = np.stack([one.counts_T for one in terms])
    return counts_CT, np.concatenate([one.positions_M for one in terms])


@compiled(
    "void(int64[:, ::1], uint16[::1], boolean[::1], int64, int64[:, ::1], int64[:, ::1])",
)
def _compare(
    counts_CT: _Counts,
    positions_M: NDArray[np.uint16],
    negative_M: NDArray[np.bool_],
    valid: int,
    shared_CC: _Counts,
    balance_CC: _Counts,
) -> None:
    """Walk each tile's payloads in order; entries of one position form a chain to earlier ones."""
    number, tiles = counts_CT.shape
    next_C = np.zeros(number, np.int64)
    for c in range(1, number):
        next_C[c] = next_C[c - 1] + counts_CT[c - 1].sum()
    newest_V = np.full(valid, -1, np.int64)
    earlier_M = np.empty(positions_M.size, np.int64)
    owner_M = np.empty(positions_M.size, np.int64)
    for tile in range(tiles):
        for c in range(number):
            for entry in range(next_C[c], next_C[c] + counts_CT[c, tile]):
                other = newest_V[positions_M[entry]]
                earlier_M[entry] = other
                owner_M[entry] = c
                newest_V[positions_M[entry]] = entry
                while other >= 0:
                    sign = 1 if negative_M[other] == negative_M[entry] else -1
                    shared_CC[c, owner_M[other]] += 1
                    balance_CC[c, owner_M[other]] += sign
                    shared_CC[owner_M[other], c] += 1
                    balance_CC[owner_M[other], c] += sign
                    other = earlier_M[other]
        for c in range(number):
            for entry in range(next_C[c], next_C[c] + counts_CT[c, tile]):
                newest_V[positions_M[entry]] = -1
            next_C[c] += counts_CT[c, tile]
