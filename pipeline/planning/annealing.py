"""Simulated annealing over drafts, scored by the simulator.

A score is the slowest ring's inner step, a little of the mean (so that other rings improve too),
a fine for each stage whose hosts would all fail together, and, when a running plan is changed, a
fine for each peer that has to fetch another stage. Moves change one or two rings; only these are
simulated. The number of simulations is given, and all chance comes from one seed: the same
problem gives the same plan.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from math import inf, log
from random import Random

from skerry.pipeline.planning.draft import RingDraft, Workshop
from skerry.pipeline.planning.moves import Layout, propose

_MEAN_WEIGHT = 0.05
_CLASH_WEIGHT = 0.5
_HOT, _COLD = 0.03, 0.0003
"""First and last temperature, as shares of the first score."""
_TURNS_PER_SIGN = 64

Watch = Callable[[float], None]
"""Told how much of a search is done, from 0 to 1."""


def unwatched(_done: float) -> None:
    """Watch nothing."""


def part(watch: Watch, place: int, parts: Sized) -> Watch:
    """Return the watch of one of several equal parts of a search."""
    return lambda done: watch((place + done) / len(parts))


@dataclass(slots=True)
class Score:
    """The running figures of a layout, changed ring by ring."""

    workshop: Workshop
    homes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Which stages each peer of a running plan hosts."""
    move_fine_s: float = 0.0
    times: list[float] = field(default_factory=list)
    moved: int = 0
    hosts: dict[int, Counter[str]] = field(default_factory=dict)

    def fill(self, rings: Sequence[RingDraft]) -> float:
        """Begin with these rings."""
        self.times = [0.0] * len(rings)
        self.hosts = {stage: Counter() for stage in range(len(self.workshop.cuts))}
        self.moved = 0
        for place, ring in enumerate(rings):
            self._count(ring, 1)
            self.times[place] = self.workshop.step_s(ring)
        return self.value()

    def replace(self, place: int, old: RingDraft, new: RingDraft, limit_s: float = inf) -> None:
        """Put another ring in a place; its time is infinite if it is above the limit."""
        self._count(old, -1)
        self._count(new, 1)
        self.times[place] = self.workshop.step_s(new, limit_s)

    def value(self) -> float:
        """Return the score; lower is better."""
        slowest, mean = max(self.times), sum(self.times) / len(self.times)
        fines = self.clashes() * _CLASH_WEIGHT * slowest + self.moved * self.move_fine_s
        return slowest + _MEAN_WEIGHT * mean + fines

    def clashes(self) -> int:
        """Count the stages that have several hosts, all of which may vanish at once."""
        return sum(len(own) == 1 and own.total() > 1 for own in self.hosts.values())

    def _count(self, ring: RingDraft, sign: int) -> None:
        for peer, stages in zip(ring.members, ring.stages, strict=True):
            self.moved += sign * _moves(stages, self.homes.get(peer, stages))
            domain = self.workshop.problem.peers[peer].domain
            for stage in stages:
                own = self.hosts[stage]
                own[domain] += sign
                if not own[domain]:
                    del own[domain]


def _moves(stages: tuple[int, ...], home: tuple[int, ...]) -> int:
    """Return how many stages a peer has to fetch; giving one up puts it out of work, too."""
    return len(set(stages) - set(home)) or int(stages != home)


def anneal(
    layout: Layout, score: Score, evaluations: int, seed: int, watch: Watch = unwatched
) -> Layout:
    """Return the best layout found with about so many moves, never worse than the given one."""
    rng = Random(seed)
    now, best = layout.copy(), layout.copy()
    current = lowest = score.fill(now.rings)
    hot = current * _HOT
    for turn in range(evaluations):
        if turn % _TURNS_PER_SIGN == 0:
            watch(turn / evaluations)
        change = propose(now, score.times, score.workshop, rng)
        if change is None:
            continue
        temperature = hot * (_COLD / _HOT) ** (turn / evaluations)
        # Metropolis' rule with chance drawn first: a simulation can stop where it would refuse.
        ceiling = current - temperature * log(1 - rng.random())
        old = {place: now.rings[place] for place in change.rings}
        _apply(now, score, change.rings, ceiling)
        value = score.value()
        if value <= ceiling:
            current = value
            if change.spares is not None:
                now.spares = list(change.spares)
            if current < lowest - 1e-12:
                best, lowest = now.copy(), current
        else:
            _apply(now, score, old)
    return best


def _apply(
    layout: Layout, score: Score, rings: Mapping[int, RingDraft], limit_s: float = inf
) -> None:
    for place, ring in rings.items():
        score.replace(place, layout.rings[place], ring, limit_s)
        layout.rings[place] = ring
