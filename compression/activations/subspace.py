"""The subspace that a ring's activations lie in, and the fixed embedding part that does not.

After Subspace Networks (arXiv:2506.01260, section 3): when every matrix that writes to the residual
stream X has its columns in the span of an orthonormal U, and the embedding is a fixed part E plus
rows in that span, then X - E stays in it through all blocks. A peer then sends the coordinates
(X - E) U, and a gradient G as G U, which is all that the blocks before need of it. Where matrices
are free, the same wire is lossy: it drops what is outside the span.

U and E follow from the run's seed, bit for bit the same on every platform, so neither is sent.
LAPACK's QR is not such a function; hence Gram-Schmidt in fp64 with a fixed order of additions.

Shape suffixes: T text tokens, D width of the residual stream, R dimensions of the subspace,
M vectors at once.
"""

from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skerry.compression.counter_rng import Purpose, derive, normal_rows

_SMALLEST_NORM = 1e-6
"""Shortest remainder of a vector (of length about sqrt(D)) that is taken for a new direction."""


def fixed_rows(seed: int, ids_T: Tensor, width: int) -> Tensor:
    """Return the fixed embedding part [T, D] f32 of text tokens: near-normal, mean 0, variance 1.

    Its entries are those of ``counter_rng.normal_rows``: a function of seed, id and column.

    Args:
        seed: of the run, taken modulo 2^64.
        ids_T: integers in 0..2^32-1, in any order, on any device.
        width: D, below 2^32.
    """
    return normal_rows(derive(seed, Purpose.FIXED_ROWS), ids_T, width)


def orthonormal_basis(seed: int, width: int, rank: int) -> Tensor:
    """Return U [D, R] f32 in main memory: orthonormal columns, of random direction.

    Modified Gram-Schmidt leaves errors of 2^-53 times the vectors' condition number, which for
    random ones is about their number: far below the 2^-25 of the rounding to fp32, so that a
    second pass changes no bit. The time, 0.03 s for D = 4096 and R = 64, grows with D R^2.

    Raises: ValueError unless 1 <= rank <= width, or if the seed's vectors are dependent, which has
        a chance of 1 in 500 for width 1 and none to speak of for the widths of models.
    """
    if not 1 <= rank <= width:
        raise ValueError(f"subspace of {rank} dimensions, allowed 1..{width}")
    start_RD = normal_rows(derive(seed, Purpose.BASIS), torch.arange(rank), width)
    vectors_RD = start_RD.numpy().astype(np.float64)
    _orthonormalise(vectors_RD)
    return torch.from_numpy(np.ascontiguousarray(vectors_RD.T, np.float32))


def _orthonormalise(vectors_RD: NDArray[np.float64]) -> None:
    """Make the rows orthonormal in place, each against those before it."""
    for i in range(len(vectors_RD)):
        unit_D, rest_MD = vectors_RD[i], vectors_RD[i + 1 :]
        norm = sqrt(_row_sums((unit_D * unit_D)[np.newaxis])[0])
        if norm < _SMALLEST_NORM:
            raise ValueError("the seed's vectors are linearly dependent; take another seed")
        unit_D /= norm
        rest_MD -= _row_sums(rest_MD * unit_D)[:, np.newaxis] * unit_D


def _row_sums(rows_MD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add up each row by halving, so that the order of additions is the same everywhere."""
    while (width := rows_MD.shape[1]) > 1:
        half = (width + 1) // 2
        sums_MD = rows_MD[:, :half].copy()
        sums_MD[:, : width - half] += rows_MD[:, half:]
        rows_MD = sums_MD
    return rows_MD[:, 0]
