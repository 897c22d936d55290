"""What is left after stages were lost: the facts from which healing is planned. Plain data.

Ages count inner steps since the copy was all that was known of the shard; a live host's committed
parameters are of the round's start, which is the newest that anyone can verify.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.protocol.ids import PeerId

Shards = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """Parameters of one shard on a peer that is there."""

    peer: PeerId
    age: int
    """Inner steps."""


Copies = Mapping[str, tuple[Copy, ...]]
"""By shard; a shard without any may be missing."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer that is there and might take over a stage."""

    peer: PeerId
    stages: tuple[int, ...]
    """Hosted already, ascending; none: it stands by."""
    free_bytes: int
    """Of memory, for stages that it might take over."""
    load: float
    """Seconds that an inner step keeps it busy."""
    domain: str = ""
    """What fails together; "" where that is not known."""


@dataclass(frozen=True, slots=True)
class LostStage:
    """A stage of a ring that nobody there hosts any more."""

    stage: int
    peer: PeerId
    """Who hosted it last."""
    needed_bytes: int
    """Of memory, for whoever takes it over."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of one ring and of those who could help it."""

    stages: tuple[Shards, ...]
    """The shards of each stage; stage 0 has embedding and head besides its blocks."""
    lost: tuple[LostStage, ...]
    candidates: tuple[Candidate, ...]
    """Members of the ring that are left, and those that stand by."""
    hosts: Copies = field(default_factory=dict)
    """Live hosts elsewhere, by their committed state."""
    shadows: Copies = field(default_factory=dict)
    checkpoints: Copies = field(default_factory=dict)
    partners: Mapping[int, int] = field(default_factory=dict)
    """Stages that have learned each other's role, by either (CheckFree+)."""
    may_skip: bool = True
    """Whether microbatches may pass over stages; the first stage never is."""
    bypass_steps: int = 0
    """Inner steps in which part of them pass over a stage that was interpolated; 0: all visit."""
