"""Which microbatches pass over a stage that was made up and has to train back in. Pure.

A stage made from its neighbours disturbs every microbatch that visits it, and with it the gradients
of all other stages. So at first only some visit it; they give it gradients of its own, divided by
the text tokens that visited (stages/optimizer.py), while the others train the rest of the model
without it. The share of visitors rises linearly until all visit.

Source: none of CheckFree; SkipPipe (arXiv:2502.19913) trains paths that skip stages.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bypass:
    """How a stage is trained back in."""

    first: float = 0.5
    """Share of the microbatches that pass over it in the first step, below 1."""
    steps: int = 20
    """Inner steps until all visit it; 0: all do at once."""

    def __post_init__(self) -> None:
        """Refuse settings under which a stage would never be trained."""
        if not 0 <= self.first < 1 or self.steps < 0:
            raise ValueError(f"a bypass of {self.first} for {self.steps} steps")

    def passing(self, age: int, microbatches: int) -> frozenset[int]:
        """Return which of a step's microbatches pass over the stage; at least one visits it.

        They are spread evenly, and in another place each step.

        Args:
            age: inner steps since the stage was made.
        """
        if age >= self.steps:
            return frozenset()
        share = self.first * (1 - age / self.steps)
        count = min(round(share * microbatches), microbatches - 1)
        return frozenset((age + i * microbatches // count) % microbatches for i in range(count))


def routes_around(
    orders: Sequence[Sequence[int]], passing: Mapping[int, Collection[int]]
) -> list[tuple[int, ...]]:
    """Return each microbatch's order of stages without those that it passes over.

    Args:
        orders: of each microbatch, the stages as it would visit them all.
        passing: by stage, the microbatches that pass over it.
    """
    return [
        tuple(stage for stage in order if number not in passing.get(stage, ()))
        for number, order in enumerate(orders)
    ]
