"""What one peer of a ring knows: its slots, its gradients of the open steps, its neighbours.

A **visit** is a microbatch at one position of its route, on this peer; it holds one slot from the
moment it is reserved until the origin releases it and its work is done. A **book** says which
microbatches this peer's gradients of an inner step are made of, by stage: a microbatch that was
tried twice is counted once.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf

from skerry.protocol.deadline import AdaptiveDeadline
from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.rings.actions import Action, Refused, Send
from skerry.protocol.rings.frames import Body, Fence, Frame, Pace, Place, StageVisits
from skerry.protocol.rings.pacing import Busy
from skerry.protocol.rings.plan import ORIGIN, Member, Plan, Ring, Route
from skerry.protocol.rings.routes import missed
from skerry.protocol.rings.tasks import At, TaskQueue, Work

VisitKey = tuple[At, int, int]
"""Step, microbatch, position of the route."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the run says about its rings. Times are seconds."""

    run_id: RunId
    most_skipped: int = 0
    """Stages that a microbatch may miss in all, as planned or because their hosts are gone."""
    hop_min_s: float = 1.0
    hop_max_s: float = 30.0
    """How long a neighbour may take to pass a microbatch on, where there is another way."""
    attempt_min_s: float = 5.0
    attempt_max_s: float = 120.0
    """How long a microbatch may take around the ring before it is begun anew."""
    factor: float = 4.0
    """Both deadlines = factor x moving average, within these bounds."""
    ban_s: float = 15.0
    """How long a peer that was late or failed is passed by if there is another way."""
    break_s: float = 2.0
    """How long one is passed by that is between two attempts at a round: it is soon ready again."""
    retry_s: float = 0.5
    """Before the second retry of a microbatch; twice that before the next, up to ``ban_s``."""
    bypass_steps: int = 0
    """Inner steps in which part of the microbatches pass over a stage that was made of others, as
    far as ``most_skipped`` lets them; 0: all visit it at once."""


class Status(IntEnum):
    """How far a visit has come."""

    RESERVED = 0
    FORWARD = 1
    """Its forward pass waits or runs."""
    PASSED_ON = 2
    """Its output is with the next peer, or on the way; waits for the gradient."""
    BACKWARD = 3
    """Its input gradient waits or runs."""
    SHIPPED = 4
    """Its input's gradient is on the way; its weight gradient waits or runs."""
    COUNTED = 5


@dataclass(slots=True)
class Detour:
    """Another host of the next stage was asked for a slot."""

    route: Route
    hop: int
    culprit: int
    due: float


@dataclass(slots=True)
class Visit:
    """One microbatch at one position of its route."""

    at: At
    place: Place
    route: Route
    reserved_by: int
    status: Status = Status.RESERVED
    text_tokens: int = 0
    pace: Pace = field(default_factory=Pace)
    output: bytes | None = None
    """Kept until the next peer has passed it on, so that another one can be given it."""
    sent_to: dict[int, float] = field(default_factory=dict)
    """Members that were given the output, and when."""
    due: float | None = None
    """When the next peer is late."""
    detour: Detour | None = None
    tried: set[int] = field(default_factory=set)
    """Members that could not take the next position."""
    complained: bool = False
    """Whether the origin was told that this attempt has failed."""
    compute_s: float = 0.0
    released: bool = False

    @property
    def key(self) -> VisitKey:
        """What tells it from other visits of this peer."""
        return self.at, self.place.microbatch, self.place.hop


@dataclass(slots=True)
class Book:
    """What this peer's gradients of one inner step are made of."""

    counted: dict[tuple[int, int], int] = field(default_factory=dict)
    """Text tokens by stage and microbatch."""
    attempts: dict[tuple[int, int], int] = field(default_factory=dict)
    """Highest attempt seen by microbatch and position: what is not above it is a replay."""
    end: tuple[StageVisits, ...] | None = None
    """What they are to be made of, once the origin has said so."""
    last: bool = False
    """Whether no other step of the round will follow."""
    reason: str = ""
    """Why they are thrown away."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The outcome of the last inner step, in case the origin asks again."""

    at: At
    visits: tuple[StageVisits, ...]
    reason: str
    last: bool
    """Whether no other step of the round will follow."""


@dataclass(slots=True)
class RingState:
    """One peer in one ring under one plan; a new plan begins with a new state."""

    me: int
    """Position among the ring's members."""
    plan: Plan
    ring_number: int
    rules: Rules
    hop_patience: AdaptiveDeadline
    open_round: float = inf
    """The newest round whose steps may begin here."""
    early: At | None = None
    """The origin's step, if it is of a later round: nothing is reserved for it here as yet."""
    missed: At | None = None
    """The last step of a round, if it has ended before that round began here."""
    floor: At = (0, -1)
    """Newest step that is closed; what belongs to it or before is stale."""
    visits: dict[VisitKey, Visit] = field(default_factory=dict)
    waiting: deque[tuple[int, Frame]] = field(default_factory=deque)
    """Reservations of the origin that wait for a slot, first come, first served."""
    books: dict[At, Book] = field(default_factory=dict)
    """Open steps, oldest first."""
    closed: Closed | None = None
    queue: TaskQueue = field(default_factory=TaskQueue)
    running: Work | None = None
    busy: Busy = field(default_factory=Busy)
    down: set[int] = field(default_factory=set)
    """Members without a stream."""
    rebuilt: dict[int, int] = field(default_factory=dict)
    """Own stages that were made of others, and the inner steps that they have trained since."""
    banned: dict[int, float] = field(default_factory=dict)
    """Members to pass by if there is another way, and until when."""
    loopback: deque[tuple[Frame, bytes]] = field(default_factory=deque)
    """What this peer has to say to itself: the origin is also a host."""

    @property
    def ring(self) -> Ring:
        """The ring that this peer is in."""
        return self.plan.rings[self.ring_number]

    @property
    def member(self) -> Member:
        """This peer's own entry."""
        return self.ring.members[self.me]

    @property
    def is_origin(self) -> bool:
        """Whether this peer drives the ring."""
        return self.me == ORIGIN

    @property
    def most_missed(self) -> int:
        """How many stages a route may miss in all, as planned or by detours."""
        planned = (missed(self.plan, path.hops) for path in self.ring.paths)
        return max(self.rules.most_skipped, *planned)

    @property
    def newest(self) -> At:
        """The newest step that is known of."""
        return max(self.books, default=self.floor)

    def avoided(self, now: float) -> set[int]:
        """Return the members that are gone or banned."""
        return self.down | {member for member, until in self.banned.items() if now < until}


def new_ring_state(me: PeerId, plan: Plan, ring: int, rules: Rules) -> RingState:
    """Return the state of a peer at the start of a plan; all others count as gone until PeerUp.

    Raises: ValueError if the ring has no such peer.
    """
    index = plan.rings[ring].member_of(me)
    if index is None:
        raise ValueError(f"{me} is not in ring {ring}")
    return RingState(
        me=index,
        plan=plan,
        ring_number=ring,
        rules=rules,
        hop_patience=AdaptiveDeadline(rules.hop_min_s, rules.hop_max_s, rules.factor),
        down=set(range(len(plan.rings[ring].members))) - {index},
    )


def tell(
    s: RingState, member: int, at: At, place: Place, body: Body, payload: bytes = b""
) -> list[Action]:
    """Send a frame to a member, or to oneself; to a member that is gone there is none to send."""
    fence = Fence(s.rules.run_id, s.plan.version, s.ring_number, *at)
    frame = Frame(fence, place, body)
    if member == s.me:
        s.loopback.append((frame, payload))
        return []
    if member in s.down:
        return []
    return [Send(s.ring.members[member].peer, frame, payload)]


def refuse(s: RingState, member: int, reason: str) -> list[Action]:
    """Name what was not accepted of a member."""
    return [Refused(s.ring.members[member].peer, reason)]
