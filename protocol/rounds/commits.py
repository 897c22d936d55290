"""The commits of a chain: the newest ones decoded, older ones as signed bytes, or in an archive.

A run has no last round, and a decoded commit takes several times the memory of its bytes. What
the fork choice asks of every commit (parent, round, weight, roster) is kept of all; the bytes of
an old one are dropped once the archive, on a node the chain's file, has them. A commit's name is
the hash of its bytes, so that to read it again is no input: nothing else can come back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from skerry.protocol.codec import open_commit
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.messages import Envelope, SignedCommit

DECODED = 128
"""Commits kept decoded: more than two times the usual ``replay`` rounds, and those of branches."""


LOOKED_AT = 8
"""Commits that are looked for in the archive when one is added: a joiner adds many at once,
before the first is written."""


class Archive(Protocol):
    """Commits that were written down; a plain dict is one, too."""

    def __contains__(self, name: CommitHash, /) -> bool:
        """Say whether a commit is there for good."""

    def __getitem__(self, name: CommitHash, /) -> Envelope:
        """Return a commit that is there."""


@dataclass(frozen=True, slots=True)
class Link:
    """A commit's place in the tree of commits."""

    parent: CommitHash
    round: int
    weight: int
    """Text tokens committed up to here."""
    roster: tuple[PeerId, ...]


class Commits:
    """Commits by name; the order is that of arrival."""

    def __init__(self, archive: Archive) -> None:
        """Start empty. What is added may be in ``archive`` before, come there later, or never."""
        self._archive = archive
        self._links: dict[CommitHash, Link] = {}
        self._envelopes: dict[CommitHash, Envelope] = {}
        """What is not known to be in the archive, and the newest."""
        self._decoded: dict[CommitHash, SignedCommit] = {}

    def __contains__(self, name: CommitHash) -> bool:
        """Say whether a commit is there."""
        return name in self._links

    def __iter__(self) -> Iterator[CommitHash]:
        """Yield all names."""
        return iter(self._links)

    def __getitem__(self, name: CommitHash) -> SignedCommit:
        """Return a commit, decoded anew if it was not asked for lately."""
        signed = self._decoded.pop(name, None) or open_commit(self.envelope(name))
        self._remember(name, signed)
        return signed

    def get(self, name: CommitHash) -> SignedCommit | None:
        """Return a commit, or None if it is not there."""
        return self[name] if name in self._links else None

    def add(self, name: CommitHash, signed: SignedCommit) -> None:
        """Keep a commit whose signatures were checked."""
        commit = signed.message
        before = self._links.get(commit.parent)
        same = before is not None and before.roster == commit.roster
        roster = before.roster if before is not None and same else commit.roster
        self._links[name] = Link(commit.parent, commit.round, commit.weight, roster)
        self._envelopes[name] = signed.envelope
        self._remember(name, signed)
        self._drop_archived()

    def envelope(self, name: CommitHash) -> Envelope:
        """Return a commit as it was signed. Raises: KeyError; StateError if it was lost."""
        return self._envelopes.get(name) or self._archive[name]

    def link(self, name: CommitHash) -> Link:
        """Return a commit's place in the tree. Raises: KeyError."""
        return self._links[name]

    def get_link(self, name: CommitHash) -> Link | None:
        """Return a commit's place in the tree, or None if it is not there."""
        return self._links.get(name)

    def _remember(self, name: CommitHash, signed: SignedCommit) -> None:
        self._decoded[name] = signed
        if len(self._decoded) > DECODED:
            del self._decoded[next(iter(self._decoded))]

    def _drop_archived(self) -> None:
        """Drop old bytes that the archive has; what a full disk refused stays and goes last."""
        many = LOOKED_AT if len(self._envelopes) > DECODED else 0
        for name in list(islice(self._envelopes, many)):
            envelope = self._envelopes.pop(name)
            if name not in self._archive:
                self._envelopes[name] = envelope
