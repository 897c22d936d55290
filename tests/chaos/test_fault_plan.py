"""Plans of faults are seeded, travel as a line of JSON, and say only what can be."""

from collections import Counter

import pytest
from fault_plan import (
    BURSTS,
    SIMULATED,
    FaultPlan,
    Kind,
    Phase,
    draw_churn,
    draw_plan,
    from_json,
    to_json,
)
from hypothesis import given
from hypothesis import strategies as st

sizes = {"seed": st.integers(0, 2**32), "peers": st.integers(2, 30), "rounds": st.integers(3, 300)}


@given(faults=st.integers(0, 40), **sizes)
def test_a_plan_is_its_line_of_json_and_follows_from_its_seed(faults, seed, peers, rounds):
    plan = draw_plan(seed, peers, rounds, faults)
    assert from_json(to_json(plan)) == plan == draw_plan(seed, peers, rounds, faults)
    assert len(plan.faults) == faults
    check(plan)


@given(per_round=st.floats(0.001, 0.3), away=st.floats(0.5, 10.0), **sizes)
def test_churn_can_be_run_as_any_other_plan(per_round, away, seed, peers, rounds):
    plan = draw_churn(seed, peers, rounds, per_round, away)
    assert from_json(to_json(plan)) == plan
    check(plan)


def check(plan: FaultPlan) -> None:
    at = [fault.round for fault in plan.faults]
    assert at == sorted(at)
    for fault in plan.faults:
        assert 1 <= fault.round <= plan.rounds
        assert 0 < len(set(fault.victims)) == len(fault.victims)
        assert all(0 <= victim < plan.peers for victim in fault.victims)
        assert fault.rounds >= 1


def test_all_kinds_and_phases_are_drawn_and_others_are_not():
    plan = draw_plan(1, 5, 100, 400)
    assert {fault.kind for fault in plan.faults} == set(Kind)
    assert {fault.phase for fault in plan.faults} == set(Phase)
    simulated = draw_plan(1, 5, 100, 200, kinds=SIMULATED)
    assert {fault.kind for fault in simulated.faults} == set(Kind) - {Kind.CLOCK}
    some = draw_plan(1, 5, 100, 40, kinds=[Kind.STOP], phases=[Phase.INNER])
    assert {(fault.kind, fault.phase) for fault in some.faults} == {(Kind.STOP, Phase.INNER)}


@given(st.integers(0, 2**32))
def test_none_comes_again_before_all_have_come_and_nobody_lets_the_owner_in(seed):
    faults = draw_plan(seed, 4, 60, 2 * len(Kind)).faults
    assert {fault.kind for fault in faults[: len(Kind)]} == set(Kind)
    assert {fault.phase for fault in faults[: len(Phase)]} == set(Phase)
    assert all(0 not in fault.victims for fault in faults if fault.phase is Phase.JOIN)


def test_churn_takes_the_share_it_is_told_in_the_bursts_of_the_trace():
    plan = draw_churn(3, 30, 20_000, per_round=0.02, away_rounds=3.0)
    assert plan.failures / (30 * 20_000) == pytest.approx(0.02, rel=0.05)
    found = Counter(len(fault.victims) for fault in plan.faults)
    for size, percent in BURSTS.items():
        assert found[size] / len(plan.faults) == pytest.approx(percent / 100, abs=0.02)
    away = [fault.rounds for fault in plan.faults]
    assert sum(away) / len(away) == pytest.approx(3.0, rel=0.15)


@pytest.mark.parametrize("line", ["{}", "[]", '{"seed": 1, "faults": [{"kind": "sneeze"}]}'])
def test_what_is_no_plan_is_refused(line):
    with pytest.raises((ValueError, KeyError, TypeError)):
        from_json(line)
