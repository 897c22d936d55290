"""The commits of a run on disk, in the order of arrival; any of them can be read again alone."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from skerry.node.run.frame_file import LENGTH_BYTES, Frame, append, framed, read_frames
from skerry.protocol.blobs import disk_errors
from skerry.protocol.codec import MAX_BODY_BYTES, decode_envelope, open_commit
from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.ids import CommitHash
from skerry.protocol.lasting import sync_folder
from skerry.protocol.messages import Envelope, Kind, SignedCommit
from skerry.protocol.signing import verify

_MAX_BYTES = MAX_BODY_BYTES[Kind.COMMIT] + 1024
"""Largest commit with its signature."""


class ChainFile:
    """A file of commits. One thread writes; commits that are there may be read from others."""

    def __init__(self, path: Path) -> None:
        """Use the file at ``path``, which need not exist."""
        self._path = path
        self._offsets: dict[CommitHash, int] = {}
        self._is_named = self._is_durable = False
        """Whether all that is in the file survives a power cut, also what was in it before."""

    def __contains__(self, name: CommitHash) -> bool:
        """Say whether a commit was written, or read by ``load``."""
        return name in self._offsets

    def __getitem__(self, name: CommitHash) -> Envelope:
        """Read a commit. Raises: KeyError; StateError if the file was altered meanwhile."""
        try:
            envelope = decode_envelope(self._read(self._offsets[name]))
            verify(envelope)
        except (OSError, ProtocolError) as error:
            raise self._altered(name) from error
        if envelope.hash != name:
            raise self._altered(name)
        return envelope

    def append(self, commits: Sequence[SignedCommit]) -> None:
        """Add commits but those that are there; ``sync`` makes them durable. Raises: StateError."""
        commits = [commit for commit in commits if commit.hash not in self._offsets]
        self._is_durable = False
        frames = [framed([commit.envelope]) for commit in commits]
        offset = append(self._path, b"".join(frames))
        for commit, frame in zip(commits, frames, strict=True):
            self._offsets[CommitHash(commit.hash)] = offset
            offset += len(frame)

    def sync(self) -> None:
        """Return when all that was added survives a power cut. Raises: StateError."""
        if self._is_durable or not self._path.exists():
            return
        with disk_errors(), self._path.open("rb") as file:
            os.fsync(file.fileno())
        if not self._is_named:
            sync_folder(self._path.parent)
        self._is_durable = self._is_named = True

    def load(self) -> tuple[SignedCommit, ...]:
        """Return the commits that are whole and properly signed."""
        frames = read_frames(self._path, open_commit)
        self._offsets = _offsets(frames)
        return tuple(frame.item for frame in frames)

    def _read(self, offset: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            length = int.from_bytes(file.read(LENGTH_BYTES), "big")
            return file.read(min(length, _MAX_BYTES))

    def _altered(self, name: CommitHash) -> StateError:
        return StateError("SK-DSK-002", f"{self._path} no longer holds commit {name[:8]}")


def _offsets(frames: Iterable[Frame[SignedCommit]]) -> dict[CommitHash, int]:
    return {CommitHash(frame.item.hash): frame.offset for frame in frames}
