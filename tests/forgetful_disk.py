"""A disk of which a power cut leaves what was synced, and nothing else.

SIGKILL leaves the page cache, so that a missing fsync cannot be seen by it. Here each ``os.fsync``
of a process is noted: of a file its bytes, of a folder the names in it. ``cut`` then makes files of
that: whatever was written, made, renamed or removed since is undone. No real disk forgets as much.

A file is told by its inode, which a hard link keeps from being given to another file.
"""

import contextlib
import json
import os
import shutil
import stat
import threading
from pathlib import Path
from urllib.parse import quote


def note_syncs(root: str, kept: str) -> None:
    """From now on note in ``kept`` what this process syncs below ``root``, on the same disk."""
    real, notes = os.fsync, _Notes(Path(root), Path(kept))

    def fsync(descriptor: int) -> None:
        notes.take(descriptor)  # what is written while the disk is busy may come too late
        real(descriptor)

    os.fsync = fsync


def cut(root: Path, kept: Path) -> None:
    """Leave below ``root`` what was synced; whoever wrote there has ended."""
    for folder, _, files in os.walk(root):
        listing = kept / "folders" / quote(folder, safe="")
        names = json.loads(listing.read_text()) if listing.exists() else {}
        for name in files:
            (Path(folder) / name).unlink()
        for name, inode in names.items():
            written = kept / "bytes" / str(inode)
            data = written.read_bytes() if written.exists() else b""
            (Path(folder) / name).write_bytes(data)


class _Notes:
    def __init__(self, root: Path, kept: Path) -> None:
        self._root, self._kept = root, kept
        for name in ("folders", "bytes", "links"):
            (kept / name).mkdir(parents=True, exist_ok=True)

    def take(self, descriptor: int) -> None:
        here = f"/proc/self/fd/{descriptor}"
        path, found = Path(os.readlink(here)), os.fstat(descriptor)
        if not path.is_relative_to(self._root):
            return
        if stat.S_ISDIR(found.st_mode):
            self._put(f"folders/{quote(str(path), safe='')}", self._listing(path))
        else:
            self._hold(str(path), found.st_ino)
            with open(here, "rb") as file:
                self._put(f"bytes/{found.st_ino}", file.read())

    def _listing(self, folder: Path) -> bytes:
        names = {}
        for entry in os.scandir(folder):
            try:
                if entry.is_file(follow_symlinks=False):
                    self._hold(entry.path, entry.inode())
                    names[entry.name] = entry.inode()
            except FileNotFoundError:  # removed meanwhile
                names.pop(entry.name, None)
        return json.dumps(names).encode()

    def _hold(self, path: str, inode: int) -> None:
        link = self._kept / "links" / str(inode)
        if not link.exists():
            with contextlib.suppress(FileExistsError):  # another thread or process was faster
                os.link(path, link)

    def _put(self, name: str, data: bytes) -> None:
        temporary = self._kept / f"{os.getpid()}.{threading.get_ident()}"
        temporary.write_bytes(data)
        shutil.move(temporary, self._kept / name)
