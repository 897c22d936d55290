"""How much memory a scheme needs beside its input, its output and the accumulator.

Measured by the kernel in a process of its own: the peak of the resident set while the operation
runs, minus the resident set before. Counters of Python or torch see only their own allocations.
Linux only.
"""

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from codec_bench.cases import Shapes, Size, synthetic
from codec_bench.schemes import SCHEMES, Encoded

_WARM_UP = Size(128, 1)
"""Loads code, compiled kernels and libraries, which are not the operation's memory."""
_RESET_PEAK = "5"


@dataclass(frozen=True, slots=True)
class Peak:
    """Extra bytes at the peak."""

    encode: int
    """The payload included."""
    add: int


def peaks(names: list[str], shapes: Shapes, processes: int = 2) -> Iterator[tuple[str, Peak]]:
    """Yield each scheme's peak, measured in a fresh process each, on normal entries."""
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        yield from zip(names, pool.map(peak, names, [shapes] * len(names)), strict=True)


def peak(name: str, shapes: Shapes) -> Peak:
    """Measure one scheme in this process, which should be a fresh one."""
    torch.set_num_threads(1)
    _measure(name, _WARM_UP.shapes)
    return _measure(name, shapes)


def _measure(name: str, shapes: Shapes) -> Peak:
    case = synthetic("normal", shapes)
    made: list[Encoded] = []

    def encode() -> None:
        scheme = SCHEMES[name].make(shapes)  # what the scheme holds counts, too
        made.append(scheme(case.feedback_N, case.drift))

    encode_bytes = _extra_bytes(encode)
    total_N = torch.full_like(case.feedback_N, 0.0)
    return Peak(encode_bytes, _extra_bytes(lambda: made[0].add(total_N)))


def _extra_bytes(operation: Callable[[], None]) -> int:
    # What the allocator kept of earlier work would be used again and not be seen.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    before = _status_bytes("VmRSS")
    operation()
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
