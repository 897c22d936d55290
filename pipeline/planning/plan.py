"""A plan: who hosts which blocks, and by which paths microbatches travel. Plain data.

Imports neither torch nor numpy; the node reads, signs and follows plans. Peers are named, stages
counted from 0; a stage is a range of blocks. Stage 0 comes with the embedding, the head and the
loss, and belongs to the **origin** of a ring, its first member. A ring of one member is a full
replica on one peer.
"""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a peer does in a plan."""

    REPLICA = "replica"
    STAGE = "stage"
    SPARE = "spare"


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of one stage: from ``start`` to before ``stop``."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Member:
    """One peer of a ring, and the stages it hosts, ascending."""

    peer: str
    stages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hop:
    """One stop of a path: which stages a peer computes there; none: only the embedding."""

    peer: str
    stages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """The hops of a microbatch, the origin first (it also ends there), and how many take it."""

    hops: tuple[Hop, ...]
    microbatches: int


@dataclass(frozen=True, slots=True)
class Ring:
    """Peers that train together, and how fast that is expected to be."""

    members: tuple[Member, ...]
    paths: tuple[Path, ...]
    in_flight: int
    """Microbatches under way at a time; more would gain nothing or do not fit."""
    step_s: float
    """Expected seconds of one inner step."""

    @property
    def origin(self) -> str:
        """The peer that hosts embedding, head and loss."""
        return self.members[0].peer

    @property
    def microbatches(self) -> int:
        """Of one inner step."""
        return sum(path.microbatches for path in self.paths)

    @property
    def is_replica(self) -> bool:
        """Whether one peer hosts the whole model."""
        return len(self.members) == 1


@dataclass(frozen=True, slots=True)
class Shadow:
    """Who keeps a stale copy of a stage, and from whom it comes."""

    stage: int
    source: str
    holder: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What every peer does; ``version`` grows with every plan of a run."""

    version: int
    stages: tuple[Blocks, ...]
    rings: tuple[Ring, ...]
    spares: tuple[str, ...]
    shadows: tuple[Shadow, ...]
    microbatch_tokens: int

    @property
    def step_s(self) -> float:
        """Expected seconds of the slowest ring's inner step."""
        return max((ring.step_s for ring in self.rings), default=0.0)

    @property
    def text_tokens_s(self) -> float:
        """Expected text tokens per second: between two exchanges all rings take as many steps."""
        tokens = self.microbatch_tokens * sum(ring.microbatches for ring in self.rings)
        return tokens / self.step_s if tokens else 0.0

    def blocks_of(self, stages: tuple[int, ...]) -> int:
        """Return how many blocks some stages have together."""
        return sum(self.stages[stage].stop - self.stages[stage].start for stage in stages)

    def role_of(self, peer: str) -> Role:
        """Return what a peer does. Raises: KeyError if the plan does not know it."""
        for ring in self.rings:
            if any(member.peer == peer for member in ring.members):
                return Role.REPLICA if ring.is_replica else Role.STAGE
        if peer in self.spares:
            return Role.SPARE
        raise KeyError(peer)

    def visits(self) -> tuple[int, ...]:
        """Return how many microbatches of an inner step visit each stage."""
        counts = [0] * len(self.stages)
        for ring in self.rings:
            for path in ring.paths:
                for stage in (stage for hop in path.hops for stage in hop.stages):
                    counts[stage] += path.microbatches
        return tuple(counts)


def skipped(stages: int, ratio: float) -> int:
    """Return how many stages a microbatch skips, at most all but the first and one more."""
    return min(round(stages * ratio), max(stages - 2, 0))
