"""One seeded plan of faults, in the simulated swarm and against real daemons.

CHAOS_SEED chooses other faults: CHAOS_SEED=7 pytest -m chaos tests/chaos/test_chaos.py
"""

import os
from pathlib import Path

import pytest
import real_faults
import simulated_faults
from fault_plan import SIMULATED, draw_plan, to_json

pytestmark = pytest.mark.chaos

PEERS, ROUNDS, FAULTS = 4, 24, 7


def test_the_living_end_with_one_state(tmp_path: Path) -> None:
    """Whatever happens; and each text token is counted once."""
    plan = draw_plan(int(os.environ.get("CHAOS_SEED", "1")), PEERS, ROUNDS, FAULTS, SIMULATED)
    print(to_json(plan))
    assert simulated_faults.run_plan(plan).failures
    outcome = real_faults.run_plan(plan, tmp_path, print)
    assert outcome.failures + len(outcome.skipped) >= FAULTS
    assert outcome.failures > len(outcome.skipped)
