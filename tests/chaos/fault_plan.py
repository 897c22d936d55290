"""Seeded plans of faults: what goes wrong with whom, in which round and phase. Plain data.

A plan is a line of JSON, so that what broke something can be kept and run again: against the
simulated swarm (simulated_faults.py: thousands of faults) and against real processes
(real_faults.py: tens of them).

Not every kind can be brought about everywhere. The simulated swarm has no time of day, so nothing
there has a wrong CLOCK. Among real processes a full DISK needs the right to mount a small one; and
as what is sent there goes through streams that deliver everything or break, LOSS breaks streams,
and CORRUPT alters bytes on their way to others, who do not listen to the sender for a while.
How a victim is brought into a phase is told in approach.py.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from random import Random
from typing import Any, TypeVar

T = TypeVar("T", bound=StrEnum)


class Kind(StrEnum):
    """What goes wrong."""

    KILL = "kill"
    """The process dies, and starts again after some rounds."""
    RESTART = "restart"
    """It dies and starts again at once."""
    STOP = "stop"
    """It is frozen for some rounds, and does not know it."""
    COMPUTE = "compute"
    """Its compute process dies."""
    NETWORK = "network"
    """Its transport dies, and starts again at once."""
    PARTITION = "partition"
    """The victims and the others do not reach each other for some rounds."""
    DELAY = "delay"
    """Messages take up to ``amount`` seconds."""
    LOSS = "loss"
    """A share ``amount`` of the messages is lost."""
    CORRUPT = "corrupt"
    """A share ``amount`` of the contributions is unsound."""
    SLOW = "slow"
    """What the victims send arrives ``amount`` seconds later: an uplink that is too narrow."""
    DISK = "disk"
    """Nothing more fits on its disk."""
    CLOCK = "clock"
    """Its clock is ``amount`` seconds fast."""


class Phase(StrEnum):
    """When it happens: what the first victim is doing."""

    JOIN = "join"
    """It enters as a newcomer, with nothing of the run on its disk, and is in no round yet."""
    INNER = "inner"
    EXCHANGE = "exchange"
    APPLY = "apply"
    TRANSFER = "transfer"
    """It downloads a state, since it was away too long to replay what it missed."""
    CHECKPOINT = "checkpoint"
    """It is writing down what a round has decided."""
    SHUTDOWN = "shutdown"
    """It was told to end and is ending; afterwards it is started again."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, perhaps with several peers at once."""

    kind: Kind
    round: int
    phase: Phase
    victims: tuple[int, ...]
    """Peers by number."""
    rounds: int = 0
    """How long it lasts."""
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All faults of one run, by round."""

    seed: int
    peers: int
    rounds: int
    faults: tuple[Fault, ...]

    @property
    def failures(self) -> int:
        """Peers that fail, counted each time."""
        return sum(len(fault.victims) for fault in self.faults)


BURSTS = {1: 45, 2: 27, 3: 12, 4: 8, 5: 5, 6: 3}
"""How many peers are taken at once, in percent of the times that any is: 2.1 in the mean and up to
six, as in Bamboo's trace of spot instances (p3: 167 removals at 79 instants)."""
_AMOUNTS = {
    Kind.DELAY: (0.2, 3.0),
    Kind.LOSS: (0.02, 0.3),
    Kind.CORRUPT: (0.3, 1.0),
    Kind.SLOW: (0.5, 4.0),
    Kind.CLOCK: (-600.0, 600.0),
}
SIMULATED = tuple(kind for kind in Kind if kind is not Kind.CLOCK)
"""What can go wrong in the simulated swarm."""


def draw_plan(
    seed: int,
    peers: int,
    rounds: int,
    faults: int,
    kinds: Collection[Kind] = tuple(Kind),
    phases: Collection[Phase] = tuple(Phase),
) -> FaultPlan:
    """Draw faults spread over a run, with one victim each; a partition may part several.

    Kinds and phases are dealt out like cards: none comes again before all have come. The last
    quarter of the rounds is left for what is late. Whoever begins the run is let in by nobody, so
    that it is not drawn to join.
    """
    dice = Random(seed)
    some_kinds, some_phases = _dealt(kinds, dice), _dealt(phases, dice)
    last = max(2, rounds * 3 // 4)
    found = []
    for number in range(faults):
        kind, phase = next(some_kinds), next(some_phases)
        able = range(int(phase is Phase.JOIN), peers)
        most = max(1, peers // 2) if kind is Kind.PARTITION else 1
        low, high = _AMOUNTS.get(kind, (0.0, 0.0))
        found.append(
            Fault(
                kind=kind,
                round=2 + number * (last - 2) // (faults + 1),
                phase=phase,
                victims=tuple(sorted(dice.sample(able, dice.randint(1, most)))),
                rounds=dice.randint(1, 5),
                amount=round(dice.uniform(low, high), 3),
            )
        )
    return FaultPlan(seed, peers, rounds, tuple(found))


def _dealt(cards: Collection[T], dice: Random) -> Iterator[T]:
    """Yield cards without end, all of them before one comes again."""
    while True:
        yield from dice.sample(sorted(cards), len(cards))


def draw_churn(
    seed: int, peers: int, rounds: int, per_round: float, away_rounds: float
) -> FaultPlan:
    """Draw peers that are taken away in bursts and replaced after a while, as in a spot market.

    Args:
        per_round: share of the peers that is taken in a round.
        away_rounds: mean of how long each is away.
    """
    dice = Random(seed)
    mean = sum(size * percent for size, percent in BURSTS.items()) / 100
    bursts_per_round = peers * per_round / mean
    found, at = [], dice.expovariate(bursts_per_round)
    while at < rounds - 1:
        size = dice.choices(list(BURSTS), weights=list(BURSTS.values()))[0]
        found.append(
            Fault(
                kind=Kind.KILL,
                round=1 + int(at),
                phase=dice.choice([Phase.INNER, Phase.EXCHANGE, Phase.APPLY, Phase.CHECKPOINT]),
                victims=tuple(sorted(dice.sample(range(peers), min(size, peers)))),
                rounds=max(1, round(dice.expovariate(1 / away_rounds))),
            )
        )
        at += dice.expovariate(bursts_per_round)
    return FaultPlan(seed, peers, rounds, tuple(found))


def to_json(plan: FaultPlan) -> str:
    """Return a plan as one line."""
    return json.dumps(asdict(plan))


def from_json(line: str) -> FaultPlan:
    """Read what ``to_json`` wrote. Raises: ValueError, KeyError or TypeError if it is not that."""
    fields: dict[str, Any] = json.loads(line)
    return FaultPlan(**{**fields, "faults": tuple(_fault(one) for one in fields["faults"])})


def _fault(fields: dict[str, Any]) -> Fault:
    named = {"kind": Kind(fields["kind"]), "phase": Phase(fields["phase"])}
    return Fault(**{**fields, **named, "victims": tuple(fields["victims"])})
