"""Everything the round state machine can ask for. The edge carries actions out in order."""

from dataclasses import dataclass

from skerry.protocol.compute import Contribution, Hosting, Verdict
from skerry.protocol.ids import Address, CommitHash, Digest, PeerId
from skerry.protocol.messages import (
    Announce,
    Commit,
    Envelope,
    Finding,
    ShardPayload,
    ShardState,
    SignedAnnounce,
    SignedCommit,
    SignedOrder,
)
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds.candidates import Candidate
from skerry.protocol.rounds.events import LocalState


@dataclass(frozen=True, slots=True)
class LoadState:
    """Make the compute process start from a state; answered by StateLoaded or StateFailed."""

    digest: Digest | None
    """None: the initial parameters, from the seed."""
    local: LocalState | None
    """Where it lies in the own store; None: download it."""
    holders: tuple[PeerId, ...]
    wanted: tuple[ShardState, ...] = ()
    """The hosted shards to download, in layout order."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Load the state before a commit, of which nobody has all; answered as LoadState is."""

    commit: CommitHash
    renewed: tuple[str, ...]
    """Hosted shards that no other live peer has."""
    lost: tuple[str, ...]
    """Those of them that are not here either, so that they have to be made anew."""
    wanted: tuple[ShardState, ...]
    """All other hosted shards, in layout order."""
    holders: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """Start the compute process anew, for other shards; answered by ComputeReady.

    What was asked of it before is answered first.
    """

    hosting: Hosting | None
    """None: the whole model."""


@dataclass(frozen=True, slots=True)
class MakePlan:
    """Find out who should host what; answered by Planned."""

    candidates: tuple[Candidate, ...]
    running: Plan | None
    """What is in force now."""
    first: bool = False
    """Whether no plan was missing when this peer looked before."""


@dataclass(frozen=True, slots=True)
class Train:
    """Run the inner steps of a round, in a ring with its other members; answered by Trained."""

    round: int
    parent: CommitHash
    cursor: int
    slot: int
    num_slots: int


@dataclass(frozen=True, slots=True)
class FinishTraining:
    """End the inner steps early."""


@dataclass(frozen=True, slots=True)
class Encode:
    """Turn the local progress into error feedback and, if ``send``, a contribution."""

    parent: CommitHash
    send: bool


@dataclass(frozen=True, slots=True)
class PublishAnnounce:
    """Sign, store, send to all members; comes back as AnnounceReceived."""

    announce: Announce


@dataclass(frozen=True, slots=True)
class PublishCommit:
    """Sign and send to all members; comes back as CommitsReceived."""

    commit: Commit


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send signed bytes once more to these peers."""

    envelope: Envelope
    peers: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """Fetch and decode an announced contribution; answered by Checked."""

    announce: SignedAnnounce
    shards: tuple[ShardPayload, ...]
    """What of it is to be looked at."""


@dataclass(frozen=True, slots=True)
class Gather:
    """Fetch what is missing of a commit's payloads; answered by Gathered."""

    commit: CommitHash
    contributions: tuple[Contribution, ...]
    holders: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """Aggregate a commit's contributions and update; answered by Applied."""

    commit: CommitHash
    round: int
    contributions: tuple[Contribution, ...]
    outer_lr: float | None = None
    """Alpha by order of the owner; None: as the manifest says."""


@dataclass(frozen=True, slots=True)
class Try:
    """Try a contribution to a commit on held-out text; answered by Tried."""

    commit: CommitHash
    round: int
    contribution: Contribution
    outer_lr: float | None = None


@dataclass(frozen=True, slots=True)
class PublishFinding:
    """Sign and send to all members; comes back as FindingReceived."""

    finding: Finding


@dataclass(frozen=True, slots=True)
class Settle:
    """Tell the error feedback which own contributions the chain includes."""

    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Measure the validation loss of the parameters after ``round``."""

    round: int


@dataclass(frozen=True, slots=True)
class AskChain:
    """Ask a peer for its commits from a round on; answered by CommitsReceived."""

    peer: PeerId
    from_round: int


@dataclass(frozen=True, slots=True)
class Present:
    """Tell all others now where this peer stands: the next heartbeat might come a round late."""


@dataclass(frozen=True, slots=True)
class StoreCommits:
    """Write commits that became part of the own chain to disk."""

    commits: tuple[SignedCommit, ...]


@dataclass(frozen=True, slots=True)
class StoreOrders:
    """Write orders to disk that were heard of: this peer may be the last that knows them."""

    orders: tuple[SignedOrder, ...]


@dataclass(frozen=True, slots=True)
class StoreStates:
    """Write down which states lie in the blob store, newest last."""

    states: tuple[LocalState, ...]


@dataclass(frozen=True, slots=True)
class Retain:
    """Remove every blob that is not among these."""

    addresses: frozenset[Address]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Count and log something of a peer that was not accepted."""

    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End what is still under way with a peer that is dead, before its deadlines do."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Note:
    """Tell the user."""

    warning: bool
    text: str


@dataclass(frozen=True, slots=True)
class Diverged(Note):
    """Tell that own parameters are not those agreed upon before ``round``; they are replaced."""

    round: int
    mine: Digest
    agreed: Digest


Action = (
    LoadState
    | Renew
    | Host
    | MakePlan
    | Train
    | FinishTraining
    | Encode
    | PublishAnnounce
    | PublishCommit
    | Broadcast
    | Try
    | PublishFinding
    | Check
    | Gather
    | Apply
    | Settle
    | Evaluate
    | AskChain
    | Present
    | StoreCommits
    | StoreOrders
    | StoreStates
    | Retain
    | Refuse
    | GiveUp
    | Note
)
