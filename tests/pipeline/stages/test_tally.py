"""What gradients are made of: each microbatch once, the oldest debts first."""

import pytest
import torch
from torch import nn

from skerry.pipeline.stages.deferral import Whole
from skerry.pipeline.stages.tally import Tally
from skerry.pipeline.stages.tasks import Place


@pytest.fixture
def vector() -> nn.Parameter:
    return nn.Parameter(torch.zeros(4))


def owe(tally: Tally, vector: nn.Parameter, microbatch: int, attempt: int = 0) -> Place:
    place = Place(microbatch, attempt, 1)
    wanted = tally.lacking(["block.0"], microbatch)
    tally.owe(wanted, place, 7, [Whole(vector, torch.full((4,), 10.0**microbatch))])
    return place


def test_a_shard_counts_a_microbatch_once_and_when_it_is_paid(vector):
    tally = Tally(["block.0", "block.1"], limit_bytes=1000)
    assert tally.lacking(["block.0", "block.1"], 3) == {"block.0", "block.1"}
    place = owe(tally, vector, 3)
    assert tally.lacking(["block.0", "block.1"], 3) == {"block.1"}, "it is owed"
    assert (tally.of("block.0").text_tokens, tally.kept_bytes) == (0, 16)
    assert vector.grad is None
    tally.pay(place)
    tally.pay(place)
    assert tally.lacking(["block.0", "block.1"], 3) == {"block.1"}, "it is counted"
    assert (tally.of("block.0").text_tokens, tally.kept_bytes) == (7, 0)
    assert vector.grad.tolist() == [1000.0] * 4
    tally.pay(owe(tally, vector, 3, attempt=1))
    assert vector.grad.tolist() == [1000.0] * 4


def test_what_is_dropped_is_owed_no_more(vector):
    tally = Tally(["block.0"], limit_bytes=1000)
    tally.drop(owe(tally, vector, 0))
    owe(tally, vector, 1)
    owe(tally, vector, 2)
    tally.drop_older(Place(1, 1, 5))
    assert tally.lacking(["block.0"], 0) == tally.lacking(["block.0"], 1) == {"block.0"}
    tally.pay_all(None)
    assert vector.grad.tolist() == [100.0] * 4
    assert tally.of("block.0").microbatches == {2}


def test_the_oldest_are_paid_when_there_is_no_more_room(vector):
    tally = Tally(["block.0"], limit_bytes=40)
    for microbatch in range(4):
        owe(tally, vector, microbatch)
        assert tally.kept_bytes <= 40
    assert vector.grad.tolist() == [11.0] * 4, "microbatches 0 and 1"
    tally.pay_all([3])
    assert vector.grad.tolist() == [1011.0] * 4
    tally.pay_all(None)
    assert (vector.grad.tolist(), tally.kept_bytes) == ([1111.0] * 4, 0)


def test_without_room_debts_are_paid_at_once(vector):
    tally = Tally(["block.0"], limit_bytes=0)
    owe(tally, vector, 0)
    assert (vector.grad.tolist(), tally.kept_bytes) == ([1.0] * 4, 0)


def test_another_step_owes_nothing(vector):
    tally = Tally(["block.0"], limit_bytes=100)
    owe(tally, vector, 0)
    tally.clear()
    tally.pay_all(None)
    assert vector.grad is None
    assert tally.of("block.0").microbatches == set()
