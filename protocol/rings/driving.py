"""What only the origin knows: the microbatches of the inner step, and the attempts at each."""

from collections import deque
from dataclasses import dataclass, field

from skerry.protocol.deadline import AdaptiveDeadline
from skerry.protocol.rings.frames import Frame, Pace, Place, StageVisits
from skerry.protocol.rings.pacing import Flight
from skerry.protocol.rings.plan import ORIGIN, Hop, Ring, Route
from skerry.protocol.rings.routes import PathRouter
from skerry.protocol.rings.state import Rules
from skerry.protocol.rings.suspicion import Suspicion
from skerry.protocol.rings.tasks import At


@dataclass(frozen=True, slots=True)
class Announced:
    """A change of a route that a member on its way has told of (detours.py)."""

    member: int
    hop: int
    """Where it is itself."""
    changed: int
    """Which position after it."""
    to: Hop


@dataclass(frozen=True, slots=True)
class Held:
    """What has come back by a way that is not announced as yet."""

    source: int
    frame: Frame
    payload: bytes


@dataclass(slots=True)
class Attempt:
    """One microbatch on its way, or about to be."""

    place: Place
    drawn: Route
    """As the slots were reserved."""
    route: Route
    """As drawn, and once it has come back, as it was taken."""
    due: float
    """When it counts as lost."""
    ungranted: set[tuple[int, int]]
    """Members and positions whose slot is not granted yet; empty: it is on its way."""
    touched: set[tuple[int, int]]
    """Members and positions that may hold a slot for it."""
    injected_at: float | None = None
    returned: bool = False
    """Whether it has come back to the loss."""
    announced: set[Announced] = field(default_factory=set)
    held: Held | None = None
    cut: bool = False
    """Whether a stream was lost meanwhile, and perhaps an announcement with it."""
    pace: Pace = field(default_factory=Pace)
    """Gathered on the way there."""


@dataclass(slots=True)
class Microbatch:
    """One microbatch of the inner step."""

    number: int
    text_tokens: int
    attempts: int = 0
    attempt: Attempt | None = None
    route: Route | None = None
    """Of the last attempt: a retry keeps to the hosts that may have counted it already."""
    not_before: float = 0.0
    on_its_way: bool = False
    """Whether any attempt has set out: hosts may have counted it since."""
    held_up_by: int | None = None
    """Who had no slot for the last attempt."""
    loss: float | None = None
    """Nats per text token."""
    trained: Route | None = None
    """The way by which it was trained, or only measured, in the end."""
    outliers: int = 0
    """Attempts in which a member was sent something that was unlike what it knows."""
    left_out: bool = False
    """Whether the step is to end without it."""
    original: "Microbatch | None" = None
    """Of a double: the microbatch that it repeats, only to compare the losses."""


@dataclass(slots=True)
class Drive:
    """The origin's part of a ring's state."""

    router: PathRouter
    flight: Flight
    patience: AdaptiveDeadline
    suspicion: Suspicion
    at: At | None = None
    """The inner step being driven."""
    forward_only: bool = False
    """Whether it only measures the loss."""
    microbatches: tuple[Microbatch, ...] = ()
    todo: deque[Microbatch] = field(default_factory=deque)
    """Not on their way; those to be redone first."""
    unseen: set[int] = field(default_factory=set)
    """Members that have never been there: at first all others, as streams take a while to open."""
    unseen_until: float | None = None
    """How long they are waited for, from the first step on, before any is passed by."""
    looked_at: float = 0.0
    """When it was last looked whether something can be injected."""
    rebuilt: dict[int, int] = field(default_factory=dict)
    """Stages that train back in, and the inner steps that they have trained since."""
    spared: dict[tuple[int, int], int] = field(default_factory=dict)
    """By member and stage, for how many steps now the member has been spared work at it."""
    passing: dict[int, frozenset[int]] = field(default_factory=dict)
    """By such a stage, which microbatches of this step pass over it."""
    visited: set[int] = field(default_factory=set)
    """Stages that a microbatch of this step visits for certain."""
    redone: int = 0
    last: bool = False
    """Whether it is the last one of its round."""
    ended: bool = False
    """Whether the members were told of its end."""
    ended_at: At | None = None
    """The last step whose end the members were told."""
    ended_last: bool = False
    """Whether that was the last one of its round."""
    unconfirmed: dict[int, tuple[StageVisits, ...]] = field(default_factory=dict)
    """Members that have not said that they stepped then, and what they were told."""

    @property
    def active(self) -> list[Microbatch]:
        """Microbatches with an attempt."""
        return [m for m in self.microbatches if m.attempt is not None]

    @property
    def finished(self) -> bool:
        """Whether every microbatch of the step is trained or left out."""
        return all(m.trained is not None or m.left_out for m in self.microbatches)


def new_drive(ring: Ring, rules: Rules) -> Drive:
    """Return the origin's part of the state at the start of a plan."""
    return Drive(
        router=PathRouter([path.quota for path in ring.paths]),
        flight=Flight(ring.in_flight, ring.members[ORIGIN].slots),
        patience=AdaptiveDeadline(rules.attempt_min_s, rules.attempt_max_s, rules.factor),
        suspicion=Suspicion(rules.ban_s),
        unseen=set(range(len(ring.members))) - {ORIGIN},
    )
