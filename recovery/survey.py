"""What is left after stages were lost: the facts from which healing is planned. Plain data.

Ages count inner steps since the copy was all that was known of the shard; a live host's committed
parameters are of the round's start, which is the newest that anyone can verify.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from skerry.protocol.ids import PeerId

Shards = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """Parameters of one shard on a peer that is there."""

    peer: PeerId
    age: int
    """Inner steps."""
    round: int | None = None
    """With whose start it lay there; None where that is not known, or steps were trained since."""


Copies = Mapping[str, tuple[Copy, ...]]
"""By shard; a shard without any may be missing."""


class Place(StrEnum):
    """What the peer to which the plan gives a lost stage did by the plan before the loss."""

    SAME = "same"
    """It hosted the stage."""
    SPARE = "spare"
    """It stood by."""
    NEIGHBOUR = "neighbour"
    """It hosts a stage beside it, and keeps that."""
    MEMBER = "member"
    """It hosts another stage of the ring, and keeps that."""
    MOVED = "moved"
    """It hosted another stage, which is given to others."""
    JOINER = "joiner"
    """It was not there."""


@dataclass(frozen=True, slots=True)
class Taker:
    """The peer to which the plan gives a lost stage."""

    peer: PeerId
    place: Place


@dataclass(frozen=True, slots=True)
class LostStage:
    """A stage of a ring that nobody there hosts any more."""

    stage: int
    peer: PeerId
    """Who hosted it last."""
    taker: Taker


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of one ring."""

    stages: tuple[Shards, ...]
    """The shards of each stage; stage 0 has embedding and head besides its blocks."""
    lost: tuple[LostStage, ...]
    hosts: Copies = field(default_factory=dict)
    """Live hosts elsewhere, by their committed state."""
    shadows: Copies = field(default_factory=dict)
    checkpoints: Copies = field(default_factory=dict)
    """On the own disk of who is given a shard."""
    round: int = 0
    """Whose start is to be brought back."""
    partners: Mapping[int, int] = field(default_factory=dict)
    """Stages that have learned each other's role, by either (CheckFree+)."""
    may_skip: bool = True
    """Whether microbatches may pass over stages; the first stage never is."""
    bypass_steps: int = 0
    """Inner steps in which part of them pass over a stage that was interpolated; 0: all visit."""
