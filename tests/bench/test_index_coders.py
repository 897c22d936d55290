"""Index coders give the positions back, in the size that theory says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comparators import elias_fano, rice


def positions(tiles: int, keep: int, area: int, seed: int = 0) -> NDArray[np.int64]:
    random = np.random.default_rng(seed)
    chosen = [np.sort(random.choice(area, keep, replace=False)) for _ in range(tiles)]
    return np.array(chosen, dtype=np.int64).reshape(tiles, keep)


@st.composite
def any_positions(draw: st.DrawFn) -> tuple[NDArray[np.int64], int]:
    area = draw(st.integers(1, 4096))
    keep = draw(st.integers(1, min(area, 80)))
    return positions(draw(st.integers(1, 4)), keep, area, draw(st.integers(0, 99))), area


@settings(deadline=None)  # the first call compiles
@given(any_positions())
def test_rice_round_trip(example: tuple[NDArray[np.int64], int]) -> None:
    chosen, _ = example
    np.testing.assert_array_equal(rice.decode(rice.encode(chosen), *chosen.shape), chosen)


@settings(deadline=None)  # the first call compiles
@given(any_positions())
def test_elias_fano_round_trip(example: tuple[NDArray[np.int64], int]) -> None:
    chosen, area = example
    data = elias_fano.encode(chosen, area)
    np.testing.assert_array_equal(elias_fano.decode(data, *chosen.shape, area), chosen)


@pytest.mark.parametrize("chosen", [[[0, 1, 2]], [[4093, 4094, 4095]], [[0, 2047, 4095]]])
def test_extremes(chosen: list[list[int]]) -> None:
    exact = np.array(chosen, dtype=np.int64)
    np.testing.assert_array_equal(rice.decode(rice.encode(exact), 1, 3), exact)
    data = elias_fano.encode(exact, 4096)
    np.testing.assert_array_equal(elias_fano.decode(data, 1, 3, 4096), exact)


def test_sizes_at_64_of_4096() -> None:
    """Rice: r + 1 + the mean quotient, about 7.5. Elias-Fano: 6 + (64 + 63) / 64."""
    chosen = positions(500, 64, 4096)
    data = rice.encode(chosen)
    assert data[0] == 5
    assert 7.45 < 8 * len(data) / chosen.size < 7.6
    assert 8 * len(elias_fano.encode(chosen, 4096)) / chosen.size == pytest.approx(
        6 + 127 / 64, rel=1e-4
    )
