"""What one node knows of a run: the only thing the round state machine changes."""

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from skerry.protocol.compute import Contribution, Hosting
from skerry.protocol.deadline import AdaptiveDeadline
from skerry.protocol.ids import Address, CommitHash, Digest, PeerId
from skerry.protocol.layout import state_digest
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import (
    Announce,
    Commit,
    Judgement,
    ShardState,
    SignedAnnounce,
    SignedCommit,
    SignedFinding,
    SignedMember,
    SignedOrder,
)
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds.candidates import Candidate
from skerry.protocol.rounds.chain import AdmissionCheck, Chain, ChainRules
from skerry.protocol.rounds.commits import Archive
from skerry.protocol.rounds.events import LocalState
from skerry.protocol.rounds.hosting import NOTHING, Hosts
from skerry.protocol.rounds.leader import leader_of
from skerry.protocol.rounds.settings import Removal, Settings
from skerry.protocol.rounds.slowness import Slowness
from skerry.protocol.standing import ramp_of

KEPT_DIGESTS = 128
"""Digests of the newest states: asked for where the chain ends, and it may end in branches."""
KEPT_STATES = 3
"""Parameter states that stay in the blob store: for joiners, and to step back after a fork."""


class Phase(StrEnum):
    """What the node is doing; what it waits for follows from it (waiting.py)."""

    STARTING = "starting"
    """The compute process is not up."""
    LOADING = "loading"
    """The compute process takes in a state, downloaded if need be."""
    WAITING = "waiting"
    """The run has not begun: members are missing."""
    OBSERVING = "observing"
    """In step, but not in the roster: the next commit will take this peer in."""
    TRAINING = "training"
    ENCODING = "encoding"
    COLLECTING = "collecting"
    """Announced; waiting for the others' contributions and the commit."""
    IDLE = "idle"
    """Others are told so while this peer collects, without a contribution of its own: its stages
    were passed over, say. Its ``phase`` is COLLECTING."""
    FETCHING = "fetching"
    APPLYING = "applying"
    DONE = "done"
    """All rounds of the manifest are trained."""
    PAUSED = "paused"
    """In step, and told by its user not to train (pausing.py)."""
    REMOVED = "removed"
    """Kept out of the run by its owner (settings.py)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The manifest's settings as the state machine uses them. Durations in seconds."""

    chain: ChainRules
    min_peers: int
    rounds: int
    """0: without end."""
    deadline_min: float
    deadline_max: float
    deadline_factor: float
    grace: float
    replay: int
    validation_every: int


def rules_of(
    manifest: Manifest, payload_limits: tuple[tuple[str, int], ...], replica_bytes: int = 0
) -> Rules:
    """Read the rules from a manifest; the limits come from the codec, the memory from the model."""
    chain = ChainRules(
        run_id=manifest.run_id,
        owner=manifest.owner,
        max_peers=manifest.peers.max,
        rounds=manifest.rounds,
        steps=manifest.inner.steps,
        max_round_tokens=manifest.max_round_tokens,
        payload_limits=payload_limits,
        standby=manifest.standby,
        allowed=manifest.allowed,
        by_invite=manifest.admission.mode == "invite",
        ramp=ramp_of(manifest.aggregation),
        spot_checks=manifest.aggregation.spot_checks,
        replica_bytes=replica_bytes,
    )
    return Rules(
        chain=chain,
        min_peers=manifest.peers.min,
        rounds=manifest.rounds,
        deadline_min=manifest.round.deadline_min,
        deadline_max=manifest.round.deadline_max,
        deadline_factor=manifest.round.deadline_factor,
        grace=manifest.round.grace,
        replay=manifest.round.replay,
        validation_every=manifest.data.validation_every,
    )


@dataclass(frozen=True, slots=True)
class Position:
    """Where a peer says it stands."""

    head: CommitHash
    round: int
    weight: int


@dataclass(frozen=True, slots=True)
class Question:
    """What a peer was last asked of its chain (asking.py)."""

    at: float
    """When, in seconds."""
    from_round: int
    reach: int
    """Rounds that it went farther back than the one before."""
    following: int = 0
    """Questions before it, each put when the one before was answered."""


@dataclass(slots=True)
class RoundState:
    """Mutable state of one node in one run; changed by machine.apply alone."""

    me: PeerId
    rules: Rules
    chain: Chain
    deadline: AdaptiveDeadline
    at: CommitHash
    """Newest commit whose update is applied here; the root before the first."""
    whole: bool = True
    """Whether this peer can host the whole model."""

    phase: Phase = Phase.STARTING
    phase_since: float = 0.0
    paused: bool = False
    """The user wants no training here."""
    round_since: float = 0.0
    """When the current round began here."""
    hosting: Hosting | None = None
    """What the compute process hosts, or is being started to host; None: the whole model."""
    hosted: tuple[str, ...] = ()
    """The shards of that, in layout order."""
    rehosting: bool = False
    """Other shards are to be hosted: the next round begins late here."""
    began_late: bool = False
    """The round upon ``round_at`` did: how long it took others cannot be told."""
    held: tuple[ShardState, ...] | None = None
    """The parameters in the compute process; None while it has none."""
    renewed: frozenset[str] = frozenset()
    """Hosted shards that nobody else had, so that what is here of them counts (renewing.py)."""
    renewed_after: CommitHash | None = None
    """Commit after which they were to stand."""
    goal: CommitHash | None = None
    """Commit that is being moved to; None in step."""
    queue: list[CommitHash] = field(default_factory=list)
    """Commits still to be applied on the way to the goal, oldest first."""
    begun: frozenset[Address] = frozenset()
    """What there is of states whose download was cut short when this node ended."""
    base: CommitHash | None = None
    """Commit after which the state that is being loaded stands."""
    loading: Digest | None = None
    """Digest of the state that is being loaded; None if it is not known beforehand."""
    retry_at: float | None = None
    """When a failed move is tried again."""
    failures: int = 0
    """Failed attempts of the current move."""
    banned: set[CommitHash] = field(default_factory=set)
    """Commits whose payloads nobody has."""

    round_at: CommitHash | None = None
    """Commit to which the fields below belong."""
    view: int = 0
    view_since: float = 0.0
    training: bool = False
    """Local progress upon ``at`` exists that has not been asked to be encoded."""
    trained: bool = False
    """The inner steps upon ``at`` have ended."""
    finishing: bool = False
    """Training was told to end early."""
    encoding: CommitHash | None = None
    """Parent of the contribution that is being encoded."""
    own: SignedAnnounce | None = None
    """This peer's announcement upon ``at``, once signed."""
    announces: dict[PeerId, SignedAnnounce] = field(default_factory=dict)
    """Announcements upon ``at``, by author."""
    arrived: dict[PeerId, float] = field(default_factory=dict)
    """When each announcement upon ``at`` came in."""
    sound: set[PeerId] = field(default_factory=set)
    """Authors whose contribution decodes, as far as it is of hosted shards."""
    vetted: set[PeerId] = field(default_factory=set)
    """Authors whose contribution is here and decodes, all of it: what a leader goes by."""
    vetting: set[PeerId] = field(default_factory=set)
    """Authors whose contribution is being looked at, all of it."""
    unsound: set[PeerId] = field(default_factory=set)
    """Authors whose contribution cannot be used this round."""
    early: dict[CommitHash, dict[PeerId, SignedAnnounce]] = field(default_factory=dict)
    """Announcements upon commits that are not known yet."""
    complete_since: float | None = None
    """When the contributions of all live peers were sound."""
    published_view: int | None = None
    """View in which this peer has published a commit upon ``at``."""
    rejoined: int = 0
    """Newest view in which the round is not begun anew with others of the ring that train."""
    resent_at: float = 0.0

    starts: dict[CommitHash, tuple[ShardState, ...]] = field(default_factory=dict)
    """The parameters from which training upon a commit began."""
    digests: dict[CommitHash, Digest] = field(default_factory=dict)
    """Own digest after each applied commit, of the hosted shards."""
    outcomes: dict[tuple[CommitHash, tuple[str, ...]], Digest] = field(default_factory=dict)
    """Digest after a commit by its ``outcome_key``: sibling commits may share it."""
    states: dict[Digest, LocalState] = field(default_factory=dict)
    """States that lie in the own blob store, newest last."""
    history: dict[CommitHash, SignedAnnounce | None] = field(default_factory=dict)
    """Own contributions by parent; None if it was not signed yet."""
    unsent: dict[CommitHash, Announce] = field(default_factory=dict)
    """Own contributions by parent that are encoded but not signed yet."""
    verdicts: dict[CommitHash, bool] = field(default_factory=dict)
    """What the error feedback was last told."""

    judged: dict[CommitHash, tuple[Judgement, ...]] = field(default_factory=dict)
    """Own judgements of the contributions of the newest commits applied here (trust.py)."""
    findings: dict[CommitHash, dict[tuple[PeerId, PeerId], SignedFinding]] = field(
        default_factory=dict
    )
    """Findings of harm in contributions to a commit, by verifier and subject."""
    slowness: Slowness = field(default_factory=Slowness)
    """Who is slower than the plan in force counts on."""
    plan_cause: tuple[tuple[Candidate, ...], frozenset[PeerId]] = ((), frozenset())
    """For whom a plan was last asked for, and because of whose slowness."""
    plan_asked: tuple[Candidate, ...] = ()
    """The same peers, with the speeds that were known then."""
    plan_made: bool = False
    """The answer is here."""
    proposal: Plan | None = None
    """What came of it."""

    orders: dict[PeerId, dict[int, SignedOrder]] = field(default_factory=dict)
    """All orders that are known, by issuer and number; in the chain or still to come."""

    members: dict[PeerId, SignedMember] = field(default_factory=dict)
    alive: set[PeerId] = field(default_factory=set)
    lost: set[PeerId] = field(default_factory=set)
    """Peers that were heard once and have fallen silent."""
    suspects: set[PeerId] = field(default_factory=set)
    """Those of them that are not given up: what the plan gives them stays theirs."""
    resting: set[PeerId] = field(default_factory=set)
    """Live peers that say they are paused: there, but not to be waited for."""
    idle: set[PeerId] = field(default_factory=set)
    """Peers that have trained nothing in this round, this one among them."""
    unheard: set[PeerId] = field(default_factory=set)
    """Roster members that were never heard; for a grace period they count as alive."""
    strays: dict[CommitHash, list[SignedCommit]] = field(default_factory=dict)
    """Stored commits by a parent that a damaged disk has lost."""
    positions: dict[PeerId, Position] = field(default_factory=dict)
    asked: dict[PeerId, Question] = field(default_factory=dict)
    """What each peer was last asked of its chain."""

    @property
    def loaded(self) -> Digest | None:
        """Digest of the parameters in the compute process; None while it has none."""
        return None if self.held is None else state_digest(self.held)

    @property
    def hosts(self) -> Hosts:
        """Who hosts what in the round being worked on."""
        return self.chain.settings(self.at).hosts

    @property
    def round(self) -> int:
        """The round being worked on."""
        return self.chain.round_of(self.at) + 1

    @property
    def head(self) -> Commit | None:
        """The commit being built on; None before the run has begun."""
        signed = self.chain.get(self.at)
        return signed.message if signed else None

    @property
    def roster(self) -> tuple[PeerId, ...]:
        """Who trains the current round."""
        return self.head.roster if self.head else ()

    @property
    def leader(self) -> PeerId | None:
        """Who is to publish the current round's commit."""
        if not self.roster:
            return None
        order = (self.rules.chain.run_id, self.round, self.view, self.roster)
        return leader_of(*order, self.hosts.partial)

    @property
    def leader_alive(self) -> bool:
        """Whether the leader can be expected to act."""
        return self.leader in self.expected_roster

    @property
    def live_roster(self) -> list[PeerId]:
        """Roster members that are alive and not paused; this peer always is."""
        return [peer for peer in self.roster if peer in self.active or peer == self.me]

    @property
    def expected_roster(self) -> list[PeerId]:
        """Roster members that train, or may do so: not heard yet is not the same as lost."""
        live = {*self.active, *self.unheard, self.me}
        return [peer for peer in self.roster if peer in live]

    @property
    def active(self) -> set[PeerId]:
        """Live peers that are not paused, and may take part."""
        return self.alive - self.resting - self.settings.removed.keys()

    @property
    def settings(self) -> Settings:
        """What the owner has changed, as of the round being worked on.

        A removed peer stays where it was; for it, what keeps it out is in force.
        """
        ahead = self.goal if self.phase is Phase.REMOVED else None
        return self.chain.settings(ahead or self.at)

    @property
    def removal(self) -> Removal | None:
        """Why this peer is kept out; None while it takes part."""
        return self.settings.removed.get(self.me)

    @property
    def told_phase(self) -> Phase:
        """What others are told: a paused peer stays so while it follows the others' commits."""
        if self.phase is Phase.COLLECTING and self.me in self.idle and not self.paused:
            return Phase.IDLE
        final = self.phase in (Phase.DONE, Phase.REMOVED)
        return Phase.PAUSED if self.paused and not final else self.phase

    @property
    def others(self) -> tuple[PeerId, ...]:
        """All live peers that may take part, but this one."""
        return tuple(sorted(self.alive - self.settings.removed.keys() - {self.me}))

    @property
    def finished(self) -> bool:
        """Whether the commit at hand is the run's last."""
        return bool(self.rules.rounds) and self.chain.round_of(self.at) >= self.rules.rounds


NO_ARCHIVE: Archive = MappingProxyType({})
"""The archive of who keeps all in memory, as a replay does."""


def new_state(
    me: PeerId,
    rules: Rules,
    admission: AdmissionCheck,
    now: float,
    archive: Archive = NO_ARCHIVE,
    whole: bool = True,
) -> RoundState:
    """Return the state of a node that knows nothing of the run yet.

    ``whole`` says whether it can host the whole model.
    """
    return RoundState(
        me=me,
        whole=whole,
        hosting=None if whole else NOTHING,
        hosted=rules.chain.shards if whole else (),
        rules=rules,
        chain=Chain(rules.chain, admission, archive),
        deadline=AdaptiveDeadline(rules.deadline_min, rules.deadline_max, rules.deadline_factor),
        at=rules.chain.root,
        phase_since=now,
        round_since=now,
    )


def leads(s: RoundState) -> bool:
    """Say whether this peer is to publish the current round's commit."""
    return s.leader == s.me


def contributions_of(commit: Commit) -> tuple[Contribution, ...]:
    """Return a commit's contributions in the order in which they are aggregated.

    With all of their shards, also for who hosts some: judging takes all payloads (jury.py).
    """
    return tuple(
        Contribution(a.signer, a.message.round_tokens, a.message.shards) for a in commit.announces
    )


def outcome_key(commit: Commit) -> tuple[CommitHash, tuple[str, ...]]:
    """Return what decides the parameters after a commit: its parent, what it includes of
    contributions, and what it says of the parent's, from which their authors' standing follows.
    """
    believed = (f"{one.peer} {one.influence} {one.reason}" for one in commit.judgements)
    found = (finding.hash for finding in commit.findings)
    return commit.parent, (*(a.hash for a in commit.announces), *believed, *found)
