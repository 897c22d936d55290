"""The chain of commits: what makes one valid, and which of two chains wins (DESIGN 7.5).

Signatures are checked before a commit comes here (codec.open_commit); this module checks that
its content follows from its parent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import CommitHash, PeerId, RunId
from skerry.protocol.messages import (
    Announce,
    Commit,
    Envelope,
    SignedAnnounce,
    SignedCommit,
    SignedMember,
)
from skerry.protocol.rounds.commits import Archive, Commits
from skerry.protocol.rounds.hosting import Hosts, plan_version
from skerry.protocol.rounds.leader import MAX_VIEW, leader_of
from skerry.protocol.rounds.settings import OwnerKeys, Settings, admitted, ordered
from skerry.protocol.rounds.spotting import Duties
from skerry.protocol.rounds.standings import Standings
from skerry.protocol.rounds.voting import check_state, check_vouched
from skerry.protocol.standing import FLAT, Ramp, Standing

UNKNOWN_PARENT = "unknown-parent"
"""Why a commit is not taken in before another one."""
AdmissionCheck = Callable[[SignedMember], None]
"""Raises ProtocolError when a member may not take part."""


@dataclass(frozen=True, slots=True)
class ChainRules:
    """What of the manifest decides whether commits and announcements are valid."""

    run_id: RunId
    owner: PeerId
    max_peers: int
    rounds: int
    """Number of the last round; 0: without end."""
    steps: int
    max_round_tokens: int
    payload_limits: tuple[tuple[str, int], ...]
    """Shards in layout order with the largest possible payload, bytes."""
    standby: tuple[PeerId, ...] = ()
    """Keys that may give orders as the owner's may."""
    allowed: frozenset[PeerId] | None = None
    """Whom the run lists from the outset; None if it keeps no list."""
    by_invite: bool = True
    """Whether the run lets peers in by invite."""
    ramp: Ramp = FLAT
    """How reputations rise."""
    spot_checks: int = 0
    """Contributions of each round that verifiers try."""
    replica_bytes: int = 0
    """Memory that training the whole model takes."""

    @property
    def shards(self) -> tuple[str, ...]:
        """The model's shards in layout order."""
        return tuple(name for name, _ in self.payload_limits)

    @property
    def root(self) -> CommitHash:
        """Parent of the first commit."""
        return CommitHash(self.run_id)

    @property
    def keys(self) -> OwnerKeys:
        """Whose orders count."""
        return OwnerKeys(self.run_id, self.owner, self.standby)

    @property
    def settings(self) -> Settings:
        """What is in force before the first commit."""
        owners = frozenset((self.owner, *self.standby))
        return Settings(
            owners=owners,
            allowed=self.allowed,
            by_invite=self.by_invite,
            hosts=Hosts(self.shards),
        )


class Chain:
    """All valid commits seen, as a tree that grows from the root."""

    def __init__(self, rules: ChainRules, admission: AdmissionCheck, archive: Archive) -> None:
        """Start empty; ``archive`` holds what need not be kept in memory (commits.py)."""
        self._rules = rules
        self._admission = admission
        self._commits = Commits(archive)
        self._initial = rules.settings
        self._settings: dict[CommitHash, Settings] = {}
        self._best = rules.root
        self._standings = Standings(self._commits, rules.ramp, rules.spot_checks, self._partial)

    def __contains__(self, commit: CommitHash) -> bool:
        """Say whether a commit (or the root) is known."""
        return commit == self._rules.root or commit in self._commits

    def __getitem__(self, commit: CommitHash) -> SignedCommit:
        """Return a known commit; not the root."""
        return self._commits[commit]

    def get(self, commit: CommitHash) -> SignedCommit | None:
        """Return a commit, or None for the root and unknown ones."""
        return self._commits.get(commit)

    def envelope(self, commit: CommitHash) -> Envelope:
        """Return a known commit as it was signed."""
        return self._commits.envelope(commit)

    def roster(self, commit: CommitHash) -> tuple[PeerId, ...]:
        """Return who trains upon a known commit."""
        return self._commits.link(commit).roster

    def add(self, signed: SignedCommit) -> None:
        """Take in a commit whose parent is known. Raises: ProtocolError."""
        commit = signed.message
        if commit.run_id != self._rules.run_id:
            raise ProtocolError("run", "the commit is of another run")
        if commit.parent not in self:
            raise ProtocolError(UNKNOWN_PARENT, "the commit's parent is unknown")
        before = self.settings(commit.parent)
        settings = ordered(before, commit.orders, self._rules.keys)
        if commit.parent == self._rules.root:
            self._check_genesis(signed)
        else:
            self._check_child(signed, self._commits[commit.parent].message, before.hosts)
        gone = settings.removed.keys() & set(commit.roster)
        _require(not gone, "removed", "the roster holds peers that the owner has removed")
        settings = admitted(settings, commit.admissions)
        if commit.plan is not None:
            settings = replace(settings, hosts=self._check_plan(commit, before.hosts))
        self._check_tasks(commit, settings.hosts)
        name = CommitHash(signed.hash)
        self._commits.add(name, signed)
        self._settings[name] = settings
        self._best = max(self._best, name, key=self.rank)

    def round_of(self, commit: CommitHash) -> int:
        """Return a commit's round; -1 for the root."""
        link = self._commits.get_link(commit)
        return -1 if link is None else link.round

    def weight_of(self, commit: CommitHash) -> int:
        """Return the text tokens committed up to a commit."""
        link = self._commits.get_link(commit)
        return 0 if link is None else link.weight

    def settings(self, commit: CommitHash) -> Settings:
        """Return what is in force in the round after a commit."""
        return self._settings.get(commit, self._initial)

    def standing(self, commit: CommitHash) -> Standing:
        """Return the standing by which a commit's contributions are judged."""
        return self._standings.of(commit)

    def duties(self, commit: CommitHash) -> Duties:
        """Return who tries whose contribution to a commit."""
        return self._standings.duties(commit)

    def rank(self, commit: CommitHash) -> tuple[int, int, int]:
        """Return the fork choice: more text tokens, then longer, then the lower hash."""
        return self.weight_of(commit), self.round_of(commit), -int(commit, 16)

    def best(self, banned: set[CommitHash]) -> CommitHash:
        """Return the winning commit that does not build on a banned one."""
        if not banned:
            return self._best
        candidates = (c for c in self._commits if not self._builds_on(c, banned))
        return max(candidates, key=self.rank, default=self._rules.root)

    def path(self, commit: CommitHash) -> Iterator[CommitHash]:
        """Yield ``commit`` and its ancestors, newest first, without the root."""
        while (link := self._commits.get_link(commit)) is not None:
            yield commit
            commit = link.parent

    def is_ancestor(self, ancestor: CommitHash, commit: CommitHash) -> bool:
        """Say whether ``commit`` is ``ancestor`` or builds on it."""
        for known in self.path(commit):
            if self.round_of(known) <= self.round_of(ancestor):
                return known == ancestor
        return ancestor == self._rules.root

    def _partial(self, commit: CommitHash) -> frozenset[PeerId]:
        """Return who hosts less than the whole model in the round upon a commit."""
        return self.settings(commit).hosts.partial

    def _builds_on(self, commit: CommitHash, banned: set[CommitHash]) -> bool:
        return any(self.is_ancestor(bad, commit) for bad in banned)

    def _check_genesis(self, signed: SignedCommit) -> None:
        commit = signed.message
        _require(signed.signer == self._rules.owner, "leader", "only the owner starts a run")
        _require(commit.round == 0 and commit.view == 0, "round", "the first round is 0")
        _require(not commit.announces, "announces", "the first commit includes nothing")
        _require(not commit.orders, "order-sequence", "orders come after the first commit")
        self._check_judgements(commit, ())
        _require(commit.cursor == 0 and commit.weight == 0, "weight", "a run starts at zero")
        _require(len(commit.state) == len(self._rules.shards), "digest", "not the whole state")
        check_vouched(self._rules.shards, commit.state)
        self._check_roster(commit, (self._rules.owner,))

    def _check_child(self, signed: SignedCommit, parent: Commit, hosts: Hosts) -> None:
        commit = signed.message
        _require(commit.round == parent.round + 1, "round", "rounds follow one another")
        last = self._rules.rounds or commit.round
        _require(commit.round <= last, "round", f"the run ends with round {last}")
        _require(commit.view <= MAX_VIEW, "view", f"view {commit.view}")
        if commit.announces:
            _check_leader(signed, parent, hosts)
            self._check_announces(commit, parent, hosts)
        elif set(commit.roster) & set(parent.roster):
            self._check_repair(signed, parent, hosts)
        else:
            _check_takeover(signed)
            check_vouched(self._rules.shards, commit.state)
        self._check_roster(commit, parent.roster)
        self._check_judgements(commit, parent.announces if commit.announces else ())
        tokens = sum(a.message.text_tokens for a in commit.announces)
        _require(commit.weight == parent.weight + tokens, "weight", "text tokens do not add up")
        cursor = parent.cursor + self._rules.steps * len(hosts.readers(parent.roster))
        _require(commit.cursor == cursor, "cursor", f"cursor {commit.cursor}, must be {cursor}")

    def _check_repair(self, signed: SignedCommit, parent: Commit, hosts: Hosts) -> None:
        """Check a commit that only gives lost stages to others, so that a ring can train again."""
        _require(signed.message.plan is not None, "announces", "the commit includes nothing")
        _check_leader(signed, parent, hosts)
        check_state(self._rules.shards, signed.message, parent)

    def _check_announces(self, commit: Commit, parent: Commit, hosts: Hosts) -> None:
        authors = [announce.signer for announce in commit.announces]
        _require(authors == sorted(set(authors)), "announces", "authors not sorted or not unique")
        for announce in commit.announces:
            message = announce.message
            _require(message.parent == commit.parent, "announces", "upon another parent")
            check_announce(self._rules, message, announce.signer, parent, hosts)
        check_state(self._rules.shards, commit, parent)

    def _check_judgements(self, commit: Commit, judged: tuple[SignedAnnounce, ...]) -> None:
        """Check that a commit judges the contributions ``judged`` alone, each once.

        Whether it judges them rightly, those know who applied them (trust.py).
        """
        contributors = {announce.signer for announce in judged}
        peers = [judgement.peer for judgement in commit.judgements]
        _require(peers == sorted(set(peers)), "judgements", "not sorted or not unique")
        _require(contributors.issuperset(peers), "judgements", "of peers that sent nothing")
        keys = [(finding.signer, finding.message.subject) for finding in commit.findings]
        _require(keys == sorted(set(keys)), "finding", "not sorted or not unique")
        duties = self.duties(commit.parent) if keys and judged else {}
        for finding in commit.findings:
            ours = finding.message.run_id == self._rules.run_id
            _require(ours and finding.message.commit == commit.parent, "finding", "of another one")
            due = finding.signer in duties.get(finding.message.subject, ())
            _require(due, "finding", "not by a verifier of this contribution")

    def _check_roster(self, commit: Commit, before: tuple[PeerId, ...]) -> None:
        roster = commit.roster
        _require(list(roster) == sorted(set(roster)), "roster", "not sorted or not unique")
        _require(0 < len(roster) <= self._rules.max_peers, "roster", f"{len(roster)} peers")
        new = [peer for peer in roster if peer not in before]
        admitted = [member.signer for member in commit.admissions]
        _require(admitted == new, "admission", "new peers without their member records")
        for member in commit.admissions:
            self._admission(member)

    def _check_plan(self, commit: Commit, before: Hosts) -> Hosts:
        """Return who hosts what under a commit's plan; all its rings are in the roster."""
        assert commit.plan is not None
        version = plan_version(commit.round, commit.view)
        _require(commit.plan.version == version, "plan", f"version {commit.plan.version}")
        hosts = before.following(commit.plan)
        _require(hosts.ringed <= set(commit.roster), "plan", "a ring is not in the roster")
        return hosts

    def _check_tasks(self, commit: Commit, hosts: Hosts) -> None:
        idle = [peer for peer in commit.roster if not hosts.shards_of(peer)]
        _require(not idle, "plan", "the roster holds peers without a task")
        _require(bool(hosts.readers(commit.roster)), "plan", "nobody in the roster reads text")
        for member in commit.admissions:
            whole = member.message.offer.is_whole(self._rules.replica_bytes)
            fits = hosts.names(member.signer) or whole
            _require(fits, "plan", "a new peer cannot host the model and is in no plan")


def _check_leader(signed: SignedCommit, parent: Commit, hosts: Hosts) -> None:
    commit = signed.message
    leader = leader_of(commit.run_id, commit.round, commit.view, parent.roster, hosts.partial)
    _require(signed.signer == leader, "leader", "signed by another peer than the leader")


def _check_takeover(signed: SignedCommit) -> None:
    """Only peers outside a roster may pass over all of it (takeover.py), and only for themselves.

    Nobody can prove that a roster is gone; a commit that claims it adds no weight.
    """
    taking_part = signed.signer in signed.message.roster
    _require(taking_part, "leader", "signed by a peer that does not take part")


def check_announce(
    rules: ChainRules, announce: Announce, author: PeerId, parent: Commit, hosts: Hosts
) -> None:
    """Check an announcement against the commit it builds on. Raises: ProtocolError.

    ``hosts`` are those of the round.
    """
    _require(announce.run_id == rules.run_id, "run", "of another run")
    _require(announce.round == parent.round + 1, "stale-round", f"round {announce.round}")
    _require(author in parent.roster, "not-in-roster", "the author does not train this round")
    _require(0 < announce.round_tokens <= rules.max_round_tokens, "tokens", "too many text tokens")
    if hosts.reads_text(author):
        most = most_text_tokens(rules, announce.round)
        carried = announce.round_tokens <= announce.text_tokens <= most
        _require(carried, "tokens", "too many carried")
    else:
        _require(announce.text_tokens == 0, "tokens", "the origin counts those of a ring")
    hosted = hosts.shards_of(author)
    _require(tuple(s.shard for s in announce.shards) == hosted, "shards", "not those it hosts")
    _require(tuple(s.shard for s in announce.state) == hosted, "shards", "not those it hosts")
    limits = dict(rules.payload_limits)
    for shard in announce.shards:
        limit = limits[shard.shard]
        what = f"{shard.shard}: {shard.size} bytes, limit {limit}"
        _require(0 < shard.size <= limit, "size", what)


def most_text_tokens(rules: ChainRules, round_number: int) -> int:
    """Return how many text tokens one announcement may claim: those of all rounds so far.

    A peer that comes from a longer but lighter chain may carry more than that. Its progress
    counts in full, its text tokens up to here.
    """
    return rules.max_round_tokens * round_number


def _require(condition: bool, reason: str, detail: str) -> None:
    if not condition:
        raise ProtocolError(reason, detail)
