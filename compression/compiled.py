"""Kernels compiled by numba when their module is imported, and kept on disk for the next process.

Compiling takes a second or two per module, loading a few milliseconds per function. Import such
modules in the compute process only. One signature per function: processes that compile the same
function at the same time write the same file, each by renaming a finished one into place.

No fastmath, and LLVM fuses nothing on its own: a product is rounded before it is added.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def compiled(signature: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function of exactly these types; it runs on one thread, without the GIL."""

    def compile_now(function: Callable[P, R]) -> Callable[P, R]:
        try:
            return _compile(signature, function, cache=True)
        except (RuntimeError, OSError):  # no folder to keep it in, or a full disk
            return _compile(signature, function, cache=False)

    return compile_now


def _compile(signature: str, function: Callable[P, R], cache: bool) -> Callable[P, R]:
    jit = njit(signature, nogil=True, error_model="numpy", fastmath=False, cache=cache)
    kernel: Callable[P, R] = jit(function)
    return kernel
