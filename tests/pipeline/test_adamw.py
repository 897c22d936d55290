"""The learning rate's schedule, and what AdamW does with parameters that have no gradient."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from skerry.pipeline.adamw import AdamW, learning_rate
from skerry.protocol.manifest import InnerSection

SECTION = InnerSection(
    lr=0.01, min_lr_ratio=0.1, warmup_steps=10, decay_steps=110, steps=4, clip=0.5, weight_decay=0.3
)


def test_the_learning_rate_rises_then_falls_to_its_floor():
    rates = [learning_rate(SECTION, number, steps_taken=number) for number in range(200)]
    assert rates[:2] == [pytest.approx(0.001), pytest.approx(0.002)], "warm-up decides alone"
    assert rates[9] == rates[10] == max(rates) == pytest.approx(0.01)
    assert all(earlier > later for earlier, later in pairwise(rates[10:111]))
    assert rates[60] == pytest.approx(0.0055), "half-way between lr and its floor"
    assert rates[110:] == [pytest.approx(0.001)] * 90


def test_no_warm_up_and_an_early_end_of_the_decay_are_allowed():
    section = InnerSection(lr=0.01, warmup_steps=0, decay_steps=1, min_lr_ratio=0.0)
    assert [learning_rate(section, number, 0) for number in (0, 1, 2)] == [0.01, 0.0, 0.0]
    late = InnerSection(lr=0.01, warmup_steps=5, decay_steps=2, min_lr_ratio=0.5)
    assert learning_rate(late, 6, 99) == pytest.approx(0.005)


@pytest.mark.parametrize("number", [50, 150])
def test_fresh_moments_ramp_up_within_one_round(number):
    usual = learning_rate(SECTION, number, steps_taken=1000)
    shares = [learning_rate(SECTION, number, taken) / usual for taken in range(6)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def test_a_step_tells_the_norm_before_it_was_clipped():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    update = AdamW([parameter], SECTION).step(0)
    assert (update.norm, update.taken) == (pytest.approx(5.0), True)
    assert float(parameter.grad.norm()) == pytest.approx(0.5)


def test_a_parameter_without_a_gradient_stays():
    visited, skipped = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    visited.grad = torch.ones(2, 2)
    AdamW([visited, skipped], SECTION).step(0)
    assert torch.equal(skipped, torch.ones(2, 2)), "weight decay neither"
    assert not torch.equal(visited, skipped)


def test_a_gradient_that_is_not_finite_changes_nothing():
    parameter = nn.Parameter(torch.ones(2, 2))
    adamw = AdamW([parameter], SECTION)
    parameter.grad = torch.tensor([[1.0, float("nan")], [0.0, 0.0]])
    assert not adamw.step(0).taken
    assert torch.equal(parameter, torch.ones(2, 2))
