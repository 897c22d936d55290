"""A plan being made: peers and stages as numbers, and what each ring is worth.

Rings share no peer, so that each is simulated alone and remembered.
"""

from dataclasses import dataclass
from itertools import groupby
from math import inf

from skerry.pipeline.capacity import (
    BYTES_PER_PARAMETER,
    EXCHANGE_BYTES,
    FLOAT_BYTES,
    GRADIENT_BYTES,
)
from skerry.pipeline.planning.plan import Blocks, skipped
from skerry.pipeline.planning.problem import UNLIMITED, Problem
from skerry.pipeline.planning.router import drawn_order
from skerry.pipeline.planning.simulator import Route, Scenario, Simulator, Stop

StagePath = tuple[tuple[int, ...], int]
"""The stages of a path in the order of visiting, and how many microbatches take it."""


@dataclass(frozen=True, slots=True)
class RingDraft:
    """One ring: who, the origin first; which stages each hosts; the paths."""

    members: tuple[int, ...]
    stages: tuple[tuple[int, ...], ...]
    paths: tuple[StagePath, ...]

    @property
    def microbatches(self) -> int:
        """Of one inner step."""
        return sum(count for _, count in self.paths)

    def hops(self, path: StagePath) -> list[tuple[int, tuple[int, ...]]]:
        """Return (member's place, stages) of each hop, the origin first; adjacent ones merged."""
        place_of = {stage: place for place, own in enumerate(self.stages) for stage in own}
        grouped = groupby(path[0], key=place_of.__getitem__)
        found = [(place, tuple(stages)) for place, stages in grouped]
        return found if found[0][0] == 0 else [(0, ()), *found]


class Workshop:
    """What drafts of one problem and one set of stage cuts are measured with."""

    def __init__(self, problem: Problem, simulator: Simulator, cuts: tuple[Blocks, ...]) -> None:
        """Remember nothing yet."""
        self.problem = problem
        self.simulator = simulator
        self.cuts = cuts
        self.skips = skipped(len(cuts), problem.limits.skip_ratio)
        """Stages that each microbatch skips."""
        self._known: dict[RingDraft, float] = {}
        self._blocks: dict[tuple[int, ...], int] = {}

    def step_s(self, ring: RingDraft, limit_s: float = inf) -> float:
        """Return the seconds of one inner step, simulated to its end at most once for each draft.

        Infinity if that is not known yet and turns out to be longer than the limit.
        """
        known = self._known.get(ring)
        if known is None:
            scenario = self.scenario(ring, self.problem.limits.slots)
            known = self.simulator.makespan_s(scenario, limit_s)
            if known < inf:
                self._known[ring] = known
        return known

    def scenario(self, ring: RingDraft, slots: int) -> Scenario:
        """Return one inner step of a ring alone."""
        head = self.problem.model.head_units
        routes = tuple(
            Route(
                tuple(
                    Stop(ring.members[place], self.blocks(stages))
                    for place, stages in ring.hops(path)
                ),
                head,
            )
            for path in ring.paths
        )
        return Scenario(routes, drawn_order(tuple(count for _, count in ring.paths)), slots)

    def units(self, stage: int) -> int:
        """Return how many blocks a stage has."""
        return self.cuts[stage].stop - self.cuts[stage].start

    def blocks(self, stages: tuple[int, ...]) -> int:
        """Return how many blocks some stages have together."""
        known = self._blocks.get(stages)
        if known is None:
            known = self._blocks[stages] = sum(map(self.units, stages))
        return known

    def room(self, peer: int) -> int:
        """Return how many stages after the first a peer may host at most."""
        counts = range(len(self.cuts) - 1, 0, -1)
        return next((n for n in counts if self.fits(peer, tuple(range(1, n + 1)))), 0)

    def fits(self, peer: int, stages: tuple[int, ...]) -> bool:
        """Say whether a peer may host stages: by its memory, and by the limit of blocks."""
        blocks = self.blocks(stages)
        most = self.problem.limits.max_blocks
        if most and blocks > most:
            return False
        memory = self.problem.peers[peer].memory
        return memory == UNLIMITED or needed_bytes(self.problem, blocks, 0 in stages) <= memory

    def seconds(self, peer: int, stages: tuple[int, ...]) -> float:
        """Return what a peer computes for one microbatch that visits all these stages."""
        forward, backward = self.problem.forward_s(peer), self.problem.backward_s(peer)
        head = self.problem.model.head_units * forward if 0 in stages else 0.0
        return self.blocks(stages) * (forward + backward) + head


def needed_bytes(problem: Problem, blocks: int, is_origin: bool) -> int:
    """Return the memory that blocks take on one peer, with embedding and head on an origin.

    Parameters with their state, and what takes more of training and exchange. Training keeps
    gradients, the input of every microbatch under way, and the activations of one, recomputed for
    its backward; an exchange works on one shard (capacity.py).
    """
    model, tokens = problem.model, problem.traffic.microbatch_tokens
    params, shard = blocks * model.block_params, model.block_params
    activations = blocks * model.block_activation_bytes
    if is_origin:
        params += model.embed_params + model.head_params
        shard = max(shard, model.embed_params, model.head_params)
        activations += model.head_activation_bytes
    inputs = problem.limits.slots * tokens * model.width * FLOAT_BYTES
    training = params * GRADIENT_BYTES + inputs + tokens * activations
    return params * BYTES_PER_PARAMETER + max(training, shard * EXCHANGE_BYTES)
