"""Compiling: on disk where possible, without it otherwise, and by several processes at once."""

import os
import subprocess
import sys

from skerry.compression.compiled import compiled

WITHOUT_FILE = """
def double(number):
    return 2 * number
"""

USE = """
import numpy as np
from skerry.compression.gaps import encode_gaps
print(encode_gaps(np.array([2], np.int64), np.array([3, 300], np.uint16), 9).tolist())
"""


def test_a_function_that_cannot_be_kept_is_compiled_all_the_same():
    """numba keeps what it compiles beside the source, and here there is none."""
    names = {}
    exec(compile(WITHOUT_FILE, "<nowhere>", "exec"), names)
    double = compiled("int64(int64)")(names["double"])
    assert double(21) == 42


def start(cache):
    return subprocess.Popen(
        [sys.executable, "-c", USE],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_may_compile_at_the_same_time(tmp_path):
    processes = [start(tmp_path) for _ in range(2)]
    answers = [process.communicate()[0].strip() for process in processes]
    assert answers == ["[3, 255, 41]"] * 2
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    assert len(kept) >= 4  # an index and a body for each of the two kernels
    assert start(tmp_path).communicate()[0].strip() == answers[0]
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")} == kept
