"""Files of envelopes: each with its length before it, only ever added to.

A tail that a crash left unreadable is cut off when the file is read. Where readable frames follow
what cannot be read, the disk has damaged the file: it is kept aside, and they go on without it.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Generic, TypeVar

from skerry.protocol.blobs import disk_errors, write_atomic
from skerry.protocol.codec import decode_envelope, encode_envelope
from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.lasting import sync_folder
from skerry.protocol.messages import Envelope

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
LENGTH_BYTES = 4
_FIRST_BYTE = b"\0"
"""Of every length: the largest entry takes less than 16 MiB."""


@dataclass(frozen=True, slots=True)
class Frame(Generic[T]):
    """What was read, and the byte where its length begins."""

    item: T
    offset: int
    end: int
    """The byte behind it."""


def framed(envelopes: Iterable[Envelope]) -> bytes:
    """Return envelopes as they stand in a file."""
    encoded = map(encode_envelope, envelopes)
    return b"".join(len(data).to_bytes(LENGTH_BYTES, "big") + data for data in encoded)


def append(path: Path, data: bytes, durably: bool = False) -> int:
    """Add to a file all of ``data`` or, on a full disk, nothing: what follows must be readable.

    Returns: the byte where it begins. Raises: StateError.
    """
    with disk_errors(), path.open("ab", buffering=0) as file:
        end, left = file.tell(), memoryview(data)
        try:
            while left:
                left = left[file.write(left) :]
            if durably:
                os.fsync(file.fileno())
                if not end:  # its name is new
                    sync_folder(path.parent)
        except OSError:
            with suppress(OSError):  # what cannot be cut off took nothing in, either: a device
                file.truncate(end)
            raise
    return end


def read_frames(path: Path, read: Callable[[Envelope], T]) -> list[Frame[T]]:
    """Return what ``read`` makes of a file's envelopes, of all that it can read.

    What is left unread is cut off the file, or kept beside it if the damage is not at its end.
    """
    data = path.read_bytes() if path.exists() else b""
    found = list(_readable(data, read))
    end = found[-1].end if found else 0
    begins = [0, *(frame.end for frame in found)]
    gap = next((at for at, frame in zip(begins, found, strict=False) if frame.offset > at), None)
    if gap is not None:
        return _without_damage(path, data, read, found, gap)
    if end < len(data):
        _LOG.warning("%s ends within an entry and is cut at byte %d of %d", path, end, len(data))
        os.truncate(path, end)
    return found


def _readable(data: bytes, read: Callable[[Envelope], T]) -> Iterator[Frame[T]]:
    """Yield what can be read, wherever it begins: a length may be what was damaged."""
    offset = 0
    while offset >= 0:
        length = int.from_bytes(data[offset : offset + LENGTH_BYTES], "big")
        end = offset + LENGTH_BYTES + length
        if length and end <= len(data):
            with suppress(ProtocolError):
                envelope = decode_envelope(data[offset + LENGTH_BYTES : end])
                yield Frame(read(envelope), offset, end)
                offset = end
                continue
        offset = data.find(_FIRST_BYTE, offset + 1)


def _without_damage(
    path: Path, data: bytes, read: Callable[[Envelope], T], found: list[Frame[T]], gap: int
) -> list[Frame[T]]:
    """Write what can be read anew, and keep what was there beside it."""
    numbers = (path.with_name(f"{path.name}.damaged-{n}") for n in count(1))
    aside = next(name for name in numbers if not name.exists())
    told = f"SK-DSK-002: {path} is damaged at byte {gap} of {len(data)}"
    kept = b"".join(data[frame.offset : frame.end] for frame in found)
    try:
        write_atomic(aside, data)
        write_atomic(path, kept)
    except StateError as error:  # they stand where they stood
        _LOG.error("%s; %d entries can be read, and it stays as it is: %s", told, len(found), error)
        return found
    _LOG.error("%s: %d entries can be read, what was there is %s", told, len(found), aside.name)
    return list(_readable(kept, read))
