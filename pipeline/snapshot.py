"""Error feedback and its accounts on disk: one safetensors file, replaced whole or not at all.

The file is where the error feedback lives; memory holds one shard of it at a time. It is written
shard by shard beside the old one, which it replaces once it is complete and durable.

Its tensors are the shards, then ``accounts`` (u8: the JSON of ledger.py) and ``hash`` (u8: the
BLAKE2b-256 of the bytes of all those before it), since safetensors notices a cut file but not a
flipped bit. Accounts and error feedback are one file because they are only right together: the
ledger says which payloads are missing from the error feedback. What is known last, the accounts,
stands last; room for the header, which gives its length, is left at the front.
"""

import json
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from skerry.pipeline.ledger import Accounts, accounts_from_json, accounts_to_json
from skerry.protocol.blobs import replacing
from skerry.protocol.errors import StateError
from skerry.protocol.ids import HASH_BYTES, RunId
from skerry.protocol.layout import ShardSpec

ACCOUNTS, HASH = "accounts", "hash"
_DTYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8
_MOST_ACCOUNTS_BYTES = 10**12
"""Only the number of its digits counts: it makes room for the header."""

log = logging.getLogger(__name__)


class SnapshotFile:
    """One run's error feedback on this peer."""

    def __init__(
        self, path: Path, run_id: RunId, layout: tuple[ShardSpec, ...], dtype: torch.dtype
    ) -> None:
        """Keep shards of ``dtype`` (f32 or bf16) in ``path``; nothing is read before ``load``."""
        self._path, self._run_id, self._layout, self._dtype = path, run_id, layout, dtype
        self._is_sound = False
        for unfinished in path.parent.glob(f"{path.name}.*.tmp"):  # of a process that was killed
            unfinished.unlink(missing_ok=True)

    def load(self) -> Accounts:
        """Check the file and return its accounts: new ones if it is not there or is damaged."""
        if not self._path.exists():
            return Accounts()
        try:
            accounts = self._checked()
        except (SafetensorError, OSError, ValueError) as error:
            log.warning(
                "the error feedback in %s is damaged and starts from zero: %s", self._path, error
            )
            return Accounts()
        self._is_sound = True
        return accounts

    def vector(self, position: int) -> Tensor:
        """Return the error feedback of a shard, flat [numel] of the file's dtype, a copy.

        Raises: StateError("SK-DSK-002") if the file cannot be read any more.
        """
        spec = self._layout[position]
        if not self._is_sound:
            return torch.zeros(spec.numel, dtype=self._dtype)
        try:
            with safe_open(self._path, framework="pt") as file:
                # clone: it must not stay mapped to a file that is about to be replaced
                mapped: Tensor = file.get_tensor(spec.name)
                return mapped.clone()
        except (SafetensorError, OSError) as error:
            raise StateError("SK-DSK-002", f"{self._path} cannot be read: {error}") from None

    @contextmanager
    def rewriting(self) -> Iterator["SnapshotWriter"]:
        """Lend a writer; once the block has ended well, what it wrote is durable.

        Raises: StateError("SK-DSK-001") on a full disk; the file is then as it was.
        """
        with replacing(self._path) as file:
            yield SnapshotWriter(file, self._run_id, self._layout, self._dtype)
        _make_durable(self._path.parent)
        self._is_sound = True

    def _checked(self) -> Accounts:
        digest = blake2b(digest_size=HASH_BYTES)
        with safe_open(self._path, framework="pt") as file:
            for spec in self._layout:
                vector = file.get_tensor(spec.name)
                if (tuple(vector.shape), vector.dtype) != ((spec.numel,), self._dtype):
                    form = f"{tuple(vector.shape)} {vector.dtype}"
                    raise ValueError(f"{spec.name} is {form}, not ({spec.numel},) {self._dtype}")
                digest.update(_bytes_of(vector))
            accounts = bytes(_bytes_of(file.get_tensor(ACCOUNTS)))
            digest.update(accounts)
            if bytes(_bytes_of(file.get_tensor(HASH))) != digest.digest():
                raise ValueError("it does not match its hash")
        return accounts_from_json(self._run_id, accounts)


class SnapshotWriter:
    """Takes the shards in layout order, then the accounts. From SnapshotFile.rewriting."""

    def __init__(
        self, file: BinaryIO, run_id: RunId, layout: tuple[ShardSpec, ...], dtype: torch.dtype
    ) -> None:
        """Write into ``file``, leaving room for the header."""
        self._file, self._run_id, self._layout, self._dtype = file, run_id, layout, dtype
        longest = len(_header(layout, dtype, _MOST_ACCOUNTS_BYTES))
        self._header_bytes = -(-longest // _ALIGNMENT) * _ALIGNMENT
        self._digest = blake2b(digest_size=HASH_BYTES)
        file.seek(_LENGTH.size + self._header_bytes)

    def add(self, vector: Tensor) -> None:
        """Write the next shard, flat [numel] of the file's dtype."""
        self._write(_bytes_of(vector))

    def finish(self, accounts: Accounts) -> None:
        """Write what goes with all shards."""
        data = accounts_to_json(self._run_id, accounts)
        self._write(memoryview(data))
        self._file.write(self._digest.digest())
        header = _header(self._layout, self._dtype, len(data)).ljust(self._header_bytes)
        self._file.seek(0)
        self._file.write(_LENGTH.pack(len(header)) + header)

    def _write(self, data: memoryview) -> None:
        self._digest.update(data)
        self._file.write(data)


def _header(layout: tuple[ShardSpec, ...], dtype: torch.dtype, accounts_bytes: int) -> bytes:
    """Return safetensors' header: name, type, shape and place of each tensor, without padding."""
    tensors = [(spec.name, _DTYPE_NAMES[dtype], spec.numel, dtype.itemsize) for spec in layout]
    tensors += [(ACCOUNTS, "U8", accounts_bytes, 1), (HASH, "U8", HASH_BYTES, 1)]
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


def _make_durable(folder: Path) -> None:
    """Make the renaming of a file in ``folder`` survive a power cut, where the system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some file systems refuse it for folders. The new file is in its place either way.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
