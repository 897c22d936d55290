"""Peers of a ring that are slower than the plan in force counts on. Pure.

Who hosts stages says in its heartbeats how fast it computes; the plan says with what speed it was
made. What counts is the ratio of the two, relative to the ring members' middle one: where all are
slower alike, another plan helps nobody, and where speeds were never measured, the plan took them to
be alike.

What a peer says of itself may be a lie, and noise must not move stages to and fro:

- A peer is slow after ``ROUNDS`` rounds at more than ``SLOW`` times the middle ratio. Between
  ``FINE`` and that it stays what it was.
- After a plan there is none for this reason for ``REST`` rounds.
- The plan that follows counts on no one to be faster than the one before did (``counted_on``), and
  on who was slow for at least ``SLOW`` times less; what is said is taken within ``SPREAD`` of the
  middle. So a peer can cause about log(SPREAD^2) / log(SLOW) = 20 such plans, as long as fewer than
  half lie together, until a peer comes or goes.
"""

from dataclasses import dataclass, field
from statistics import median_low

from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds.leader import MAX_VIEW

SLOW, FINE = 1.5, 1.25
ROUNDS, REST = 3, 8
SPREAD = 64.0
"""Of two machines that share a ring, none is so many times as fast as the middle one."""

Rates = dict[PeerId, float]
"""Text tokens per second through one block, forward, by peer."""


@dataclass(frozen=True, slots=True)
class SlowPeer:
    """Who is slower than planned, and by how much."""

    peer: PeerId
    planned: float
    """Text tokens per second through one block, forward, on which the plan counts."""
    measured: float
    times: float
    """How many times as long as planned it takes, relative to the middle one."""


@dataclass(slots=True)
class Slowness:
    """What this node has heard of speeds, and for how many rounds who has been slow."""

    told: Rates = field(default_factory=dict)
    """The newest that each peer has said of itself."""
    rounds: dict[PeerId, int] = field(default_factory=dict)
    """In a row, of the plan in force."""
    version: int = -1
    """Of that plan."""
    seen: CommitHash | None = None
    """Commit whose round was counted last."""
    due: tuple[SlowPeer, ...] = ()
    """Who is slow, if it is time for another plan; sorted by peer."""

    def hear(self, peer: PeerId, rate: float) -> None:
        """Take in what a peer says of itself; 0: it has not measured yet."""
        if rate > 0:
            self.told[peer] = rate

    def count_round(self, at: CommitHash, plan: Plan | None, round_number: int) -> None:
        """Look at all speeds once for each commit that is built on."""
        if at == self.seen:
            return
        self.seen, self.due = at, ()
        if plan is None:
            return
        if plan.version != self.version:
            self.version, self.rounds = plan.version, {}
        times_of = shortfalls(plan, self.told)
        for peer, times in times_of.items():
            if times > SLOW:
                self.rounds[peer] = self.rounds.get(peer, 0) + 1
            elif times < FINE:
                self.rounds.pop(peer, None)
        if round_number - plan.version // (MAX_VIEW + 1) > REST:
            planned, within = planned_rates(plan), in_bounds(self.told, plan)
            self.due = tuple(
                SlowPeer(peer, planned[peer], within[peer], times_of[peer])
                for peer, rounds in sorted(self.rounds.items())
                if rounds >= ROUNDS
            )


def planned_rates(plan: Plan) -> Rates:
    """Return with what speeds a plan was made, as far as it says so."""
    members = (member for ring in plan.rings for member in ring.members)
    return {member.peer: member.rate for member in members if member.rate > 0}


def in_bounds(told: Rates, plan: Plan) -> Rates:
    """Return what members of the plan say, within ``SPREAD`` of the middle one."""
    known = {peer: told[peer] for peer in planned_rates(plan) if peer in told}
    if not known:
        return {}
    middle = median_low(known.values())
    return {p: min(max(rate, middle / SPREAD), middle * SPREAD) for p, rate in known.items()}


def shortfalls(plan: Plan, told: Rates) -> Rates:
    """Return how many times as long as planned each member takes, relative to the middle one.

    Only what is slower than planned counts: if most are faster, the others are not slow.
    """
    planned = planned_rates(plan)
    times = {peer: planned[peer] / rate for peer, rate in in_bounds(told, plan).items()}
    middle = max(1.0, median_low(times.values())) if times else 1.0
    return {peer: ratio / middle for peer, ratio in times.items()}


def counted_on(plan: Plan | None, told: Rates, slow: bool) -> Rates:
    """Return on which speeds of members another plan is to count.

    Args:
        slow: it is made because somebody is slower than planned; then nobody becomes faster.
    """
    if plan is None:
        return {}
    within = in_bounds(told, plan)
    if not slow:
        return within
    planned = planned_rates(plan)
    times = [planned[peer] / rate for peer, rate in within.items()]
    middle = max(1.0, median_low(times)) if times else 1.0
    return {peer: min(rate, within.get(peer, rate / middle)) for peer, rate in planned.items()}
