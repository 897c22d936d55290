"""The planner's bench: published times are reproduced, goals are met, and missed ones are told."""

import json
from dataclasses import replace

import pytest

import planner
from planner_bench import published, synthetic
from planner_bench.results import Claims, ScaleResult, to_json
from skerry.pipeline.planning.planner import Budget, make_plan


@pytest.mark.parametrize("schedule", published.schedules(), ids=lambda one: one.name)
def test_published_times_are_reproduced_within_a_percent(schedule) -> None:
    result = planner.reproduced(schedule)
    assert result.passed
    assert result.simulated_s == pytest.approx(schedule.seconds, rel=0.01)
    slower = planner.reproduced(replace(schedule, seconds=1.02 * schedule.seconds))
    assert not slower.passed


def test_only_the_published_cost_model_has_the_published_slip() -> None:
    limits = published.limits_of(3, 0.0)
    slip = published.problem(planner.PUBLISHED, limits).network.bandwidth_NN
    fixed = published.problem(planner.UPLINKS, limits).network.bandwidth_NN
    nl, london = 6, 10
    assert slip[nl, london] == pytest.approx(2.0e6 / 8)
    assert fixed[nl, london] == pytest.approx(2083.1e6 / 8)
    assert (slip != fixed).sum() == 4  # two peers in one of the sites, both ways


@pytest.mark.parametrize("case", planner.CASES)
def test_plans_for_the_published_peers_meet_their_goals(case) -> None:
    costs, slots, skip_ratio, goal_s = planner.CASES[case]
    problem = published.problem(costs, published.limits_of(slots, skip_ratio))
    plan = make_plan(problem, Budget(0))
    assert plan.step_s <= goal_s
    assert sum(ring.microbatches for ring in plan.rings) == published.MICROBATCHES
    assert len(set(plan.visits()[1:])) == 1


def test_a_swarm_is_the_same_at_every_call_and_can_lose_a_peer() -> None:
    swarm = synthetic.swarm(14, 0.0)
    assert swarm.peers == synthetic.swarm(14, 0.0).peers
    smaller = planner.without(swarm, swarm.peers[3].name)
    assert len(smaller.peers) == 13
    assert smaller.network.latency_NN.shape == (13, 13)


def test_every_result_is_a_line_and_a_row() -> None:
    scale = ScaleResult(
        peers=1000,
        skip_ratio=0.0,
        stages=8,
        rings=190,
        spares=2,
        text_tokens_s=12345.6,
        planning_cpu_s=61.0,
        planning_wall_s=70.0,
        replanning_cpu_s=4.0,
        goal_s=60.0,
        passed=False,
    )
    reproduction = planner.reproduced(published.schedules()[0])
    text = planner.page([reproduction, scale, Claims(compiling_cpu_s=0.5, passed=False)], 1.0)
    assert "**A goal is missed.**" in text
    assert "| full_pipeline | 79.94 s | 79.94 s | -0.004% |" in text
    assert "| 1,000 | 0% | 8 | 190 | 2 | 12,346 | **61.0 s** | 60 s | 70.0 s | 4.0 s |" in text
    assert json.loads(to_json(scale))["kind"] == "scale"
