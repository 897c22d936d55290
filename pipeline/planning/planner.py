"""From a problem to a plan: depth, stage cuts, rings, annealing, in-flight depth, shadows.

1. Depth candidates: numbers of stages whose largest fits three quarters of the peers.
2. Stage cuts: minimax over blocks, alike for all rings, so that stages can stand in for each other.
3. Full replicas and rings of near peers (layouts.py), every candidate annealed a little.
4. The best candidate annealed with the rest of the budget (annealing.py).
5. For each ring the microbatches in flight that it takes; shadows.

Everything follows from the problem and a seed; the budget counts moves, not seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from skerry.pipeline.planning.annealing import Score, Watch, anneal, part, unwatched
from skerry.pipeline.planning.cuts import minimax_cuts
from skerry.pipeline.planning.draft import RingDraft, Workshop, needed_bytes
from skerry.pipeline.planning.layouts import complete_layout
from skerry.pipeline.planning.moves import Layout
from skerry.pipeline.planning.plan import Blocks, Hop, Member, Path, Plan, Ring
from skerry.pipeline.planning.problem import UNLIMITED, Problem
from skerry.pipeline.planning.shadows import shadows
from skerry.pipeline.planning.simulator import Simulator
from skerry.pipeline.planning.skipping import skipping_layout
from skerry.protocol.errors import ConfigError
from skerry.protocol.manifest import LEAST_SWAPPED

MAX_STAGES = 64
_CANDIDATES = 3
_TRIAL_SHARE = 0.05
"""Part of the budget with which each candidate is tried."""
_ATTEMPTS, _FEW_PEERS = 2, 64
_ENOUGH = 1.01
"""A depth in flight is enough if the largest allowed would gain less than this."""
_WARM_SHARE = 4
"""A search that begins with a running plan takes this part of the moves."""

Trial = tuple[Workshop, Layout]


@dataclass(frozen=True, slots=True)
class Budget:
    """How hard to search."""

    seed: int = 0
    evaluations: int = 0
    """Moves to try; 0: by the number of peers."""
    watch: Watch = unwatched
    """Told how much of the search is done, from 0 to 1."""

    def moves(self, peers: int) -> int:
        """Return how many moves to try: more peers, more moves, within bounds."""
        return self.evaluations or min(max(100 * peers, 5000), 30_000)

    def warm_moves(self, peers: int) -> int:
        """Return how many to try from a running plan."""
        return self.evaluations or self.moves(peers) // _WARM_SHARE

    def attempts(self, peers: int) -> tuple[int, ...]:
        """Return the seeds to try: few peers have many local optima, and are quick to try."""
        return tuple(range(self.seed, self.seed + (_ATTEMPTS if peers <= _FEW_PEERS else 1)))


USUAL = Budget()


def make_plan(problem: Problem, budget: Budget = USUAL, version: int = 1) -> Plan:
    """Return the best plan found. Raises: ConfigError("SK-PLN-001") if there is none."""
    simulator = Simulator(problem)
    trials: list[Trial] = []
    for count in depth_candidates(problem):
        workshop = Workshop(problem, simulator, stage_cuts(problem, count))
        layout = first_layout(workshop)
        if layout.rings:
            trials.append((workshop, layout))
    if not trials:
        raise ConfigError("SK-PLN-001", _shortage(problem))
    workshop, layout = _most_promising(trials, problem, budget)
    moves, seeds = budget.moves(len(problem.peers)), budget.attempts(len(problem.peers))
    found = [
        anneal(layout, Score(workshop), moves // len(seeds), seed, part(budget.watch, i, seeds))
        for i, seed in enumerate(seeds)
    ]
    layout = min(found, key=lambda one: Score(workshop).fill(one.rings))
    return finished(workshop, layout, version)


def first_layout(workshop: Workshop) -> Layout:
    """Return rings of peers near each other; no rings if the peers cannot hold the model."""
    if workshop.skips:
        return skipping_layout(workshop)
    return complete_layout(workshop, range(len(workshop.problem.peers)), [])


def _most_promising(trials: list[Trial], problem: Problem, budget: Budget) -> Trial:
    """Anneal the fastest first layouts a little, and return the one that is fastest then."""
    moves = int(budget.moves(len(problem.peers)) * _TRIAL_SHARE)
    trials = sorted(trials, key=lambda trial: -rate(*trial))[:_CANDIDATES]
    if len(trials) > 1:
        trials = [
            (workshop, anneal(layout, Score(workshop), moves, budget.seed))
            for workshop, layout in trials
        ]
    return max(trials, key=lambda trial: rate(*trial))


def depth_candidates(problem: Problem) -> list[int]:
    """Return the numbers of stages worth trying: from the fewest that fit, in growing steps."""
    if problem.limits.stages:
        return [problem.limits.stages]
    most = min(problem.model.blocks, MAX_STAGES)
    # Fewer stages would be faster, since none of them swap.
    count = max(_fewest_stages(problem), LEAST_SWAPPED if problem.limits.swap_ratio else 1)
    found = []
    while count <= most:
        found.append(count)
        count += max(count // 4, 1)
    return found or [most]


def _fewest_stages(problem: Problem) -> int:
    """Return how many stages let the 25th percentile of the peers hold the largest of them."""
    memories = sorted(peer.memory for peer in problem.peers)
    memory, blocks = memories[len(memories) // 4], problem.model.blocks
    most = min(problem.limits.max_blocks or blocks, blocks)
    if memory != UNLIMITED:
        fitting = (n for n in range(most, 0, -1) if needed_bytes(problem, n, False) <= memory)
        most = next(fitting, 1)
    return -(-blocks // most)


def stage_cuts(problem: Problem, stages: int) -> tuple[Blocks, ...]:
    """Cut the blocks so that the slowest stage of a middling peer is as fast as possible.

    Stage 0 carries the head; it may have no block if that alone is enough to do. It also carries
    embedding and head in memory, which only some peers may have room for.
    """
    blocks = problem.model.blocks
    order = sorted(range(len(problem.peers)), key=problem.forward_s)
    middling = order[len(order) // 2]
    forward, backward = problem.forward_s(middling), problem.backward_s(middling)
    head = problem.model.head_units * forward

    def cost(stage: int, begin: int, end: int) -> float:
        return (end - begin) * (forward + backward) + (head if stage == 0 else 0.0)

    count = min(stages, blocks + 1)
    swaps = problem.limits.swap_ratio > 0
    ends = minimax_cuts(blocks, count, cost, empty_first=count > (LEAST_SWAPPED if swaps else 1))
    begins = (0, *ends[:-1])
    return tuple(Blocks(begin, end) for begin, end in zip(begins, ends, strict=True))


def rate(workshop: Workshop, layout: Layout) -> float:
    """Return microbatches per second; every ring takes as many inner steps as the slowest."""
    slowest = max(map(workshop.step_s, layout.rings))
    return sum(ring.microbatches for ring in layout.rings) / slowest


def finished(workshop: Workshop, layout: Layout, version: int) -> Plan:
    """Write a layout down as a plan."""
    problem = workshop.problem
    names = [peer.name for peer in problem.peers]
    return Plan(
        version=version,
        stages=workshop.cuts,
        rings=tuple(_ring(workshop, ring, names) for ring in layout.rings),
        spares=tuple(sorted(names[peer] for peer in layout.spares)),
        shadows=shadows(workshop, layout.rings, layout.spares),
        microbatch_tokens=problem.traffic.microbatch_tokens,
    )


def _ring(workshop: Workshop, ring: RingDraft, names: Sequence[str]) -> Ring:
    members = tuple(
        Member(names[peer], stages) for peer, stages in zip(ring.members, ring.stages, strict=True)
    )
    paths = tuple(
        Path(tuple(Hop(members[i].peer, stages) for i, stages in ring.hops(path)), path[1])
        for path in ring.paths
    )
    return Ring(members, paths, _in_flight(workshop, ring), workshop.step_s(ring))


def _in_flight(workshop: Workshop, ring: RingDraft) -> int:
    """Return the fewest microbatches in flight that cost hardly any time."""
    most = min(workshop.problem.limits.slots, ring.microbatches)
    enough = workshop.step_s(ring) * _ENOUGH
    for count in range(1, most):
        if workshop.simulator.makespan_s(workshop.scenario(ring, count)) <= enough:
            return count
    return most


def _shortage(problem: Problem) -> str:
    """Say what the model takes and what there is."""
    needed = needed_bytes(problem, problem.model.blocks, True)
    have = [peer.memory for peer in problem.peers]
    total = "unlimited memory" if UNLIMITED in have else f"{sum(have) / 2**30:.1f} GiB"
    return (
        f"the model takes about {needed / 2**30:.1f} GiB in one piece; {len(have)} peers have"
        f" {total} between them, and no ring of them holds all {problem.model.blocks} blocks"
    )
