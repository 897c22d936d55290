"""What the operating system refuses, as errors of the catalog.

For the borders where a command or the daemon's start meets folders, files and sockets of the
machine: there an OSError is the environment's fault, not ours, and has a fix.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from skerry.protocol.errors import StateError


@contextmanager
def environment_errors() -> Iterator[None]:
    """Turn an OSError into StateError SK-DSK-001 (no space) or SK-DSK-003 (anything else).

    A TimeoutError, which is one by Python's reckoning, says nothing of the machine and passes.
    """
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise StateError("SK-DSK-001" if full else "SK-DSK-003", what) from error
