"""What a healing plan makes of other stages, as tensors."""

import pytest
import torch
from surveys import PEERS, copies, survey

from skerry.recovery.healing import plan_healing
from skerry.recovery.neighbours import Neighbour
from skerry.recovery.rebuilding import rebuilt
from skerry.recovery.survey import Survey


def stages(*numbers: int) -> dict[int, Neighbour]:
    """Stages of two blocks; the parameters of stage s are 2 s and 2 s + 1, its norm is s + 1."""
    return {
        s: Neighbour([torch.full((3,), 2.0 * s), torch.full((3,), 2.0 * s + 1)], s + 1.0)
        for s in numbers
    }


def values(found: Survey, *there: int, exponent: int = 1) -> dict[str, float]:
    return {
        shard: round(float(flat[0]), 4)
        for healing in plan_healing(found)
        for shard, flat in rebuilt(healing, stages(*there), exponent).items()
    }


def test_a_stage_in_the_middle_is_the_weighted_average():
    # norms 2 and 4: a third of stage 1, two thirds of stage 3
    assert values(survey(2), 1, 3) == {"block.4": 4.6667, "block.5": 5.6667}
    assert values(survey(2), 1, 3, exponent=2) == {"block.4": 5.2, "block.5": 6.2}


def test_ends_are_copied_and_other_shards_left_to_their_own_rungs():
    assert values(survey(4), 3) == {"block.8": 6.0, "block.9": 7.0}
    assert values(survey(0, shadows=copies(("embed", "head"), PEERS[0])), 1) == {
        "block.0": 2.0,
        "block.1": 3.0,
    }


def test_stages_side_by_side_follow_their_depth():
    found = values(survey(1, 2, 3), 0, 4)
    assert found == {f"block.{i}": float(i) for i in range(2, 8)}
    assert values(survey(3, 4), 2) == {
        "block.6": 4.0,
        "block.7": 5.0,
        "block.8": 4.0,
        "block.9": 5.0,
    }


def test_only_what_no_copy_is_left_of_is_made():
    assert values(survey(2, shadows=copies(("block.4",), PEERS[0])), 1, 3) == {"block.5": 5.6667}
    assert values(survey(2, hosts=copies(("block.4", "block.5"), PEERS[0]))) == {}
    with pytest.raises(KeyError):
        values(survey(2), 1)
