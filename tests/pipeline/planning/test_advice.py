"""The bottleneck is the peer that it should be, and what helps is what it lacks."""

from dataclasses import replace

import numpy as np
import pytest

from skerry.pipeline.planning.advice import Limit, bottleneck, remedies, uses
from skerry.pipeline.planning.planner import Budget, make_plan
from skerry.pipeline.planning.problem import Problem

QUICK = Budget(evaluations=200)


def with_links(problem: Problem, bandwidth: float) -> Problem:
    network = replace(
        problem.network, bandwidth_NN=np.full_like(problem.network.bandwidth_NN, bandwidth)
    )
    return replace(problem, network=network)


@pytest.mark.parametrize(
    ("bandwidth", "slots", "limit"),
    [(1e6, 16, Limit.COMPUTE), (60.0, 16, Limit.UPLINK), (1e6, 1, Limit.WAITING)],
)
def test_the_bottleneck_is_named(make_swarm, bandwidth, slots, limit) -> None:
    problem = with_links(make_swarm(3, microbatches=24), bandwidth)
    problem = replace(problem, limits=replace(problem.limits, slots=slots))
    plan = make_plan(problem, QUICK)
    busy = uses(plan, problem)
    found = bottleneck(plan, busy)
    assert found.limit is limit
    assert found.peer in {"p0", "p1", "p2"}
    assert max(use.computing for use in busy.values()) <= 1 + 1e-9


def test_faster_links_help_where_links_are_the_limit(make_swarm) -> None:
    problem = with_links(make_swarm(3, microbatches=24), 60.0)
    plan = make_plan(problem, QUICK)
    found = {one.what: one.gain for one in remedies(plan, problem, uses(plan, problem))}
    assert found["activations take half the bytes"] > 0.5
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert all(gain < 0.2 for what, gain in found.items() if "computes" in what)


def test_a_faster_processor_helps_one_that_is_alone(make_swarm) -> None:
    problem = make_swarm(1, memory=1 << 40)
    plan = make_plan(problem, QUICK)
    found = remedies(plan, problem, uses(plan, problem))
    assert ("p0 computes twice as fast", pytest.approx(1.0)) in [
        (one.what, one.gain) for one in found
    ]
    assert not any("upload" in one.what for one in found)


def test_nothing_is_changed_by_asking(make_swarm) -> None:
    problem = make_swarm(6)
    before = problem.network.bandwidth_NN.copy()
    signs: list[float] = []
    plan = make_plan(problem, QUICK)
    remedies(plan, problem, uses(plan, problem), Budget(watch=signs.append))
    assert np.array_equal(problem.network.bandwidth_NN, before)
    assert signs == sorted(signs)
    assert signs[-1] == 1.0
