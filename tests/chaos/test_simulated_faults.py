"""Fault plans in the simulated swarm: every kind, every phase, and the churn of a spot market."""

import pytest
from churn import Segment, read, run_segment, summary
from fault_plan import SIMULATED, Fault, FaultPlan, Kind, Phase, draw_plan
from simulated_faults import run_plan


def only(kind: Kind, phase: Phase, *victims: int) -> FaultPlan:
    """One fault in the second of five rounds of four peers."""
    fault = Fault(kind, 2, phase, victims or (1,), rounds=1, amount=0.5)
    return FaultPlan(seed=1, peers=4, rounds=5, faults=(fault,))


@pytest.mark.parametrize("kind", SIMULATED)
def test_every_kind_of_fault_is_survived_in_every_phase(kind):
    for phase in Phase:
        assert run_plan(only(kind, phase)).failures == 1


def test_two_peers_are_always_left():
    assert run_plan(only(Kind.KILL, Phase.INNER, 0, 1, 2, 3)).failures == 2


@pytest.mark.parametrize("seed", range(4))
def test_many_faults_of_all_kinds(seed):
    plan = draw_plan(seed, 5, 14, 12, kinds=SIMULATED)
    outcome = run_plan(plan)
    assert outcome.failures >= 6
    if not seed:
        assert run_plan(plan) == outcome


def test_a_kill_costs_text_tokens_and_none_is_counted_twice():
    calm = run_plan(FaultPlan(1, 4, 5, ()))
    killed = run_plan(only(Kind.KILL, Phase.INNER))
    assert calm.failures == 0
    assert killed.text_tokens < calm.text_tokens


def test_the_soak_says_how_much_was_trained_of_what_could_be(tmp_path):
    segment = run_segment(seed=1, peers=4, rounds=20)
    assert segment.failures
    assert 0.5 < segment.goodput < 1.1
    other = Segment(3, 4, 10, failures=0, goodput=1.0)
    found = summary([segment, other])
    assert (found["rounds"], found["failures"]) == (30, segment.failures)
    assert found["worst"] == pytest.approx(segment.goodput, abs=1e-4)
    file = tmp_path / "churn.jsonl"
    line = '{"seed": 2, "peers": 4, "rounds": 30, "failures": 1, "goodput": 0.9}'
    file.write_text(line + "\n" + line[:20])
    assert read(file) == [Segment(2, 4, 30, 1, 0.9)]
