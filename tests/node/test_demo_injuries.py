"""Which failures a seed draws, and what is missing of them in the end."""

import pytest

from skerry.node.demo_injuries import Kind, Recovery, drawn_script, missing_kinds


@pytest.mark.parametrize("seed", range(20))
def test_every_seed_draws_every_failure_once_and_a_stage_while_the_coordinator_is_away(seed):
    script = drawn_script(seed)
    assert sorted(script) == sorted(Kind)
    assert script.index(Kind.STAGE) == script.index(Kind.COORDINATOR) + 1
    assert drawn_script(seed) == script


def test_seeds_differ():
    assert len({drawn_script(seed) for seed in range(20)}) > 5


def test_what_was_not_recovered_from_is_named():
    done = [Recovery(kind, (), (), "copy", 1.0, 2.0, 2.0) for kind in Kind]
    assert missing_kinds(done) == []
    assert missing_kinds(done[1:]) == ["nothing recovered from the failure of a peer"]
