"""Fault plans in the simulated swarm: every kind, every phase, and the churn of a spot market."""

import pytest
import simulated_faults
from approach import BROUGHT
from churn import Segment, read, run_segment, summary
from course import OWNER
from fault_plan import SIMULATED, Fault, FaultPlan, Kind, Phase, draw_plan
from simulated_faults import Outcome, run_plan

REPLAY = 1
"""Of a few rounds, so that missing more than can be replayed takes few."""


def only(kind: Kind, phase: Phase, *victims: int, rounds: int = 5) -> FaultPlan:
    """One fault in the second of a few rounds of four peers."""
    fault = Fault(kind, 2, phase, victims or (1,), rounds=1, amount=0.5)
    return FaultPlan(seed=1, peers=4, rounds=rounds, faults=(fault,))


def run(kind: Kind, phase: Phase) -> Outcome:
    """Run one fault, in as many rounds as it takes to be brought about and survived."""
    if phase is Phase.TRANSFER:
        return run_plan(only(kind, phase, rounds=8), REPLAY)
    return run_plan(only(kind, phase))


@pytest.mark.parametrize("kind", SIMULATED)
def test_every_kind_of_fault_strikes_in_every_phase_and_is_survived(kind):
    for phase in Phase:
        tally = run(kind, phase).tally
        assert tally.hits == {(kind, phase): 1}, f"{phase}: {tally.fields()}"
        assert (tally.failures, tally.elsewhere, tally.skipped) == (1, [], [])


@pytest.mark.parametrize("phase", BROUGHT)
def test_a_phase_that_no_victim_is_seen_in_is_not_hit(phase, monkeypatch):
    """Whoever has passed through it three times is struck elsewhere, and that is told."""
    monkeypatch.setattr(simulated_faults.SimulatedVictim, "is_in", lambda self, phase: False)
    tally = run_plan(only(Kind.STOP, phase, rounds=24), REPLAY).tally
    assert not tally.hits
    assert [one.split(":")[0] for one in tally.elsewhere] == [f"stop in {phase}"]


def test_what_cannot_be_brought_about_is_told():
    nobody = run_plan(only(Kind.KILL, Phase.JOIN, OWNER)).tally
    assert nobody.skipped == ["kill in join: nobody can let the owner in"]
    clock = run_plan(only(Kind.CLOCK, Phase.INNER)).tally
    assert clock.skipped == ["clock in inner: there is no time of day"]
    late = run_plan(only(Kind.KILL, Phase.TRANSFER)).tally
    assert late.skipped == ["kill in transfer: the run was over"]
    assert not nobody.failures + clock.failures + late.failures


def test_two_peers_are_always_left():
    outcome = run_plan(only(Kind.PARTITION, Phase.INNER, 0, 1, 2, 3))
    assert outcome.failures == 2
    assert run_plan(only(Kind.KILL, Phase.INNER, 0, 1, 2, 3)).failures == 2


@pytest.mark.parametrize("seed", range(4))
def test_many_faults_of_all_kinds_hit_their_phases(seed):
    plan = draw_plan(seed, 5, 40, 10, kinds=SIMULATED)
    outcome = run_plan(plan)
    tally = outcome.tally
    assert sum(tally.hits.values()) + len(tally.elsewhere) + len(tally.skipped) == 10
    assert sum(tally.hits.values()) >= 8
    assert set(tally.phases()) >= set(BROUGHT)
    if not seed:
        assert run_plan(plan) == outcome


def test_a_kill_costs_text_tokens_and_none_is_counted_twice():
    calm = run_plan(FaultPlan(1, 4, 5, ()))
    killed = run_plan(only(Kind.KILL, Phase.INNER))
    assert calm.failures == 0
    assert killed.text_tokens < calm.text_tokens


def test_the_soak_says_how_much_was_trained_of_what_could_be(tmp_path):
    segment = run_segment(seed=3, peers=6, rounds=40)
    assert segment.failures > 10
    assert 0.85 <= segment.goodput < 1.1
    other = Segment(3, 4, 10, failures=0, goodput=1.0)
    found = summary([segment, other])
    assert (found["rounds"], found["failures"]) == (50, segment.failures)
    assert found["worst"] == pytest.approx(segment.goodput, abs=1e-4)
    file = tmp_path / "churn.jsonl"
    line = '{"seed": 2, "peers": 4, "rounds": 30, "failures": 1, "goodput": 0.9}'
    file.write_text(line + "\n" + line[:20])
    assert read(file) == [Segment(2, 4, 30, 1, 0.9)]
