"""Private folders for unix sockets, which a killed process leaves only until the next start."""

import contextlib
import fcntl
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "skerry-sockets-"
# An AF_UNIX path holds 107 bytes; hivemind's names in the folder take 30, ours less.
_MAX_ROOT_CHARS = 48
# Longer than the moment between the creation of a folder and its lock.
_SETTLED_SECONDS = 60.0


class SocketsFolder:
    """A folder that only this user can enter, with a path short enough for unix sockets.

    Its lock file is held until ``close``; folders whose lock is free belong to nobody any more
    and are removed when the next one is made.
    """

    def __init__(self) -> None:
        """Create the folder."""
        root = Path(tempfile.gettempdir())
        if len(str(root)) > _MAX_ROOT_CHARS:
            root = Path("/tmp")
        _remove_abandoned(root)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        self._lock = (self.path / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Remove the folder and all in it; again does nothing."""
        if not self._lock.closed:
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock.close()


def _remove_abandoned(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*"):
        # Other users' folders and those that vanish meanwhile are not ours to look into.
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime < _SETTLED_SECONDS:
                continue
            with (folder / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
