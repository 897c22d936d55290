"""One seeded plan of faults, in the simulated swarm and against real daemons.

CHAOS_SEED chooses other faults: CHAOS_SEED=7 pytest -m chaos tests/chaos/test_chaos.py
"""

import os
from pathlib import Path

import pytest
import real_faults
import simulated_faults
from approach import BROUGHT
from fault_plan import FaultPlan, Kind, draw_plan, to_json
from tally import Tally

pytestmark = pytest.mark.chaos

PEERS, ROUNDS = 4, 25
FAULTS = len(BROUGHT)
WRONG_CLOCK = Kind.CLOCK


def plan_of(seed: int) -> FaultPlan:
    """Draw a fault in each phase that a peer has to be brought into.

    One of them is a wrong clock, which only real daemons have.
    """
    numbers = range(seed * 1000, 10**9)
    drawn = (draw_plan(number, PEERS, ROUNDS, FAULTS, phases=BROUGHT) for number in numbers)
    return next(plan for plan in drawn if WRONG_CLOCK in {fault.kind for fault in plan.faults})


def test_the_living_end_with_one_state(tmp_path: Path) -> None:
    """Whatever happens; and each text token is counted once."""
    plan = plan_of(int(os.environ.get("CHAOS_SEED", "1")))
    print(to_json(plan))
    simulated = simulated_faults.run_plan(plan).tally
    check(simulated, missed=1)
    real = real_faults.run_plan(plan, tmp_path, print).tally
    print(real.fields())
    check(real, missed=1)


def check(tally: Tally, missed: int) -> None:
    """Check that each fault is accounted for, and that nearly all have seen their phases."""
    hits = sum(tally.hits.values())
    assert hits + len(tally.elsewhere) + len(tally.skipped) == FAULTS
    assert hits >= FAULTS - missed, tally.fields()
    assert len(set(BROUGHT) & set(tally.phases())) >= 2, tally.fields()
