"""The 8-bit logarithmic grid of tile scales.

Code 0 is the value 0. Code c in 1..255 is 2^((c-1)/10 - 23): from 1.2e-7 to 5.3 in steps of 7 %,
so a scale within the range is off by at most 3.5 %. Every code is valid. Larger scales saturate
at code 255; scales more than half a step below code 1 become 0. In both cases the difference
stays in the error feedback. Pseudo-gradients lie far inside: AdamW moves an entry by about its
learning rate per inner step, so by 1e-6 to 1e-1 in a round.

The grid must be the same fp32 bits on every platform. Hence no power function, whose last bit
depends on the library: the values are 10 literals times exact powers of two, and the borders
between codes need a square root only, which IEEE 754 rounds correctly.

Shape suffixes: T tiles, K entries of a tile, padded with zeros.
"""

from math import ldexp, sqrt

import numpy as np
from numpy.typing import NDArray

NUM_CODES = 256
_STEPS_PER_OCTAVE = 10
_LOWEST_EXPONENT = -23
_OCTAVE = (
    1.0,
    1.0717734098434448,
    1.148698329925537,
    1.2311444282531738,
    1.3195079565048218,
    1.4142135381698608,
    1.515716552734375,
    1.624504804611206,
    1.7411011457443237,
    1.8660659790039062,
)
"""2^(i/10) rounded to fp32."""


def _grid() -> list[float]:
    places = (divmod(step, _STEPS_PER_OCTAVE) for step in range(NUM_CODES - 1))
    return [ldexp(_OCTAVE[i], octave + _LOWEST_EXPONENT) for octave, i in places]


def _borders() -> list[float]:
    grid = _grid()
    below = grid[0] * grid[0] / grid[1]
    return [sqrt(low * high) for low, high in zip([below, *grid], grid, strict=False)]


SCALES = np.array([0.0, *_grid()], dtype=np.float32)
"""[256] f32: the scale of each code."""
_BORDERS = np.array(_borders(), dtype=np.float64)


def scale_codes(means_T: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the codes [T] nearest (in ratio) to mean magnitudes."""
    return np.searchsorted(_BORDERS, means_T, side="right").astype(np.uint8)


def row_sums(rows_TK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add up each row by halving, so that the order of additions is the same everywhere.

    ``np.sum`` picks its order by vector width and memory layout. Zeros behind a row's entries
    change nothing.
    """
    width = 1 << max(0, rows_TK.shape[1] - 1).bit_length()
    sums_TK = np.zeros((rows_TK.shape[0], width))
    sums_TK[:, : rows_TK.shape[1]] = rows_TK
    while width > 1:
        width //= 2
        sums_TK = sums_TK[:, :width] + sums_TK[:, width:]
    return sums_TK[:, 0]
