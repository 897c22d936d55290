"""Which files of a blob store may be lost, or torn, by a power cut.

A file that was renamed but not fsynced can come back as a name without its bytes. Payloads are
many and can mostly be had again, so a download is not fsynced by itself: whoever rests on blobs
says so first, and what an earlier process left is read once before it is used.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from skerry.protocol.ids import Address, is_hash


class Lasting:
    """The doubts about one store's files."""

    def __init__(self, folder: Path) -> None:
        """Doubt all that an earlier process left in ``folder``."""
        self._folder = folder
        self._in_memory = {Address(path.name) for path in folder.iterdir() if is_hash(path.name)}
        self._unchecked = set(self._in_memory)

    def doubt(self, address: Address) -> None:
        """Note a blob that is not fsynced."""
        self._in_memory.add(address)

    def trust(self, address: Address) -> None:
        """Note a blob that was written, and fsynced, anew."""
        self._in_memory.discard(address)

    def forget(self, address: Address) -> None:
        """Note that a blob is gone."""
        self._in_memory.discard(address)
        self._unchecked.discard(address)

    def make_durable(self, addresses: Iterable[Address] = ()) -> None:
        """Have blobs survive a power cut: what these hold, and the names of all that are here.

        One that is not here is no matter. Raises: OSError.
        """
        for address in self._in_memory.intersection(addresses):
            with suppress(FileNotFoundError), (self._folder / address).open("rb") as file:
                os.fsync(file.fileno())
            self._in_memory.discard(address)
        sync_folder(self._folder)

    def unchecked(self, addresses: Iterable[Address]) -> set[Address]:
        """Return, once, which of these an earlier process has left."""
        found = self._unchecked.intersection(addresses)
        self._unchecked -= found
        return found


def sync_folder(folder: Path) -> None:
    """Make new and renamed files in ``folder`` survive a power cut, where the system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some file systems refuse it for folders. The new file is in its place either way.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
