"""How far a peer is trusted to be there: alive, suspect, dead, evicted. Pure, with evidence.

The detector (detector.py) says who is silent. This machine says what follows from that and from
all else that speaks for or against a peer:

    ALIVE ──silent, closed──▶ SUSPECT ──nothing heard for long enough──▶ DEAD ──▶ EVICTED
      ▲                          │                                        │         │
      ├──────────heard───────────┘                                        │         │
      └──────────heard, and it follows the plan in force──────────────────┴─────────┘

A suspect keeps its stages: work is routed around it, nothing is moved. Once it is dead, others get
its stages. A process that was only paused still follows the plan of before when it is heard again:
it stays dead, behind its fence, until it has healed to the plan in force. That nothing of it counts
meanwhile is no business of this machine: frames of a ring name their plan, contributions the commit
that they build on, and only who stands at the newest one is given a place. Evicted is who has been
dead for so long that nothing is kept of it; its way back is the same.

No clock and no I/O: the caller passes monotonic seconds and asks when to look again.
"""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from skerry.protocol.ids import PeerId


class Standing(IntEnum):
    """How far a peer is from being there."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    EVICTED = 3


class Sign(StrEnum):
    """What speaks against a peer."""

    SILENT = "silent"
    """Not heard for longer than its rhythm allows."""
    CLOSED = "closed"
    """Its connection broke."""
    REFUSED = "refused"
    """A request failed before its deadline: there is no connection to it, and none comes about."""
    LATE = "late"
    """A request was not answered by its deadline."""
    REPORTED = "reported"
    """Another peer says one of these."""


_MAKES_SUSPECT = frozenset({Sign.SILENT, Sign.CLOSED})
"""By itself. That a request failed does not, since over a link that works in one direction each one
does while the peer is heard; and what another peer says may be a lie. Both count beside these."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that speaks against a peer."""

    sign: Sign
    at: float
    by: PeerId
    """Who noticed."""
    detail: str = ""
    """In words, for log and page."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A peer stands elsewhere than before."""

    peer: PeerId
    before: Standing
    after: Standing
    evidence: tuple[Evidence, ...]
    """All that spoke against it, oldest first; of a peer that is alive again, what was refuted."""


@dataclass(frozen=True, slots=True)
class StandingRules:
    """How long to wait."""

    dead_after_s: float = 5.0
    """Under suspicion without a sign of life; torchft takes 5 s for dead."""
    hurried_s: float = 2.0
    """The same without a connection if another peer doubts it, too: it is hardly the link."""
    evicted_after_s: float = 120.0
    """Dead without a sign of life."""
    most_evidence: int = 16
    """Kept of each peer, the oldest and the newest."""

    def __post_init__(self) -> None:
        """Refuse settings under which nobody could come back."""
        in_order = 0 <= self.hurried_s <= self.dead_after_s and self.evicted_after_s > 0
        if not in_order or self.most_evidence < 2:
            raise ValueError(f"the settings for standing are out of range: {self}")


def rules_at(heartbeat_s: float) -> StandingRules:
    """Return how long to wait where signs of life come at this interval.

    In a hurry, two are waited for: a stream may break though the peer at its other end lives.
    """
    return StandingRules(5 * heartbeat_s, 2 * heartbeat_s, 120 * heartbeat_s)


@dataclass(slots=True)
class _Record:
    standing: Standing = Standing.ALIVE
    since: float = 0.0
    """When it came to stand there, or was last heard there."""
    evidence: list[Evidence] = field(default_factory=list)


class Register:
    """The standing of all peers that were ever heard."""

    def __init__(self, rules: StandingRules | None = None) -> None:
        """Start knowing nobody."""
        self._rules = rules or StandingRules()
        self._records: dict[PeerId, _Record] = {}

    def standing(self, peer: PeerId) -> Standing | None:
        """Return where a peer stands; None if it is not known."""
        record = self._records.get(peer)
        return None if record is None else record.standing

    def evidence(self, peer: PeerId) -> tuple[Evidence, ...]:
        """Return what speaks against a peer now, oldest first."""
        record = self._records.get(peer)
        return () if record is None else tuple(record.evidence)

    def doubts(self, by: PeerId) -> tuple[PeerId, ...]:
        """Return who is suspect or dead by what one peer has noticed itself, sorted."""
        return tuple(
            peer
            for peer, record in sorted(self._records.items())
            if record.standing in (Standing.SUSPECT, Standing.DEAD)
            and any(one.by == by for one in record.evidence)
        )

    def heard(self, peer: PeerId, current: bool, now: float) -> list[Turn]:
        """Take a sign of life.

        Args:
            current: whether the peer follows the plan in force.

        Returns: the turn if it lives again. A dead peer that follows an older plan does not: it is
        there, but has to heal first, and does not become evicted meanwhile.
        """
        record = self._records.setdefault(peer, _Record(since=now))
        record.since = max(record.since, now)
        if record.standing >= Standing.DEAD and not current:
            return []
        evidence = tuple(record.evidence)
        record.evidence.clear()
        if record.standing is Standing.ALIVE:
            return []
        return [self._turned(peer, record, Standing.ALIVE, now, evidence)]

    def doubted(self, peer: PeerId, evidence: Evidence) -> list[Turn]:
        """Take something that speaks against a peer; of one that is not known it says nothing."""
        record = self._records.get(peer)
        if record is None or evidence.at < record.since:
            return []  # it was heard since
        keep = self._rules.most_evidence
        if len(record.evidence) == keep:
            del record.evidence[keep // 2]
        record.evidence.append(evidence)
        if record.standing is not Standing.ALIVE or evidence.sign not in _MAKES_SUSPECT:
            return []
        return [self._turned(peer, record, Standing.SUSPECT, evidence.at, tuple(record.evidence))]

    def left(self, peer: PeerId) -> None:
        """Forget a peer that left on purpose: there is nothing to find out about it."""
        self._records.pop(peer, None)

    def excuse(self, now: float) -> None:
        """Give everyone time anew: nobody could be heard until now."""
        for record in self._records.values():
            record.since = max(record.since, now)

    def turns(self, now: float) -> list[Turn]:
        """Return who has become dead or evicted by now, sorted by peer."""
        found = []
        for peer, record in sorted(self._records.items()):
            while (due := self._due(record)) is not None and now >= due:
                after = Standing(record.standing + 1)
                found.append(self._turned(peer, record, after, due, tuple(record.evidence)))
        return found

    def next_check(self) -> float | None:
        """Return when ``turns`` has something to say if nobody is heard until then."""
        times = [self._due(record) for record in self._records.values()]
        return min((time for time in times if time is not None), default=None)

    def _due(self, record: _Record) -> float | None:
        match record.standing:
            case Standing.SUSPECT:
                return record.since + self._patience_s(record)
            case Standing.DEAD:
                return record.since + self._rules.evicted_after_s
            case _:
                return None

    def _patience_s(self, record: _Record) -> float:
        closed = any(one.sign in (Sign.CLOSED, Sign.REFUSED) for one in record.evidence)
        witnesses = len({one.by for one in record.evidence})
        return self._rules.hurried_s if closed and witnesses > 1 else self._rules.dead_after_s

    def _turned(
        self,
        peer: PeerId,
        record: _Record,
        after: Standing,
        at: float,
        evidence: tuple[Evidence, ...],
    ) -> Turn:
        before, record.standing, record.since = record.standing, after, at
        return Turn(peer, before, after, evidence)
