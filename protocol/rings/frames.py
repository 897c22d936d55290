"""What the peers of a ring send each other: one frozen dataclass for each kind of frame.

Every frame is fenced: it names the run, plan, ring, round and step that it belongs to, and one
about a microbatch also names the attempt and the hop. What does not fit is refused by name, so a
frame that is stale or replayed changes nothing.
"""

from dataclasses import dataclass
from enum import IntEnum

from skerry.protocol.ids import RunId
from skerry.protocol.rings.plan import Route

RING_PROTOCOL = "/skerry/ring/1"
ROUND_OVER = "round-over"
"""Why a member refuses to compute between two attempts at a round, and after it."""


class Lane(IntEnum):
    """Which traffic goes first: a lower lane never waits for a higher one."""

    CONTROL = 0
    BACKWARD = 1
    FORWARD = 2


@dataclass(frozen=True, slots=True)
class Fence:
    """The work that a frame belongs to."""

    run_id: RunId
    plan: int
    """Version of the plan."""
    ring: int
    round: int
    step: int

    @property
    def at(self) -> tuple[int, int]:
        """Round and step: what orders the work of one plan."""
        return self.round, self.step


@dataclass(frozen=True, slots=True)
class Place:
    """Which microbatch, which try of it, and at which position of its route."""

    microbatch: int = 0
    attempt: int = 0
    hop: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """Where the time of a microbatch goes, gathered on its way."""

    queued_us: int = 0
    """Microseconds that it waited for computations to begin, in all."""
    bottleneck_us: int = 0
    """Microseconds that the busiest peer or uplink so far needs for one microbatch."""


@dataclass(frozen=True, slots=True)
class StageVisits:
    """Which microbatches one stage's gradient is made of."""

    stage: int
    text_tokens: int
    microbatches: tuple[int, ...]
    """Ascending."""


@dataclass(frozen=True, slots=True)
class Activation:
    """Forward: a stage's output for the next; the payload follows."""

    route: Route
    text_tokens: int
    pace: Pace


@dataclass(frozen=True, slots=True)
class Gradient:
    """Backward: the gradient of a stage's input for the one before; the payload follows."""

    pace: Pace


@dataclass(frozen=True, slots=True)
class Reserve:
    """Asks for a slot at the frame's hop."""

    route: Route


@dataclass(frozen=True, slots=True)
class Grant:
    """The slot is taken."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """There is no slot now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """The attempt is over, and its slot is free once its work is done."""

    done: bool
    """Whether the microbatch was trained by way of this visit; otherwise it was given up."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The forward pass at this hop is done and on its way to the next."""


@dataclass(frozen=True, slots=True)
class Rerouted:
    """A hop has found another way and tells the origin."""

    route: Route
    culprit: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt cannot go on from this hop; the origin begins it anew."""

    culprit: int
    reason: str


@dataclass(frozen=True, slots=True)
class StepBegin:
    """The origin has begun this inner step; every member gets ready for it."""


@dataclass(frozen=True, slots=True)
class StepEnd:
    """What this member's gradients are to be made of; then it steps."""

    visits: tuple[StageVisits, ...]
    last: bool = False
    """Whether no other step of the round will follow."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """What this member's step was made of."""

    visits: tuple[StageVisits, ...]
    reason: str
    """Why its gradients were thrown away; empty if they were not."""


@dataclass(frozen=True, slots=True)
class StageAge:
    """A stage that was made of others, and how long it has trained since."""

    stage: int
    steps: int
    """Inner steps."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Stages of this member have to train back in (bypass.py)."""

    stages: tuple[StageAge, ...]


Body = (
    Activation
    | Gradient
    | Reserve
    | Grant
    | Refuse
    | Release
    | Passed
    | Rerouted
    | Failed
    | StepBegin
    | StepEnd
    | Stepped
    | Rebuilt
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, without its payload."""

    fence: Fence
    place: Place
    body: Body

    @property
    def lane(self) -> Lane:
        """What it travels with."""
        match self.body:
            case Activation():
                return Lane.FORWARD
            case Gradient():
                return Lane.BACKWARD
            case _:
                return Lane.CONTROL
