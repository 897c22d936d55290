"""What importing torch takes now in a fresh process, as busy as the machine is.

Most of what a restart takes is that.
"""

import subprocess
import sys

_IMPORT = "import time; t = time.perf_counter(); import torch; print(time.perf_counter() - t)"


def import_seconds() -> float:
    """Import it once."""
    done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, check=True)
    return float(done.stdout)
