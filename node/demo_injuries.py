"""What the demo of faults does to its swarm, in which order, and what became of each. Pure.

A seed draws order and victims. The failure of the coordinator, which owns the run and is its only
full replica, goes with that of a stage: while nobody else has all of the model, a peer of the ring
is killed for good.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """What fails."""

    PEER = "peer"
    LEADER = "leader"
    STAGE = "stage"
    ADJACENT = "two adjacent stages"
    COMPUTE = "compute process"
    COORDINATOR = "coordinator"


OWN_DISK = "own disk"
"""The rung of who comes back with what it had; the others are those of recovery/healing.py."""


@dataclass(frozen=True, slots=True)
class Injury:
    """One failure."""

    kind: Kind
    victims: tuple[str, ...]
    """Names of daemons."""
    shards: tuple[str, ...]
    """That were trained there."""
    time: float
    """Unix seconds."""
    round: int
    loss: float
    """Just before, nats per text token."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of a failure."""

    kind: Kind
    victims: tuple[str, ...]
    shards: tuple[str, ...]
    rung: str
    """How what was lost came back."""
    seconds: float
    """Until a commit held what all of these shards' hosts had trained after it."""
    loss_before: float
    loss_after: float
    """In the first commit with all of them; both nats per text token."""


def drawn_script(seed: int) -> tuple[Kind, ...]:
    """Return the failures in the order in which they are to happen."""
    dice = Random(seed)
    blocks = [[Kind.PEER], [Kind.LEADER], [Kind.ADJACENT], [Kind.COMPUTE]]
    blocks.append([Kind.COORDINATOR, Kind.STAGE])
    dice.shuffle(blocks)
    return tuple(kind for block in blocks for kind in block)


def missing_kinds(recoveries: Iterable[Recovery]) -> list[str]:
    """Say which failures did not happen, or were not recovered from."""
    seen = {recovery.kind for recovery in recoveries}
    return [f"nothing recovered from the failure of a {kind}" for kind in Kind if kind not in seen]
