"""Error feedback and its accounts on disk: the newest and those before, each whole or not at all.

The file is where the error feedback lives; memory holds one shard of it at a time. It is written
shard by shard in the place of the older one of two files, which it replaces once it is complete
and durable (sealed_file.py).

Its note is ``accounts``, the JSON of ledger.py. Accounts and error feedback are one file because
they are only right together: the ledger says which payloads are missing from the error feedback.

Beside the two lies the newest accounts once more, with their hash, durable before the file of the
same write is in its place. When only one file is whole, they tell whether it is the newest; and if
it is the one before, what was sent since (feedback.py makes it fit). Where not even that can be
told, nothing is used: what was sent after an older error feedback was written is still inside of
it, and would be sent twice.
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
from skerry.protocol.blobs import write_atomic
from skerry.protocol.errors import StateError
from skerry.protocol.ids import RunId, content_hash
from skerry.protocol.layout import ShardSpec

ACCOUNTS = "accounts"

log = logging.getLogger(__name__)


class SnapshotFile:
    """One run's error feedback on this peer."""

    def __init__(
        self, path: Path, run_id: RunId, layout: tuple[ShardSpec, ...], dtype: torch.dtype
    ) -> None:
        """Keep shards of ``dtype`` (f32 or bf16) in ``path``; nothing is read before ``load``."""
        self._files = (path, path.with_stem(f"{path.stem}.other"))
        self._told = path.with_suffix(".json")
        self._run_id, self._layout, self._dtype = run_id, layout, dtype
        self._form = Form([(spec.name, spec.numel) for spec in layout], dtype, ACCOUNTS)
        self._newest: Path | None = None
        """The file that is read; None while the error feedback is zero."""
        self._was_cut = any([remove_unfinished(one) for one in (*self._files, self._told)])

    def load(self) -> tuple[Accounts, Accounts]:
        """Check the files; return the accounts of what is read from now on, and the newest.

        They are the same unless the newest error feedback was damaged: then the former are of one
        write before. New ones if nothing is there, or nothing of use.
        """
        found = [one for one in self._files if one.exists()]
        whole = {one: known for one in found if (known := self._accounts_in(one)) is not None}
        told = self._accounts_told()
        if not found:
            return Accounts(), Accounts()
        for path, known in sorted(whole.items(), key=lambda one: one[1].writes, reverse=True):
            newest = self._newest_after(known, len(found), len(whole), told)
            if newest is not None:
                self._newest = path
                return known, newest
        log.warning(
            "the error feedback in %s starts from zero: what was sent since is not "
            "known, or nothing is whole",
            self._files[0],
        )
        self.forget()
        return Accounts(), Accounts()

    def forget(self) -> None:
        """Start from zero."""
        self._newest = None
        for path in (*self._files, self._told):
            path.unlink(missing_ok=True)

    def vector(self, position: int) -> Tensor:
        """Return the error feedback of a shard, flat [numel] of the file's dtype, a copy.

        Raises: StateError("SK-DSK-002") if the file cannot be read any more.
        """
        spec = self._layout[position]
        if self._newest is None:
            return torch.zeros(spec.numel, dtype=self._dtype)
        try:
            with safe_open(self._newest, framework="pt") as file:
                # clone: it must not stay mapped to a file that is about to be replaced
                mapped: Tensor = file.get_tensor(spec.name)
                return mapped.clone()
        except (SafetensorError, OSError) as error:
            raise StateError("SK-DSK-002", f"{self._newest} cannot be read: {error}") from None

    @contextmanager
    def rewriting(self) -> Iterator["SnapshotWriter"]:
        """Lend a writer; once the block has ended well, what it wrote is durable.

        Raises: StateError("SK-DSK-001") on a full disk; the file is then as it was.
        """
        path = next(one for one in self._files if one != self._newest)
        with sealing(path, self._form) as writer:
            yield SnapshotWriter(writer, self._run_id, self._told)
        self._newest = path

    def _newest_after(
        self, known: Accounts, found: int, whole: int, told: Accounts | None
    ) -> Accounts | None:
        """Return the accounts of the newest write if a file with ``known`` is of use: of that
        write, or of the one before.

        Args:
            found: how many files are there; ``whole`` so many of them.
            told: what lies beside them; None if nothing does, or it is damaged.
        """
        if told is None:
            return known if whole == found else None
        if told.writes == known.writes:
            return known
        if told.writes != known.writes + 1:
            return None
        # The file that it was written to is whole and older, or a kill came before it was there.
        return known if whole == len(self._files) or self._was_cut else told

    def _accounts_in(self, path: Path) -> Accounts | None:
        try:
            return self._checked(path)
        except (SafetensorError, OSError, ValueError) as error:
            log.warning("the error feedback in %s is damaged and not taken: %s", path, error)
            return None

    def _accounts_told(self) -> Accounts | None:
        try:
            digest, _, data = self._told.read_bytes().partition(b"\n")
            if digest != content_hash(data).encode():
                raise ValueError("it does not match its hash")
            return accounts_from_json(self._run_id, data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("the accounts in %s are damaged and not taken: %s", self._told, error)
            return None

    def _checked(self, path: Path) -> Accounts:
        with safe_open(path, framework="pt") as file:
            for name, numel in self._form.vectors:
                found = file.get_slice(name)
                form = (found.get_shape(), found.get_dtype())
                if form != ([numel], DTYPE_NAMES[self._dtype]):
                    raise ValueError(f"{name} is {form}, not ({numel},) {self._dtype}")
        names = [name for name, _ in self._form.vectors]
        return accounts_from_json(self._run_id, verified(path, names, ACCOUNTS))


class SnapshotWriter:
    """Takes the shards in layout order, then the accounts. From SnapshotFile.rewriting."""

    def __init__(self, writer: SealedWriter, run_id: RunId, told: Path) -> None:
        """Write by ``writer``, and accounts to the file ``told``, too."""
        self._writer, self._run_id, self._told = writer, run_id, told

    def add(self, vector: Tensor) -> None:
        """Write the next shard, flat [numel] of the file's dtype."""
        self._writer.add(vector)

    def finish(self, accounts: Accounts) -> None:
        """Write what goes with all shards."""
        data = accounts_to_json(self._run_id, accounts)
        self._writer.finish(data)
        write_atomic(self._told, content_hash(data).encode() + b"\n" + data)
