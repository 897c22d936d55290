"""What the node process and its compute process say to each other, over a socket pair.

A frame is two 4-byte big-endian lengths, of all that follows and of the JSON object that comes
next; what is left is bytes that belong to it: the tasks of a ring and their results, which carry
activations. Nothing else that is large crosses: payloads and parameter shards lie in the
content-addressed blob store on disk, and messages name them. Requests are handled in order, but
``Finish`` and ``Stop`` also between two inner steps. Every request but ``Stop`` is answered by one
reply of the same ``request`` number (``Train`` by ``Trained``, after any number of ``Progress``).
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter

from skerry.protocol.errors import ComputeError
from skerry.protocol.ids import CommitHash, Digest, PeerId
from skerry.protocol.messages import FULL, Judgement, ShardPayload
from skerry.protocol.moments import GiveMoments, Moments, MomentsGiven
from skerry.protocol.shading import Shade, Shaded

MAX_FRAME_BYTES = 2**30
MAX_HEAD_BYTES = 16 * 2**20
_LENGTH_BYTES = 4

M = TypeVar("M", "Request", "Reply")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Take the parameters of a digest as the round's start; from the seed if ``shards`` is None.

    Forgets any training in progress, does not touch the error feedback. ``moments`` are taken by a
    process that has none of its own, neither in memory nor on disk. Replied by ``Ready``.
    """

    kind: Literal["begin"] = "begin"
    request: int
    shards: tuple[ShardPayload, ...] | None
    moments: Moments = ()
    round: int = 0
    """Being worked on, as far as the node knows; own moments of one far off are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Run ``steps`` inner steps on this peer's slice of the data. Replied by ``Trained``.

    Global batch of local step i: ``cursor + i * num_slots + slot``. Inner step number (for the
    learning-rate schedule): ``round * steps + i``, the same on all peers.
    """

    kind: Literal["train"] = "train"
    request: int
    round: int
    parent: CommitHash
    cursor: int
    slot: int
    num_slots: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End the current ``Train`` after the inner step in progress; no reply of its own."""

    kind: Literal["finish"] = "finish"
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode:
    """Fold the local progress into the error feedback and, if ``send``, encode a contribution.

    With ``send`` the payloads are in the blob store, and error feedback and ledger on disk,
    before the reply ``Encoded``. Parameters go back to the round's start.
    """

    kind: Literal["encode"] = "encode"
    request: int
    parent: CommitHash
    send: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Validate:
    """Decode a contribution's payloads without applying them. Replied by ``Validated``."""

    kind: Literal["validate"] = "validate"
    request: int
    author: PeerId
    shards: tuple[ShardPayload, ...]


@dataclass(frozen=True, slots=True)
class Contribution:
    """One included contribution as the aggregate sees it."""

    author: PeerId
    round_tokens: int
    shards: tuple[ShardPayload, ...]
    reputation: int = FULL
    strikes: int = 0
    """Both of its author, as of the commit (standing.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """Measure what a contribution alone does to the validation loss. Replied by ``Tried``."""

    kind: Literal["try"] = "try"
    request: int
    round: int
    contribution: Contribution
    outer_lr: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Aggregate the contributions in the given order and update. Replied by ``Applied``."""

    kind: Literal["apply"] = "apply"
    request: int
    round: int
    contributions: tuple[Contribution, ...]
    outer_lr: float | None = None
    """Alpha; None: as the manifest says for the round."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the chain this peer follows includes its own contribution upon ``parent``."""

    parent: CommitHash
    included: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Bring the error feedback in line with the chain; safe to repeat. Replied by ``Settled``.

    A contribution not included is put back; one put back earlier but included after all (the
    chain changed) is taken out again.
    """

    kind: Literal["settle"] = "settle"
    request: int
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """Measure the validation loss of the round's start parameters. Replied by ``Evaluated``."""

    kind: Literal["evaluate"] = "evaluate"
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Continue ``prompt`` with the round's start parameters. Replied by ``Sampled``."""

    kind: Literal["sample"] = "sample"
    request: int
    prompt: str
    text_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Write the round's start parameters in the Hugging Face layout. Replied by ``Exported``."""

    kind: Literal["export"] = "export"
    request: int
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Open a round at a host of stages: what is trained from now on counts upon ``parent``.

    Opened again upon the same parent, it goes on. Replied by ``Opened``.
    """

    kind: Literal["open"] = "open"
    request: int
    round: int
    parent: CommitHash


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTask:
    """Do one task of a ring (pipeline/stages/tasks.py). Replied by ``StageDone``."""

    kind: Literal["stage-task"] = "stage-task"
    request: int
    frame: bytes
    """The task, as pipeline/stages/frames.py writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End the process at once, in good order; no reply."""

    kind: Literal["stop"] = "stop"
    request: int = 0


Request = (
    Begin
    | Train
    | Finish
    | Encode
    | Validate
    | Try
    | Apply
    | Settle
    | Evaluate
    | Sample
    | Export
    | Open
    | StageTask
    | Shade
    | GiveMoments
    | Stop
)


@dataclass(frozen=True, slots=True)
class OpenContribution:
    """A contribution in the ledger of the compute process, for the node's bookkeeping."""

    parent: CommitHash
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First message of a compute process: what it is able to start from."""

    kind: Literal["hello"] = "hello"
    params: int
    unigram_entropy: float
    """Of the validation text under the training text's unigram frequencies, nats/text token."""
    ledger: tuple[OpenContribution, ...]
    """Own contributions whose fate may still change, restored from disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Parameters are in place."""

    kind: Literal["ready"] = "ready"
    request: int
    digest: Digest
    shards: tuple[ShardPayload, ...]
    has_moments: bool = False
    """Whether the next step is taken along moments, and not the first of a warm-up."""
    is_restored: bool = False
    """Whether the own disk's were taken just now, for all shards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One inner step is done."""

    kind: Literal["progress"] = "progress"
    request: int
    step: int
    steps: int
    loss: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """All inner steps are done, or as many as there was time for."""

    kind: Literal["trained"] = "trained"
    request: int
    steps: int
    round_tokens: int
    loss: float
    """Mean over the steps done, nats per text token; 0.0 if none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A contribution is durable and ready to announce; empty ``shards`` if not to be sent."""

    kind: Literal["encoded"] = "encoded"
    request: int
    parent: CommitHash
    text_tokens: int
    round_tokens: int
    loss: float
    shards: tuple[ShardPayload, ...]
    norms: tuple[float, ...] = ()
    """Of the gradient of each of ``shards``, before it was clipped; none where not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """Verdict on a contribution: an empty ``reason`` means it is sound."""

    kind: Literal["validated"] = "validated"
    request: int
    author: PeerId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The outer update is done and its shards are in the blob store."""

    kind: Literal["applied"] = "applied"
    request: int
    digest: Digest
    shards: tuple[ShardPayload, ...]
    judgements: tuple[Judgement, ...]
    """Of those that did not count in full, sorted by author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The contribution was tried: by how much it lowers the loss, nats per text token."""

    kind: Literal["tried"] = "tried"
    request: int
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Error feedback agrees with the chain."""

    kind: Literal["settled"] = "settled"
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Mean validation loss in nats per text token."""

    kind: Literal["evaluated"] = "evaluated"
    request: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """The continued text, prompt included."""

    kind: Literal["sampled"] = "sampled"
    request: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The model folder is complete."""

    kind: Literal["exported"] = "exported"
    request: int
    directory: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The round is open."""

    kind: Literal["opened"] = "opened"
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDone:
    """A task of a ring is done, or was refused."""

    kind: Literal["stage-done"] = "stage-done"
    request: int
    frame: bytes
    """The result, as pipeline/stages/frames.py writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The request could not be done; the process goes on."""

    kind: Literal["failed"] = "failed"
    request: int
    code: str
    detail: str


Reply = (
    Hello
    | Ready
    | MomentsGiven
    | Progress
    | Trained
    | Encoded
    | Validated
    | Tried
    | Applied
    | Settled
    | Evaluated
    | Sampled
    | Exported
    | Opened
    | StageDone
    | Shaded
    | Failed
)

_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
_REPLY: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="kind")])


def encode_request(request: Request) -> bytes:
    """Return one frame."""
    return _frame(request, _REQUEST)


def encode_reply(reply: Reply) -> bytes:
    """Return one frame."""
    return _frame(reply, _REPLY)


def decode_request(body: bytes) -> Request:
    """Read a frame's body (without the first length). Raises: ValueError."""
    return _message(body, _REQUEST)


def decode_reply(body: bytes) -> Reply:
    """Read a frame's body (without the first length). Raises: ValueError."""
    return _message(body, _REPLY)


def frame_length(header: bytes) -> int:
    """Read the 4-byte length. Raises: ComputeError if it exceeds MAX_FRAME_BYTES."""
    length = int.from_bytes(header, "big")
    if length > MAX_FRAME_BYTES:
        raise ComputeError("SK-CMP-002", f"frame of {length} bytes, limit {MAX_FRAME_BYTES}")
    return length


def _frame(message: M, adapter: TypeAdapter[M]) -> bytes:
    data = b""
    if isinstance(message, StageTask | StageDone):
        data, message = message.frame, replace(message, frame=b"")
    head = adapter.dump_json(message)
    length = _LENGTH_BYTES + len(head) + len(data)
    return b"".join((length.to_bytes(4, "big"), len(head).to_bytes(4, "big"), head, data))


def _message(body: bytes, adapter: TypeAdapter[M]) -> M:
    end = _LENGTH_BYTES + int.from_bytes(body[:_LENGTH_BYTES], "big")
    if end > min(len(body), _LENGTH_BYTES + MAX_HEAD_BYTES):
        raise ValueError(f"head until byte {end} of {len(body)}")
    message = adapter.validate_json(body[_LENGTH_BYTES:end])
    if isinstance(message, StageTask | StageDone):
        return replace(message, frame=body[end:])
    if end != len(body):
        raise ValueError(f"{len(body) - end} bytes too many")
    return message


@dataclass(frozen=True, slots=True)
class HostedStage:
    """One stage that a compute process hosts."""

    number: int
    shards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hosting:
    """What a peer of a ring hosts."""

    stages: tuple[HostedStage, ...]
    """Ascending."""
    slots: int
    """Microbatches whose inputs it keeps at a time."""
