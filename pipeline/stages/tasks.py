"""What a host of stages is asked to do, and what it answers. Plain data with bytes, no torch.

A microbatch goes round a ring so (O the origin, which hosts stage 0; A and B other members):

    O: Inject     -> A: Forward -> B: Forward -> O: Score         forward, then loss
    O: InputGradient <- A: InputGradient <- B: InputGradient <-'  gradients of the stages' inputs
    WeightGradient on each, at any time after, in any order; at the end Step on each

A step that only measures the validation loss ends with Measure in place of Score, and all others
Drop the visit. Where a stage is skipped or taken in another order, its host simply is not asked, or
asked at another hop. Each answer's bytes are what the next hop is given: nothing else passes
between stages.

The host (host.py) takes tasks strictly one after the other. A task is refused by name, as a
``ProtocolError`` of these reasons, and then changes nothing:

    stale      of a step that is over, or of an attempt that a later one has replaced
    early      of a step that has not begun here
    duplicate  the same visit twice
    unknown    a gradient or a loss for a visit that is not under way
    slots      no slot is free for another visit
    stage      a stage is not hosted here, or the origin is asked as if it were none, or none as it
    range      a number is outside of what the manifest allows
    outlier    a payload is unlike those before it (outliers.py)
    ...        what else is wrong with a payload: the reasons of compression/activations

Exactly once: what a visit adds to gradients is owed when its input gradient is computed, and counts
when it is paid, by ``WeightGradient`` or at the latest by ``Step``. A shard counts each microbatch
at most once per step, however often that is tried: a later attempt's visit of shards that count it
already still passes gradients on, and adds nothing. What is owed for an attempt is forgotten when
it is dropped, or when a later one begins here.
"""

from dataclasses import dataclass, field
from typing import Literal

MAX_MICROBATCHES = 4096
"""Of one step; numbers are below."""
MAX_HOPS = 128
"""Of one microbatch; positions are below."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One visit: which try of which microbatch, at which position of its route."""

    microbatch: int
    attempt: int
    hop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Begin inner step ``step`` of the run; forgets all visits and gradients of another one.

    Needed before a host's first step and wherever steps do not follow each other. Numbers are those
    of the learning-rate schedule: round times inner steps plus the step within the round.
    """

    kind: Literal["begin"] = "begin"
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inject:
    """Embed some sequences of one of this peer's batches, and pass ``stages``; origin only.

    Takes a slot. Answered by ``Forwarded``.
    """

    kind: Literal["inject"] = "inject"
    step: int
    place: Place
    stages: tuple[int, ...]
    """Stages hosted here that this hop passes, in order; none: only the embedding."""
    batch: int | None
    """None: of the windows of the validation text."""
    first: int
    """Place of the first sequence in the batch, or among the windows."""
    sequences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Pass ``stages`` from a neighbour's activations. Takes a slot. Answered by ``Forwarded``."""

    kind: Literal["forward"] = "forward"
    step: int
    place: Place
    stages: tuple[int, ...]
    """Stages hosted here that this hop passes, in order."""
    sequences: int
    ids: bytes
    """Text token ids; empty where no subspace needs them."""
    activations: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Compute loss and gradient of what came back round the ring; origin only.

    ``place`` is that of the microbatch's ``Inject``. Answered by ``Scored``.
    """

    kind: Literal["score"] = "score"
    step: int
    place: Place
    activations: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Compute the loss alone of what came back round the ring, and end the visit; origin only.

    ``place`` is that of the microbatch's ``Inject``. Answered by ``Measured``.
    """

    kind: Literal["measure"] = "measure"
    step: int
    place: Place
    activations: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class InputGradient:
    """Compute the gradient of a visit's input from that of its output; frees the visit's slot.

    Answered by ``Differentiated``; the weights' gradients are left for ``WeightGradient``.
    """

    kind: Literal["input-gradient"] = "input-gradient"
    step: int
    place: Place
    gradients: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightGradient:
    """Compute what a visit owes to its weights, and count it, if that is still to be done.

    It may be done already: memory for such debts is bounded, and the oldest are paid first. At the
    origin ``place`` is that of ``Inject``, and both its loss and its embedding are meant.
    Answered by ``Weighed``.
    """

    kind: Literal["weight-gradient"] = "weight-gradient"
    step: int
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """End a visit, wherever it is: free its slot, forget what is owed for it.

    What is counted stays counted. Harmless where nothing is left of the visit, or where it never
    was; it cannot come any more. Answered by ``Dropped``.
    """

    kind: Literal["drop"] = "drop"
    step: int
    place: Place


@dataclass(frozen=True, slots=True)
class StageVisits:
    """Which microbatches one stage's gradient is made of."""

    stage: int
    microbatches: tuple[int, ...]
    """Ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Let each hosted stage step along its gradient, and go on to the next step.

    What is still owed is paid before; with ``expected``, only for the microbatches named there. A
    stage named there only steps if its gradient is made of just these, which the origin knows:
    where a microbatch was tried again by way of another host of the same stage, one of the two
    must not count it. Answered by ``Stepped``.
    """

    kind: Literal["step"] = "step"
    step: int
    expected: tuple[StageVisits, ...] = ()


Task = Begin | Inject | Forward | Score | Measure | InputGradient | WeightGradient | Drop | Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The step has begun."""

    kind: Literal["begun"] = "begun"
    step: int
    validation_windows: int = 0
    """Of the validation text that may be injected here; none on other peers than the origin."""
    bytes_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """What the next hop needs; the input is kept, as it came, until its gradient is computed."""

    kind: Literal["forwarded"] = "forwarded"
    place: Place
    ids: bytes
    activations: bytes
    bytes_in_flight: int
    """Bytes that visits keep here now: inputs, and what gradients of weights still need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A microbatch's loss, and its gradient for the last hop."""

    kind: Literal["scored"] = "scored"
    place: Place
    loss: float
    """Sum over the text tokens, nats."""
    text_tokens: int
    gradients: bytes
    bytes_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A microbatch's loss."""

    kind: Literal["measured"] = "measured"
    place: Place
    loss: float
    """Sum over the text tokens, nats."""
    text_tokens: int
    bytes_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Differentiated:
    """The gradient for the hop before; empty where there is none, at the embedding."""

    kind: Literal["differentiated"] = "differentiated"
    place: Place
    gradients: bytes
    bytes_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """Nothing is left to do for the visit."""

    kind: Literal["weighed"] = "weighed"
    place: Place
    bytes_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Nothing is kept of the visit."""

    kind: Literal["dropped"] = "dropped"
    place: Place
    bytes_in_flight: int


@dataclass(frozen=True, slots=True)
class StageStep:
    """What one stage's step came to."""

    visits: StageVisits
    text_tokens: int
    """That the gradient was divided by."""
    norm: float
    """Of the gradient, before it was clipped; 0 if there was none."""
    reason: str
    """Why the parameters did not change: "idle", "visits" or "non-finite"; empty if they did."""
    shard_norms: dict[str, float] = field(default_factory=dict)
    """The same norm of each shard by itself; none if the parameters did not change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """The step is over; visits that had not come back are forgotten."""

    kind: Literal["stepped"] = "stepped"
    step: int
    stages: tuple[StageStep, ...]
    """Ascending by stage."""
    forgotten: int
    """Visits whose gradient never came."""
    bytes_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The task was refused, or failed, and changed nothing."""

    kind: Literal["refused"] = "refused"
    reason: str
    """Short name under which it is counted."""
    code: str
    detail: str
    of_input: bool
    """Whether a payload of a neighbour is what is wrong, and not the task."""
    bytes_in_flight: int


Result = (
    Begun | Forwarded | Scored | Measured | Differentiated | Weighed | Dropped | Stepped | Refused
)
