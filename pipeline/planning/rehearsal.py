"""A plan played as a whole, undisturbed or while peers come and go.

Unlike the planner, which simulates ring by ring, this lets a host of the same stages in another
ring stand in for one that is down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from skerry.pipeline.planning.plan import Plan, Ring
from skerry.pipeline.planning.problem import Problem
from skerry.pipeline.planning.router import drawn_order
from skerry.pipeline.planning.simulator import Change, Outcome, Route, Scenario, Simulator, Stop

_WHEN = 1 / 3
"""Part of a step after which a peer is lost: the pipeline is full by then."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What it costs when a peer is lost in the middle of an inner step."""

    peer: str
    step_s: float
    """Of the step in which it is lost; infinite if the step cannot end without the peer."""
    redone: int
    """Microbatches that start again."""


def rehearse(plan: Plan, problem: Problem, changes: Sequence[Change] = ()) -> Outcome:
    """Play one inner step of all rings; ``changes`` name peers by their place in the problem."""
    return Simulator(problem).play(scenario_of(plan, problem, changes))


def loss_of(plan: Plan, problem: Problem, peer: str) -> Loss:
    """Return what it costs to lose a peer for good after a third of a step."""
    gone = Change(plan.step_s * _WHEN, _places(problem)[peer], up=False)
    outcome = rehearse(plan, problem, [gone])
    step_s = outcome.makespan_s if all(outcome.done_s) else inf
    return Loss(peer, step_s, sum(map(bool, outcome.retries)))


def scenario_of(plan: Plan, problem: Problem, changes: Sequence[Change]) -> Scenario:
    """Return one inner step of all rings together."""
    kinds = _kinds(plan)
    places = _places(problem)
    routes = tuple(
        Route(
            tuple(
                Stop(places[hop.peer], plan.blocks_of(hop.stages), kinds[hop.stages])
                for hop in path.hops
            ),
            problem.model.head_units,
        )
        for ring in plan.rings
        for path in ring.paths
    )
    counts = tuple(path.microbatches for ring in plan.rings for path in ring.paths)
    hosts = tuple(tuple(places[peer] for peer in _hosts(plan.rings, stages)) for stages in kinds)
    return Scenario(routes, drawn_order(counts), problem.limits.slots, tuple(changes), hosts)


def _kinds(plan: Plan) -> dict[tuple[int, ...], int]:
    """Number the different sets of stages that hops compute."""
    hops = (hop.stages for ring in plan.rings for path in ring.paths for hop in path.hops)
    return {stages: kind for kind, stages in enumerate(dict.fromkeys(hops))}


def _hosts(rings: Sequence[Ring], stages: tuple[int, ...]) -> list[str]:
    return [
        member.peer
        for ring in rings
        for member in ring.members
        if stages and set(stages) <= set(member.stages)
    ]


def _places(problem: Problem) -> dict[str, int]:
    return {peer.name: place for place, peer in enumerate(problem.peers)}
