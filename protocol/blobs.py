"""The content-addressed blob store: files named by the root of the hash tree over their bytes.

Shared by a node and its compute process. A blob is visible only when complete and verified;
a download in progress is a ``.part`` file that a later attempt resumes (chunked_blob.py). Beside a
blob of several chunks lies the list of their hashes, its tree (chunk_tree.py).
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from skerry.protocol.chunk_tree import CHUNK_BYTES, ChunkTree, cut, leaves_bytes, tree_of
from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.ids import Address, is_hash
from skerry.protocol.lasting import Lasting, sync_folder

_HIDDEN, _TREE, _PART = ".gone", ".tree", ".part"


class BlobStore:
    """Blobs in one folder. Methods block on the disk; large ones belong in a thread."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, created if missing."""
        self.folder = folder
        with disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
        self.lasting = Lasting(folder)

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

        What lies there already is written anew: it may have been damaged since. Its bytes are
        durable then, its name is once ``lasting`` was told to make it so.
        """
        tree = tree_of(cut(data), len(data))
        self.keep_tree(tree)
        with replacing(self.path(tree.address)) as file:
            file.write(data)
        self.lasting.trust(tree.address)
        return tree.address

    def publish(self, address: Address) -> None:
        """Make the download of a blob, which is complete and was checked, a blob.

        It need not be durable: whoever rests on it says so (lasting.py).
        """
        os.replace(self.part(address), self.path(address))
        self.lasting.doubt(address)

    def read(self, address: Address) -> bytes:
        """Return a blob's bytes, checked against its address. Raises: as ``read_into``."""
        try:
            data = self.path(address).read_bytes()
        except FileNotFoundError:
            raise _missing(address) from None
        if tree_of(cut(data), len(data)).address != address:
            raise self._damaged(address)
        return data

    def read_into(self, address: Address, into: memoryview) -> None:
        """Read a blob of the length of ``into`` to there, and check it against its address.

        Raises: StateError("SK-DSK-002") if it is missing or damaged; a damaged one is removed.
        """
        try:
            with self.path(address).open("rb") as file:
                filled = sum(file.readinto(chunk) for chunk in cut(into))
                whole = filled == len(into) and not file.read(1)
        except FileNotFoundError:
            raise _missing(address) from None
        if not whole or tree_of(cut(into), len(into)).address != address:
            raise self._damaged(address)

    def tree(self, address: Address) -> ChunkTree:
        """Return the tree of a complete blob.

        Raises: StateError("SK-DSK-002") if the blob is missing or damaged; then it is removed.
        """
        size = self.size(address)
        if size is None:
            raise _missing(address)
        known = self.known_tree(address, size)
        if known is not None:
            return known
        with self.path(address).open("rb") as file:
            found = tree_of(iter(lambda: file.read(CHUNK_BYTES), b""), size)
        if found.address != address:
            raise self._damaged(address)
        self.keep_tree(found)
        return found

    def known_tree(self, address: Address, size: int) -> ChunkTree | None:
        """Return the tree of a blob that need not be here, if it is, or where nothing is needed."""
        leaves = b""
        if leaves_bytes(size):
            try:
                leaves = self._beside(address, _TREE).read_bytes()
            except FileNotFoundError:
                return None
        try:
            return ChunkTree.received(address, size, leaves)
        except ProtocolError:  # damaged
            return None

    def keep_tree(self, tree: ChunkTree) -> None:
        """Note the tree of a blob, before its bytes. Raises: StateError on a full disk."""
        if self.known_tree(tree.address, tree.size) is None:  # missing, or damaged
            with replacing(self._beside(tree.address, _TREE)) as file:
                file.write(tree.leaves)

    def chunks(self, tree: ChunkTree, first: int, stop: int) -> Iterator[bytes]:
        """Yield the chunks of a complete blob from ``first`` on, up to ``stop``, each checked.

        Raises: StateError("SK-DSK-002") as ``tree`` does.
        """
        try:
            file = self.path(tree.address).open("rb")
        except FileNotFoundError:  # removed since its tree was read
            raise _missing(tree.address) from None
        with file:
            file.seek(first * CHUNK_BYTES)
            for index in range(first, stop):
                data = file.read(CHUNK_BYTES)
                if not tree.fits(index, data):
                    raise self._damaged(tree.address)
                yield data

    def part(self, address: Address) -> Path:
        """Return where a download of a blob lies."""
        return self._beside(address, _PART)

    def partial(self, address: Address, size: int) -> "PartialBlob":
        """Return the download of a blob of ``size`` bytes, continued where it stopped."""
        return PartialBlob(self, address, size)

    def clear_leftovers(self) -> None:
        """Remove what processes that were killed left half-written; while none is writing.

        A download that was cut is kept: it is resumed if its blob is still wanted. What was hidden
        but not removed yet comes back: the list of what is wanted may not have been written.
        """
        for path in self.folder.glob("*.tmp"):
            path.unlink(missing_ok=True)
        for path in self.folder.glob(f"*{_HIDDEN}"):
            name = path.name.removesuffix(_HIDDEN)
            if path.with_name(name).exists():
                path.unlink()
            else:
                path.replace(path.with_name(name))
                self.lasting.doubt(Address(name))

    def begun(self) -> tuple[Address, ...]:
        """Return which blobs are here, or a part of them."""
        names = {path.name.removesuffix(_PART) for path in self.folder.iterdir()}
        return tuple(sorted(Address(name) for name in names if is_hash(name)))

    def set_aside(
        self, addresses: Iterable[Address], downloading: Iterable[Address] | None = None
    ) -> tuple[Path, ...]:
        """Hide every complete blob not among ``addresses``; return the files for remove_files.

        And what there is of any that is not ``downloading``; None: it may all be.

        Hiding is a rename and takes no time; freeing large files may, and can be done later.
        """
        parts = {path.name for path in self.folder.glob(f"*{_PART}")}
        if downloading is not None:
            parts &= {f"{address}{_PART}" for address in downloading}
        wanted = {*addresses, *parts, *(part.removesuffix(_PART) for part in parts)}
        hidden = []
        for path in self.folder.iterdir():
            name = path.name.removesuffix(_TREE)
            if is_hash(name.removesuffix(_PART)) and name not in wanted:
                with suppress(FileNotFoundError):
                    hidden.append(path.replace(path.with_name(path.name + _HIDDEN)))
                self.lasting.forget(Address(path.name))
            elif path.name.endswith(_HIDDEN):  # left by a crash, or about to be removed
                hidden.append(path)
        return tuple(hidden)

    def _beside(self, address: Address, suffix: str) -> Path:
        path = self.path(address)
        return path.with_name(path.name + suffix)

    def _damaged(self, address: Address) -> StateError:
        """Remove a blob that is not what it should be, and return what to raise."""
        for path in (self.path(address), self._beside(address, _TREE)):
            path.unlink(missing_ok=True)
        return StateError("SK-DSK-002", f"blob {address[:8]} was damaged on disk")


class PartialBlob:
    """One blob that is brought in order and checked at its end, by a peer that must be trusted so
    far: what it should consist of is not known before."""

    def __init__(self, store: BlobStore, address: Address, size: int) -> None:
        """Continue the ``.part`` file of ``address`` if there is one."""
        self._store, self._address, self._size = store, address, size
        self._part = store.part(address)

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
        self._part.touch()
        with self._part.open("rb") as file:
            tree = tree_of(iter(lambda: file.read(CHUNK_BYTES), b""), self._size)
        if tree.address != self._address:
            self.discard()
            raise ProtocolError("hash", f"blob {self._address[:8]} does not match its address")
        self._store.keep_tree(tree)
        self._store.publish(self._address)

    def discard(self) -> None:
        """Forget what was downloaded."""
        self._part.unlink(missing_ok=True)


def _missing(address: Address) -> StateError:
    return StateError("SK-DSK-002", f"blob {address[:8]} is not in the store")


def check_blob(store: BlobStore, address: Address) -> None:
    """Read a blob, chunk by chunk. Raises: as ``BlobStore.read_into``."""
    try:
        with store.path(address).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = tree_of(iter(lambda: file.read(CHUNK_BYTES), b""), size)
    except FileNotFoundError:
        raise _missing(address) from None
    if found.address != address:
        raise store._damaged(address)


def recheck_blobs(store: BlobStore, addresses: Iterable[Address]) -> None:
    """Remove blobs of an earlier process that are no longer whole; each is read once."""
    for address in store.lasting.unchecked(addresses):
        with suppress(StateError):
            check_blob(store, address)


def remove_files(paths: Iterable[Path]) -> None:
    """Delete files; one that is gone already is no matter."""
    for path in paths:
        path.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that after a crash it is there whole or not at all, and durable on return."""
    with replacing(path) as file:
        file.write(data)
    sync_folder(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Lend a file that takes the place of ``path`` once the block has ended well.

    Until then the old one is there, and after a crash one of the two, whole; which of them is
    certain only once the folder was synced.
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
