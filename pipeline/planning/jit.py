"""Functions that numba compiles on their first call, for the types they are first called with.

As in compression/compiled.py the compiled form is kept on disk; but named tuples of arrays have no
signature that could be written down, so nothing is compiled when a module is imported.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def part(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function that entries of the same file call; compiled and kept with them."""
    made: Callable[P, R] = njit(nogil=True, error_model="numpy")(function)
    return made


def entry(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function that Python calls. All that it calls must stand in the same file.

    The kept form is valid as long as that one file does not change.
    """
    try:
        made: Callable[P, R] = njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no folder to keep it in
        return part(function)
    return made
