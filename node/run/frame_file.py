"""Files of envelopes: each with its length before it, only ever added to.

A tail that a crash or a damaged disk left unreadable is cut off when the file is read.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from skerry.protocol.blobs import disk_errors
from skerry.protocol.codec import decode_envelope, encode_envelope
from skerry.protocol.errors import ProtocolError
from skerry.protocol.messages import Envelope

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Frame(Generic[T]):
    """What was read, and the byte where its length begins."""

    item: T
    offset: int


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
        except OSError:
            with suppress(OSError):  # what cannot be cut off took nothing in, either: a device
                file.truncate(end)
            raise
    return end


def read_frames(path: Path, read: Callable[[Envelope], T]) -> list[Frame[T]]:
    """Return what ``read`` makes of a file's envelopes; cut off what cannot be read."""
    data = path.read_bytes() if path.exists() else b""
    found: list[Frame[T]] = []
    end = 0
    try:
        for offset, end_of_frame in _spans(data):
            envelope = decode_envelope(data[offset + LENGTH_BYTES : end_of_frame])
            found.append(Frame(read(envelope), offset))
            end = end_of_frame
    except ProtocolError as error:
        _LOG.warning("%s is damaged at byte %d and cut there: %s", path, end, error)
    if end < len(data):
        os.truncate(path, end)
    return found


def _spans(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each whole frame begins and ends."""
    offset = 0
    while offset + LENGTH_BYTES <= len(data):
        length = int.from_bytes(data[offset : offset + LENGTH_BYTES], "big")
        end = offset + LENGTH_BYTES + length
        if end > len(data):
            return
        yield offset, end
        offset = end
