"""Everything that can happen to the round state machine.

Results of actions come back as events; what no longer fits the state is recognised by the
commit or parent it names and dropped.
"""

from dataclasses import dataclass, field

from skerry.protocol.compute import Hosting
from skerry.protocol.ids import Address, CommitHash, Digest, PeerId
from skerry.protocol.messages import (
    Judgement,
    ShardPayload,
    SignedAnnounce,
    SignedCommit,
    SignedFinding,
    SignedHeartbeat,
    SignedMember,
    SignedOrder,
)
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds.candidates import Candidate


@dataclass(frozen=True, slots=True)
class LocalState:
    """Parameters that lie complete in this node's blob store."""

    digest: Digest
    shards: tuple[ShardPayload, ...]
    after: CommitHash | None = field(default=None, compare=False)
    """The commit after which they stood here last; None if it was not noted."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What this node had stored of the run when it last ran; sent once, before all else."""

    commits: tuple[SignedCommit, ...]
    """Parents before children."""
    own: tuple[SignedAnnounce, ...]
    """At least those of the last 2 x replay rounds: their payloads are kept until settled."""
    states: tuple[LocalState, ...]
    orders: tuple[SignedOrder, ...] = ()
    """Those given here or heard of that may be in no commit yet."""
    begun: tuple[Address, ...] = ()
    """Blobs that are here, or of which a part is: a download may have been cut short."""


@dataclass(frozen=True, slots=True)
class ComputeReady:
    """The compute process is up; it has no parameters yet."""

    ledger: tuple[CommitHash, ...]
    """Parents of own contributions whose fate the error feedback still has to follow."""
    hosting: Hosting | None = None
    """What it hosts; None: the whole model."""


@dataclass(frozen=True, slots=True)
class ComputeLost:
    """The compute process died; whatever was asked of it will not be answered."""


@dataclass(frozen=True, slots=True)
class StateLoaded:
    """The compute process holds these parameters as a round's start."""

    state: LocalState


@dataclass(frozen=True, slots=True)
class StateFailed:
    """A state could not be had from anyone that was asked, or is damaged on this disk."""

    digest: Digest | None


@dataclass(frozen=True, slots=True)
class Trained:
    """The inner steps upon ``parent`` have ended."""

    parent: CommitHash
    block_rate: float = 0.0
    """Text tokens per second through one block, forward, as measured in a ring; 0: not yet."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The contribution upon ``parent`` is durable; no shards if there is nothing to send."""

    parent: CommitHash
    text_tokens: int
    round_tokens: int
    loss: float
    shards: tuple[ShardPayload, ...]
    norms: tuple[float, ...] = ()
    """Of the gradient of each of ``shards``; none where not known."""


@dataclass(frozen=True, slots=True)
class AnnounceReceived:
    """A contribution was announced, by another peer or by this one."""

    announce: SignedAnnounce


@dataclass(frozen=True, slots=True)
class Checked:
    """An announced contribution was fetched and decoded; an empty ``reason`` means sound."""

    announce: str
    """Hash of the announcement."""
    reason: str
    whole: bool = True
    """Whether all of it was looked at, not only the shards that this peer hosts."""


@dataclass(frozen=True, slots=True)
class CommitsReceived:
    """Commits arrived, parents before children: a new one, or part of a chain."""

    commits: tuple[SignedCommit, ...]
    source: PeerId


@dataclass(frozen=True, slots=True)
class Gathered:
    """All payloads of a commit are here, or some could not be had."""

    commit: CommitHash
    complete: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """The outer update of a commit is done."""

    commit: CommitHash
    state: LocalState
    judgements: tuple[Judgement, ...]
    """Contributions that did not count in full, and why; sorted by author."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A contribution was tried on held-out text, before its commit was applied."""

    commit: CommitHash
    subject: PeerId
    gain: float
    """By how much it lowers the loss, nats per text token."""


@dataclass(frozen=True, slots=True)
class FindingReceived:
    """A verifier found harm: another peer, or this one."""

    finding: SignedFinding


@dataclass(frozen=True, slots=True)
class OrderReceived:
    """The owner of the run changes something; given here, or passed on by a peer."""

    order: SignedOrder
    source: PeerId


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan was made for those for whom it was asked; None if there is none that works."""

    candidates: tuple[Candidate, ...]
    plan: Plan | None


@dataclass(frozen=True, slots=True)
class MemberLearned:
    """A member's record was checked and admitted."""

    member: SignedMember
    hearsay: bool = False
    """Another peer has told of it."""


@dataclass(frozen=True, slots=True)
class HeartbeatReceived:
    """A peer says where it stands."""

    heartbeat: SignedHeartbeat


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A peer is heard again, or for the first time."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerDown:
    """A peer has been silent for longer than its deadline; it may well come back."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerDead:
    """A peer is given up, so that others get its stages, or has said goodbye."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerEvicted:
    """A peer has been dead for so long that nothing is kept of it."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Paused:
    """The user wants no training on this node for now, or did so when it last ran."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The user wants training again."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline may have passed."""


Event = (
    Restored
    | ComputeReady
    | ComputeLost
    | StateLoaded
    | StateFailed
    | Trained
    | Encoded
    | AnnounceReceived
    | Checked
    | CommitsReceived
    | Gathered
    | Applied
    | Tried
    | FindingReceived
    | OrderReceived
    | Planned
    | MemberLearned
    | HeartbeatReceived
    | PeerUp
    | PeerDown
    | PeerDead
    | PeerEvicted
    | Paused
    | Resumed
    | Tick
)
