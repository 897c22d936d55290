"""A whole plan played, with and without losses."""

from math import inf

import pytest

from skerry.pipeline.planning.planner import Budget, make_plan
from skerry.pipeline.planning.rehearsal import loss_of, rehearse
from skerry.pipeline.planning.simulator import Change

QUICK = Budget(evaluations=100)


def test_undisturbed_a_plan_takes_the_time_it_says(make_swarm) -> None:
    problem = make_swarm(6)
    plan = make_plan(problem, QUICK)
    outcome = rehearse(plan, problem)
    assert outcome.makespan_s == pytest.approx(plan.step_s)
    assert not any(outcome.retries)


def test_another_ring_stands_in_for_a_lost_body_peer(make_swarm) -> None:
    problem = make_swarm(6)
    plan = make_plan(problem, QUICK)
    assert len(plan.rings) == 2
    lost = plan.rings[0].members[1].peer
    loss = loss_of(plan, problem, lost)
    assert plan.step_s < loss.step_s < inf
    assert loss.redone > 0


def test_a_step_cannot_end_without_an_origin_nor_without_the_only_host(make_swarm) -> None:
    problem = make_swarm(3)
    plan = make_plan(problem, QUICK)
    (ring,) = plan.rings
    assert loss_of(plan, problem, ring.origin).step_s == inf
    assert loss_of(plan, problem, ring.members[1].peer).step_s == inf


def test_a_peer_that_comes_back_lets_the_step_end(make_swarm) -> None:
    problem = make_swarm(3)
    plan = make_plan(problem, QUICK)
    place = [peer.name for peer in problem.peers].index(plan.rings[0].members[1].peer)
    changes = [Change(1.0, place, up=False), Change(9.0, place, up=True)]
    outcome = rehearse(plan, problem, changes)
    assert all(outcome.done_s)
    assert sum(outcome.retries) > 0
