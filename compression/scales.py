"""The 8-bit logarithmic grid of tile scales.

Code 0 is the value 0. Code c in 1..255 is 2^((c-1)/12 - 20): from 9.5e-7 to 2.2 in steps of 6 %,
so a scale within the range is off by at most 2.9 %. That adds 2 % to the error that one magnitude
for all entries of a tile makes anyway (normal entries, 64 of 4096). Every code is valid. Larger
scales saturate at code 255; scales more than half a step below code 1 become 0. In both cases the
difference stays in the error feedback. What is sent lies inside: AdamW moves an entry by about its
learning rate per inner step, so by 1e-6 to 1e-1 in a round, and error feedback with a decay of 0.95
holds at most 20 rounds of it (0.003 to 0.22 in the demo's sixth round).

The grid must be the same fp32 bits on every platform. Hence no power function, whose last bit
depends on the library: the values are 12 literals times exact powers of two, and the borders
between codes need a square root only, which IEEE 754 rounds correctly.

Shape suffix: T tiles.
"""

from math import ldexp, sqrt

import numpy as np
from numpy.typing import NDArray

NUM_CODES = 256
_STEPS_PER_OCTAVE = 12
_LOWEST_EXPONENT = -20
_OCTAVE = (
    1.0,
    1.0594631433486938,
    1.1224620342254639,
    1.1892070770263672,
    1.2599210739135742,
    1.3348398208618164,
    1.4142135381698608,
    1.4983071088790894,
    1.587401032447815,
    1.6817928552627563,
    1.7817974090576172,
    1.8877485990524292,
)
"""2^(i/12) rounded to fp32."""


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
