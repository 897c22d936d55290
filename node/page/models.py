"""The status page's API, as data: what ``/api/v1`` answers.

========================== =============== ======================================================
path                       answer          parameters
========================== =============== ======================================================
GET /api/v1/run            RunAnswer
GET /api/v1/peers          PeersAnswer
GET /api/v1/rounds         RoundsAnswer    ``before=N`` rounds below N; ``limit`` 1..500, 100
GET /api/v1/timeline       TimelineAnswer  ``limit`` 1..500, 100
GET /api/v1/log            LogAnswer       ``before=ID`` lines below ID; ``limit`` 1..500, 100
GET /api/v1/plan           PlanAnswer
GET /api/v1/reachable/PEER ReachableAnswer dials the peer; 429 with Problem if asked too often
GET /api/v1/events         a stream        ``Last-Event-ID`` header or ``after=ID``
POST /api/v1/pause         DoneAnswer      needs the page token; so does the next
POST /api/v1/resume        DoneAnswer
POST …/peers/PEER/remove   OrderAnswer     RemoveWish; needs an owner key too, else 403
POST …/peers/PEER/readmit  OrderAnswer     the same
POST /api/v1/outer-lr      OrderAnswer     OuterLrWish; the same
GET /healthz               HealthAnswer    503 if not healthy
========================== =============== ======================================================

An error is a ``Problem`` with the HTTP status. The event stream (text/event-stream) sends

- ``event: run``, data RunAnswer, and ``event: peers``, data PeersAnswer: at once, then about
  once a second while something changed; without an id.
- ``event: round``, data Round: whenever a round's row changed; replaces the row of that number.
- ``event: timeline``, data TimelineEntry: a new entry, or one that changed (same id).
- ``event: log``, data LogEntry, with its id: these are what ``Last-Event-ID`` resumes, none
  missed and none twice.
- ``event: gap``, data Gap: lines between the asked id and the next one are no longer kept.
- a comment every 15 s, so that a proxy does not close the stream.

Times are unix seconds, durations seconds, sizes bytes, losses nats per text token. None means
"not known" and is never the same as 0. Text that another peer has chosen (its agent, the reason
of a refusal) is data: show it as text, never as markup.
"""

from typing import Annotated, Literal

from pydantic import Field

from skerry.node.page.data import Amount, Count, Data
from skerry.node.page.round import Round
from skerry.protocol.messages import MAX_OUTER_LR
from skerry.protocol.order_codec import MAX_REASON_CHARS

PeerState = Literal["alive", "suspect", "dead", "left", "joining", "removed"]
"""alive: heard in time. suspect: silent for longer than its rhythm lets expect, or something else
speaks against its being there; it keeps its stages. dead: others get them. left: said goodbye.
joining: a member that waits to be taken into the roster, for the first time or again, that heals
after it was given up, or that was never heard.
removed: kept out by the owner of the run, whether it is there or not."""

Role = Literal["replica", "newcomer", "returning", "member"]
"""replica: in the roster, trains a whole model. newcomer: alive and waiting to be taken into the
roster for the first time. returning: the same, after it was in a roster before. member: known, but
not heard yet, paused, gone, or the run is over."""

Link = Literal["direct", "relayed", "unknown"]

TimelineKind = Literal[
    "daemon-started",
    "daemon-stopped",
    "run-entered",
    "run-left",
    "peer-up",
    "peer-down",
    "peer-dead",
    "peer-left",
    "peer-removed",
    "peer-readmitted",
    "outer-lr",
    "compute-died",
    "state-downloaded",
    "healing",
    "healed",
    "planned",
    "slow",
    "view-change",
    "diverged",
    "paused",
    "resumed",
    "refused",
    "warning",
]

Severity = Literal["info", "warning", "error", "recovered"]
"""recovered: a failure that is over; the entry then has recovery_s."""


class Answer(Data):
    """What every answer says about itself."""

    as_of: Amount
    """When the state shown was read, unix seconds by the serving peer's clock."""
    served_from: str
    """Id of the peer whose daemon answers."""


class Goodput(Data):
    """Useful text tokens per second, and how much of the undisturbed rate that is."""

    text_tokens_per_s: Amount
    """Committed text tokens per second over the newest rounds, waits and failures included."""
    undisturbed_per_s: Amount | None
    """What the peers of the roster make while they train, added up and averaged over about the same
    stretch: text tokens per second."""
    ratio: Amount | None
    """The first over the second, at most 1.0: a run that only trains."""
    over_s: Amount
    """Length of the stretch that was measured, in seconds."""


class Bytes(Data):
    """What this peer exchanged since its daemon started, beside the dense exchange."""

    sent: dict[str, Count]
    """Bytes by kind: payload (pseudo-gradients), state (parameters), control (messages), shadow
    (copies of stages), ring (the streams of a ring: activations, gradients and what steers them).
    """
    received: dict[str, Count]
    """Bytes by kind, as above."""
    dense: Count
    """What the payloads sent would have been as dense fp32."""
    ratio: Amount | None
    """dense over payload bytes sent; None before the first payload."""


class Reach(Data):
    """How the answering daemon is reached from elsewhere."""

    verdict: Literal["reachable", "not-reachable", "unknown", "local"]
    """Whether it can be dialled from the internet; local: it listens on loopback alone."""
    nat: Literal["none", "endpoint-independent", "symmetric", "unknown"]
    """Address translation between it and the internet, as others see it."""
    relays: tuple[str, ...]
    """Peer ids of the relays through which others reach it."""
    observers: Count
    """How many peers that rests on."""
    summary: str
    """The same in plain words."""
    advice: str
    """What its user can do; empty if nothing needs to be done."""


class Node(Data):
    """The daemon that answers."""

    peer: str
    """Its peer id."""
    name: str
    """Short form of the id."""
    version: str
    pid: int
    uptime_s: Amount
    addresses: tuple[str, ...]
    """Multiaddrs under which it listens."""
    page_url: str
    """Where this page is."""
    compute: str
    """none, starting, ready, training, applying, dead."""
    restarts: Count
    """How often its network process was restarted."""
    reach: Reach | None
    """None where its transport does not find that out."""


class RunHeader(Data):
    """The run in one look."""

    run_id: str
    """64 hex digits."""
    name: str
    phase: str
    """This peer's phase: starting, loading, waiting, observing, training, encoding, collecting,
    fetching, applying, paused, done."""
    phase_s: Amount
    """For how long it has been in that phase, seconds."""
    round: Count
    """The round being worked on; the last one when the run is done."""
    rounds: Count
    """As many as the manifest asks for; 0 without end."""
    view: Count
    """How many leaders of this round were passed over."""
    leader: str | None
    """Peer id of this round's leader."""
    step: Count
    steps: Count
    """Inner steps of a round."""
    finished: bool
    """All rounds are trained and validated."""
    eta_s: Amount | None
    """Seconds until the last round, by the pace of the newest rounds; None if not known."""
    started_at: Amount | None
    """When the first round known here began, unix seconds."""
    goodput: Goodput | None
    """None until two rounds were measured."""
    text_tokens: Count
    """Committed on the chain."""
    loss: float | None
    """Training loss of this peer's newest inner step."""
    val_loss: float | None
    """Newest validation loss."""
    val_loss_round: int | None
    """Round after which it was measured."""
    val_loss_start: float | None
    """First validation loss known."""
    unigram_entropy: float | None
    """Of the validation text: what a model reaches that knows how often each text token occurs."""
    params: Count
    """Parameters of the model."""
    state_digest: str | None
    """Of the newest applied parameters, 64 hex digits."""
    digest_round: Count
    """Round after which the digest holds."""
    head: str
    """Hash of the newest applied commit."""
    join_command: str | None
    """What to type on another machine; None if this reader may not see it."""
    waiting_for: tuple[str, ...]
    """Peer ids, or what else is awaited, in words; empty if nothing is awaited."""
    warning: str | None
    """Newest warning that still holds."""
    outer_lr: Amount
    """Alpha of the round being worked on."""
    outer_lr_ordered: bool
    """Whether an owner has set it, so that it is no longer that of the run file."""
    pending_orders: Count
    """Orders of owners that are known here and in no commit yet."""
    may_order: bool
    """Whether this reader may change the run: it is known as the user of a node with an owner
    key."""
    bytes: Bytes
    refused: dict[str, Count]
    """What was refused from others: count by reason."""


class RunAnswer(Answer):
    """``/api/v1/run`` and ``event: run``."""

    node: Node
    run: RunHeader | None
    """None while the daemon takes part in no run."""


class Peer(Data):
    """One peer of the run, as the answering peer knows it."""

    peer: str
    """Peer id."""
    name: str
    """Short form of the id."""
    self: bool
    """Whether this is the peer that answers."""
    state: PeerState
    evidence: tuple[str, ...]
    """What speaks against its being there, in words, oldest first."""
    role: Role
    in_roster: bool
    leader: bool
    """Whether it leads the current round."""
    owner: bool
    """Whether it owns the run."""
    standby: bool
    """Whether its key counts as the owner's."""
    removed_reason: str | None
    """Why it is kept out, in the words of an owner; None unless its state is removed."""
    agent: str | None
    """Its software, in its own words."""
    version: str | None
    """Version part of the agent."""
    addresses: tuple[str, ...]
    """Multiaddrs it says it has."""
    shards: tuple[str, ...]
    """Shards it hosts: "embed", "block.0", …, "head"."""
    phase: str | None
    """Its own word, from its newest heartbeat."""
    head_round: int | None
    """Newest round it has applied."""
    behind: int | None
    """Rounds behind the answering peer; negative if ahead."""
    step: Count | None
    steps: Count | None
    text_tokens_per_s: Amount | None
    loss: float | None
    """Training loss of its newest inner step."""
    up_bytes_per_s: Amount | None
    """From the answering peer to it, over the newest seconds."""
    down_bytes_per_s: Amount | None
    """From it to the answering peer, over the newest seconds."""
    sent_bytes: Count | None
    """From the answering peer to it, since the daemon started."""
    received_bytes: Count | None
    """From it to the answering peer, since the daemon started."""
    round_trip_ms: Amount | None
    """Of the newest heartbeats, an average in milliseconds."""
    link: Link
    reputation: float | None
    """0 to 1; None while nobody keeps one."""
    last_seen_s: Amount | None
    """Seconds since its newest sign of life; 0 for the answering peer."""
    refused: Count
    """Messages and contributions of it that were refused here."""


class PeersAnswer(Answer):
    """``/api/v1/peers`` and ``event: peers``: the answering peer first, the others by id."""

    peers: tuple[Peer, ...]


class RoundsAnswer(Answer):
    """``/api/v1/rounds``: oldest first, the newest ``limit`` of those asked for."""

    rounds: tuple[Round, ...]
    more: bool
    """Whether there are older rounds than these."""


class TimelineEntry(Data):
    """A failure, a recovery, or a peer that came or went."""

    id: int
    """Grows with time; an entry that changes keeps it."""
    time: Amount
    """Unix seconds."""
    kind: TimelineKind
    severity: Severity
    peer: str | None
    """Peer id of whom it concerns; None for the answering peer's own affairs."""
    round: int | None
    text: str
    """In words."""
    recovery_s: Amount | None
    """How long it lasted, once it is over."""


class TimelineAnswer(Answer):
    """``/api/v1/timeline``: oldest first."""

    entries: tuple[TimelineEntry, ...]


class LogEntry(Data):
    """One line of the event log."""

    id: int
    """Grows by line, also over restarts of the daemon."""
    time: Amount
    """Unix seconds."""
    event: str
    """Its name, such as "applied"."""
    text: str
    """Its details as "key=value …"."""


class LogAnswer(Answer):
    """``/api/v1/log``: oldest first, the newest ``limit`` of those asked for."""

    lines: tuple[LogEntry, ...]


class Gap(Data):
    """``event: gap``: some lines are no longer kept."""

    after: int
    """Last id that the reader had."""
    next: int
    """Oldest id that is there; load the other answers again."""


class ShardPlan(Data):
    """Who hosts one shard."""

    shard: str
    """ "embed", "block.0", …, "head"."""
    params: Count
    hosts: tuple[str, ...]
    """Peer ids."""


class StagePlan(Data):
    """The part of a replica that one peer hosts."""

    peer: str
    """Peer id."""
    shards: tuple[str, ...]
    first_block: int | None
    """None if it hosts no block."""
    last_block: int | None
    """Inclusive."""


class ReplicaPlan(Data):
    """One full copy of the model: on one peer, or on a ring of several."""

    name: str
    stages: tuple[StagePlan, ...]


class PlanAnswer(Answer):
    """``/api/v1/plan``: which peers host what."""

    round: Count
    """The round it holds for."""
    num_blocks: Count
    shards: tuple[ShardPlan, ...]
    replicas: tuple[ReplicaPlan, ...]


class ReachableAnswer(Answer):
    """``/api/v1/reachable/PEER``: the result of dialling it now."""

    peer: str
    """Peer id."""
    reachable: bool
    took_ms: Amount
    """Time until the result, milliseconds."""
    link: Link
    code: str | None
    """Code of the error, such as SK-NET-001; None if reachable."""
    detail: str | None
    """What went wrong."""


class HealthAnswer(Answer):
    """``/healthz``."""

    healthy: bool
    reason: str
    """Why not, or "ok"."""


class DoneAnswer(Answer):
    """``/api/v1/pause`` and ``/api/v1/resume``."""

    paused: bool
    """Whether this node is paused now."""


class RemoveWish(Data):
    """What ``/api/v1/peers/PEER/remove`` is told."""

    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)] = ""
    """What the peer and all others are told; one line."""


class OuterLrWish(Data):
    """What ``/api/v1/outer-lr`` is told."""

    value: Annotated[float, Field(gt=0, le=MAX_OUTER_LR)] | None
    """None: as the run file says."""


class OrderAnswer(Answer):
    """An order is on its way; it holds from the round after the commit that takes it in."""

    sequence: Count
    """Which order of this node's key it is."""
    peer: str | None
    """Id of the peer it is about; None if it is about none."""


class Problem(Data):
    """Every error answer."""

    status: Annotated[int, Field(ge=400, le=599)]
    """HTTP status."""
    title: str
    """What is wrong, in a few words."""
    detail: str
    """What to do about it."""
