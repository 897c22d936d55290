"""A download whose chunks come in any order and from anyone, each checked before it is kept.

What was checked lies at its place in a ``.part`` file, the tree beside it: a later attempt, also of
another process, finds out from these two alone what is still missing.
"""

import os

from skerry.protocol.blobs import BlobStore, disk_errors
from skerry.protocol.chunk_tree import CHUNK_BYTES, ChunkTree
from skerry.protocol.errors import ProtocolError


class ChunkedBlob:
    """One blob on its way into a store. Methods block on the disk."""

    def __init__(self, store: BlobStore, tree: ChunkTree) -> None:
        """Go on with what lies in ``store``; ``begin`` comes first."""
        self._store, self._tree = store, tree
        self._part = store.part(tree.address)

    def begin(self) -> list[int]:
        """Return which chunks are missing: those that are here are read and checked.

        Raises: StateError on a full disk.
        """
        self._store.keep_tree(self._tree)
        with disk_errors():
            self._part.touch()
            with self._part.open("r+b") as file:
                file.truncate(min(self._tree.size, self._part.stat().st_size))
                return [
                    index
                    for index in range(self._tree.num_chunks)
                    if not self._tree.fits(index, file.read(CHUNK_BYTES))
                ]

    def keep(self, index: int, data: bytes) -> None:
        """Put a chunk into its place.

        Raises: ProtocolError("hash") if it is another one, StateError on a full disk.
        """
        if not self._tree.fits(index, data):
            name = self._tree.address[:8]
            raise ProtocolError("hash", f"chunk {index} of blob {name} does not match its hash")
        with disk_errors():
            descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT, 0o644)
            with open(descriptor, "wb") as file:
                file.seek(index * CHUNK_BYTES)
                file.write(data)

    def publish(self) -> None:
        """Make it a blob: every chunk is here and was checked."""
        self._store.publish(self._tree.address)
