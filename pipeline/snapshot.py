"""Error feedback and its accounts on disk: one sealed file, replaced whole or not at all.

The file is where the error feedback lives; memory holds one shard of it at a time. It is written
shard by shard beside the old one, which it replaces once it is complete and durable
(sealed_file.py).

Its note is ``accounts``, the JSON of ledger.py. Accounts and error feedback are one file because
they are only right together: the ledger says which payloads are missing from the error feedback.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from skerry.pipeline.ledger import Accounts, accounts_from_json, accounts_to_json
from skerry.pipeline.sealed_file import (
    DTYPE_NAMES,
    Form,
    SealedWriter,
    remove_unfinished,
    sealing,
    verified,
)
from skerry.protocol.errors import StateError
from skerry.protocol.ids import RunId
from skerry.protocol.layout import ShardSpec

ACCOUNTS = "accounts"

log = logging.getLogger(__name__)


class SnapshotFile:
    """One run's error feedback on this peer."""

    def __init__(
        self, path: Path, run_id: RunId, layout: tuple[ShardSpec, ...], dtype: torch.dtype
    ) -> None:
        """Keep shards of ``dtype`` (f32 or bf16) in ``path``; nothing is read before ``load``."""
        self._path, self._run_id, self._layout, self._dtype = path, run_id, layout, dtype
        self._form = Form([(spec.name, spec.numel) for spec in layout], dtype, ACCOUNTS)
        self._is_sound = False
        remove_unfinished(path)

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
        with sealing(self._path, self._form) as writer:
            yield SnapshotWriter(writer, self._run_id)
        self._is_sound = True

    def _checked(self) -> Accounts:
        with safe_open(self._path, framework="pt") as file:
            for name, numel in self._form.vectors:
                found = file.get_slice(name)
                form = (found.get_shape(), found.get_dtype())
                if form != ([numel], DTYPE_NAMES[self._dtype]):
                    raise ValueError(f"{name} is {form}, not ({numel},) {self._dtype}")
        names = [name for name, _ in self._form.vectors]
        return accounts_from_json(self._run_id, verified(self._path, names, ACCOUNTS))


class SnapshotWriter:
    """Takes the shards in layout order, then the accounts. From SnapshotFile.rewriting."""

    def __init__(self, writer: SealedWriter, run_id: RunId) -> None:
        """Write by ``writer``."""
        self._writer, self._run_id = writer, run_id

    def add(self, vector: Tensor) -> None:
        """Write the next shard, flat [numel] of the file's dtype."""
        self._writer.add(vector)

    def finish(self, accounts: Accounts) -> None:
        """Write what goes with all shards."""
        self._writer.finish(accounts_to_json(self._run_id, accounts))
