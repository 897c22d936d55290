"""The commits of a chain in memory: all as signed bytes, the newest ones decoded as well.

A decoded commit takes several times the memory of its bytes, and a run has no last round. What
the fork choice asks of every commit (parent, round, weight, roster) is kept beside the bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from skerry.protocol.codec import open_commit
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.messages import Envelope, SignedCommit

DECODED = 128
"""Commits kept decoded: more than two times the usual ``replay`` rounds, and those of branches."""


@dataclass(frozen=True, slots=True)
class Link:
    """A commit's place in the tree of commits."""

    parent: CommitHash
    round: int
    weight: int
    """Text tokens committed up to here."""
    roster: tuple[PeerId, ...]
    envelope: Envelope


class Commits:
    """Commits by name; the order is that of arrival."""

    def __init__(self) -> None:
        """Start empty."""
        self._links: dict[CommitHash, Link] = {}
        self._decoded: dict[CommitHash, SignedCommit] = {}

    def __contains__(self, name: CommitHash) -> bool:
        """Say whether a commit is there."""
        return name in self._links

    def __iter__(self) -> Iterator[CommitHash]:
        """Yield all names."""
        return iter(self._links)

    def __getitem__(self, name: CommitHash) -> SignedCommit:
        """Return a commit, decoded anew if it was not asked for lately."""
        signed = self._decoded.pop(name, None) or open_commit(self._links[name].envelope)
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
        link = Link(commit.parent, commit.round, commit.weight, roster, signed.envelope)
        self._links[name] = link
        self._remember(name, signed)

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
