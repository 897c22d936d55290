"""Centred clipping: what a payload says of its entries, pulled towards what was applied before.

Karimireddy et al. (arXiv:2106.11257, algorithm 2) clip the differences from a centre, the last
aggregate, and add their mean to it. A sparse payload says nothing of the entries that it does not
name, so here only named entries take part: x becomes c + min(1, r / |x - c|) (x - c), where c is
the centre at these entries. Entries that nobody names stay 0 and the centre is not applied twice.

Shape suffixes: N entries of the shard, T tiles, R rows of a span, M entries of a payload's span.
"""

from math import fsum

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from skerry.compression.entries import Entries
from skerry.compression.tiles import TileSpan


def values_at(centre_N: Tensor, span: TileSpan, entries: Entries) -> NDArray[np.float32]:
    """Return the centre's values [M] at the places of a span's entries."""
    rows = span.rows()
    tiles_M = np.repeat(np.arange(span.num_tiles), entries.counts_T)
    places_M = tiles_M * span.valid + entries.positions_M
    ends_R = np.cumsum(rows.length_R)
    rows_M = np.searchsorted(ends_R, places_M, side="right")
    starts_R = ends_R - rows.length_R
    flat_M = rows.begin_R[rows_M] + (places_M - starts_R[rows_M])
    values_M: NDArray[np.float32] = centre_N.cpu().numpy()[flat_M]
    return values_M


def square_distance(entries: Entries, centre_M: NDArray[np.float32]) -> float:
    """Return the squared L2 distance of entries from the centre, the same bits everywhere."""
    apart_M = (entries.values_M - centre_M).astype(np.float64)
    return fsum((apart_M * apart_M).tolist())


def pulled(
    entries: Entries, centre_M: NDArray[np.float32], factor: np.float32
) -> NDArray[np.float32]:
    """Return the values [M] moved towards the centre: ``factor`` of the way remains."""
    apart_M = entries.values_M - centre_M
    apart_M *= factor
    apart_M += centre_M
    return apart_M
