"""A safetensors file of flat vectors, replaced whole or not at all, that says if it was damaged.

It is written vector by vector beside the old one, which it replaces once it is complete and
durable. After the vectors come a note (u8, what they are) and ``hash`` (u8: the BLAKE2b-256 of the
bytes of all those before it), since safetensors notices a cut file but not a flipped bit. What is
known last, the note, stands last; room for the header, which gives its length, is left in front.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from skerry.protocol.blobs import replacing
from skerry.protocol.ids import HASH_BYTES
from skerry.protocol.lasting import sync_folder

HASH = "hash"
DTYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8
_MOST_NOTE_BYTES = 10**12
"""Only the number of its digits counts: it makes room for the header."""


@dataclass(frozen=True, slots=True)
class Form:
    """What is in a file."""

    vectors: Sequence[tuple[str, int]]
    """Names and lengths, in order."""
    dtype: torch.dtype
    """Of all vectors: f32 or bf16."""
    note: str
    """Name of the note."""


@contextmanager
def sealing(path: Path, form: Form) -> Iterator["SealedWriter"]:
    """Lend a writer; once the block has ended well, what it wrote is durable.

    Raises: StateError("SK-DSK-001") on a full disk; the file is then as it was.
    """
    with replacing(path) as file:
        yield SealedWriter(file, form)
    sync_folder(path.parent)


def remove_unfinished(path: Path) -> bool:
    """Remove what processes that were killed have left half-written; while none is writing.

    Returns: whether there was any.
    """
    unfinished = list(path.parent.glob(f"{path.name}.*.tmp"))
    for one in unfinished:
        one.unlink(missing_ok=True)
    return bool(unfinished)


def verified(path: Path, names: Iterable[str], note: str) -> bytes:
    """Return the note of a file with the vectors ``names``, in order, once its hash is checked.

    Raises: SafetensorError, OSError, ValueError if it is damaged.
    """
    digest = blake2b(digest_size=HASH_BYTES)
    with safe_open(path, framework="pt") as file:
        for name in names:
            digest.update(_bytes_of(file.get_tensor(name)))
        data = bytes(_bytes_of(file.get_tensor(note)))
        digest.update(data)
        if bytes(_bytes_of(file.get_tensor(HASH))) != digest.digest():
            raise ValueError("it does not match its hash")
    return data


class SealedWriter:
    """Takes the vectors in the form's order, then the note. From ``sealing``."""

    def __init__(self, file: BinaryIO, form: Form) -> None:
        """Write into ``file``, leaving room for the header."""
        self._file, self._form = file, form
        longest = len(_header(form, _MOST_NOTE_BYTES))
        self._header_bytes = -(-longest // _ALIGNMENT) * _ALIGNMENT
        self._digest = blake2b(digest_size=HASH_BYTES)
        file.seek(_LENGTH.size + self._header_bytes)

    def add(self, vector: Tensor) -> None:
        """Write the next vector, flat, of the form's length and dtype."""
        self._write(_bytes_of(vector))

    def finish(self, note: bytes) -> None:
        """Write what goes with all vectors."""
        self._write(memoryview(note))
        self._file.write(self._digest.digest())
        header = _header(self._form, len(note)).ljust(self._header_bytes)
        self._file.seek(0)
        self._file.write(_LENGTH.pack(len(header)) + header)

    def _write(self, data: memoryview) -> None:
        self._digest.update(data)
        self._file.write(data)


def _header(form: Form, note_bytes: int) -> bytes:
    """Return safetensors' header: name, type, shape and place of each tensor, without padding."""
    dtype_name, itemsize = DTYPE_NAMES[form.dtype], form.dtype.itemsize
    tensors = [(name, dtype_name, numel, itemsize) for name, numel in form.vectors]
    tensors += [(form.note, "U8", note_bytes, 1), (HASH, "U8", HASH_BYTES, 1)]
    entries: dict[str, dict[str, object]] = {}
    start = 0
    for name, dtype_name, numel, itemsize in tensors:
        end = start + numel * itemsize
        entries[name] = {"dtype": dtype_name, "shape": [numel], "data_offsets": [start, end]}
        start = end
    return json.dumps(entries, separators=(",", ":")).encode()


def _bytes_of(vector: Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor, without a copy."""
    return vector.view(torch.uint8).numpy().data
