"""Reputations along the chain: what each commit says of its parent's contributions, added up."""

from collections.abc import Callable

from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.messages import Commit
from skerry.protocol.rounds.commits import Commits
from skerry.protocol.rounds.spotting import Duties, duties, harmful
from skerry.protocol.standing import Ramp, Standing

KEPT = 256
"""Standings in memory; older ones are computed anew."""


class Standings:
    """The standing after each commit."""

    def __init__(
        self,
        commits: Commits,
        ramp: Ramp,
        spot_checks: int,
        partial: Callable[[CommitHash], frozenset[PeerId]],
    ) -> None:
        """Read ``commits`` as they are added.

        Args:
            ramp: how reputations rise.
            spot_checks: contributions of each round that are tried.
            partial: who hosts less than the whole model in the round upon a commit.
        """
        self._commits, self._spot_checks, self._partial = commits, spot_checks, partial
        self._first = Standing(ramp, {})
        self._known: dict[CommitHash, Standing] = {}

    def of(self, commit: CommitHash) -> Standing:
        """Return the standing by which a commit's contributions are judged."""
        missing: list[CommitHash] = []
        while commit not in self._known and (link := self._commits.get_link(commit)) is not None:
            missing.append(commit)
            commit = link.parent
        standing = self._known.get(commit, self._first)
        for name in reversed(missing):
            standing = self._after(standing, self._commits[name].message)
            self._known[name] = standing
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]
        return standing

    def duties(self, commit: CommitHash) -> Duties:
        """Return the spot checks of a commit's contributions."""
        found = self._commits.get(commit)
        if found is None or not self._spot_checks:
            return {}
        contributors = [announce.signer for announce in found.message.announces]
        partial = self._partial(found.message.parent)
        return duties(commit, contributors, self.of(commit), self._spot_checks, partial)

    def _after(self, before: Standing, commit: Commit) -> Standing:
        """Return what a commit makes of the standing after its parent."""
        parent = self._commits.get(commit.parent)
        if parent is None or not commit.announces:
            return before
        findings = [(one.signer, one.message.subject) for one in commit.findings]
        found = harmful(self.duties(commit.parent), findings) if findings else set()
        contributors = [announce.signer for announce in parent.message.announces]
        return before.after(contributors, commit.judgements, found)
