"""The content-addressed blob store: files named by the hash of their bytes.

Shared by a node and its compute process. A blob is visible only when complete and verified;
a download in progress is a ``.part`` file that a later attempt resumes.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.ids import HASH_BYTES, Address, content_hash, is_hash

CHUNK_BYTES = 2**20
_HIDDEN = ".gone"


class BlobStore:
    """Blobs in one folder. Methods block on the disk; large ones belong in a thread."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, created if missing."""
        self.folder = folder
        with disk_errors():
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, address: Address) -> Path:
        """Return where a complete blob lies or would lie."""
        if not is_hash(address):
            raise ProtocolError("address", f"{address[:80]!r} is not a content address")
        return self.folder / address

    def size(self, address: Address) -> int | None:
        """Return the size of a complete blob, or None if it is not here."""
        try:
            return self.path(address).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, data: bytes | memoryview) -> Address:
        """Store ``data`` and return its address. Raises: StateError on a full disk.

        What lies there already is written anew: it may have been damaged since.
        """
        address = Address(content_hash(data))
        write_atomic(self.path(address), data)
        return address

    def read(self, address: Address) -> bytes:
        """Return a blob's bytes, checked against its address.

        Raises: StateError("SK-DSK-002") if it is missing or damaged; a damaged one is removed.
        """
        try:
            data = self.path(address).read_bytes()
        except FileNotFoundError:
            raise StateError("SK-DSK-002", f"blob {address[:8]} is not in the store") from None
        if content_hash(data) != address:
            self.path(address).unlink(missing_ok=True)
            raise StateError("SK-DSK-002", f"blob {address[:8]} was damaged on disk")
        return data

    def chunks(self, address: Address, offset: int) -> Iterator[bytes]:
        """Yield a complete blob from ``offset`` on, at most CHUNK_BYTES at a time."""
        with self.path(address).open("rb") as file:
            file.seek(offset)
            while data := file.read(CHUNK_BYTES):
                yield data

    def partial(self, address: Address, size: int) -> "PartialBlob":
        """Return the download of a blob of ``size`` bytes, continued where it stopped."""
        return PartialBlob(self.path(address), address, size)

    def clear_leftovers(self) -> None:
        """Remove what processes that were killed left half-written; while none is writing.

        A download that was cut is kept: it is resumed if its blob is still wanted.
        """
        for path in self.folder.glob("*.tmp"):
            path.unlink(missing_ok=True)

    def set_aside(self, addresses: Iterable[Address]) -> tuple[Path, ...]:
        """Hide every complete blob not among ``addresses``; return the files for remove_files.

        Hiding is a rename and takes no time; freeing large files may, and can be done later.
        """
        wanted = set(addresses)
        hidden = []
        for path in self.folder.iterdir():
            if is_hash(path.name) and path.name not in wanted:
                with suppress(FileNotFoundError):
                    hidden.append(path.replace(path.with_name(path.name + _HIDDEN)))
            elif path.name.endswith(_HIDDEN):  # left by a crash, or about to be removed
                hidden.append(path)
        return tuple(hidden)


class PartialBlob:
    """One download: bytes are appended in order, the blob appears when all agree."""

    def __init__(self, path: Path, address: Address, size: int) -> None:
        """Continue the ``.part`` file beside ``path`` if there is one."""
        self._path, self._address, self._size = path, address, size
        self._part = path.with_name(path.name + ".part")

    @property
    def offset(self) -> int:
        """How many bytes are already here."""
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, data: bytes) -> None:
        """Add the next bytes. Raises: ProtocolError("size") beyond the announced size."""
        if self.offset + len(data) > self._size:
            self.discard()
            raise ProtocolError("size", f"blob {self._address[:8]} exceeds {self._size} bytes")
        with disk_errors(), self._part.open("ab") as file:
            file.write(data)

    def finish(self) -> None:
        """Verify and publish. Raises: ProtocolError("size") or ProtocolError("hash")."""
        if self.offset != self._size:
            raise ProtocolError("size", f"got {self.offset} bytes of {self._size}")
        if not self._size:
            self._part.touch()
        if _file_hash(self._part) != self._address:
            self.discard()
            raise ProtocolError("hash", f"blob {self._address[:8]} does not match its address")
        os.replace(self._part, self._path)

    def discard(self) -> None:
        """Forget what was downloaded."""
        self._part.unlink(missing_ok=True)


def remove_files(paths: Iterable[Path]) -> None:
    """Delete files; one that is gone already is no matter."""
    for path in paths:
        path.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that after a crash it is there whole or not at all."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Lend a file that takes the place of ``path`` once the block has ended well.

    Until then the old one is there, and after a crash one of the two, whole.
    Raises: StateError("SK-DSK-001") on a full disk.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with disk_errors():
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn "no space left" into the coded error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f" for {error.filename}" if error.filename else ""
            raise StateError("SK-DSK-001", f"no space left{what}") from error
        raise


def _file_hash(path: Path) -> str:
    digest = blake2b(digest_size=HASH_BYTES)
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            digest.update(data)
    return digest.hexdigest()
