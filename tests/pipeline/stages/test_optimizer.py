"""One stage's step: its own text tokens, its own norm, and reasons not to step."""

import pytest
import torch

from skerry.pipeline.stages.cuts import cut
from skerry.pipeline.stages.optimizer import StageOptimizer
from skerry.pipeline.stages.stage_model import StageModel
from skerry.pipeline.stages.tally import Tally
from skerry.pipeline.stages.tasks import Place, StageVisits


@pytest.fixture
def parts(ring_manifest):
    """A stage of two blocks whose gradients are all ones, of 2 and of 8 text tokens."""
    manifest = ring_manifest(clip=1e6)
    shards = cut(manifest.model, (0, 2, 2))[1]
    model = StageModel(manifest.model, manifest.seed, {1: shards})
    tally = Tally(shards, limit_bytes=0)
    tally.owe(frozenset(shards[:1]), Place(0, 0, 1), 2, [])
    tally.owe(frozenset(shards[1:]), Place(0, 0, 1), 8, [])
    tally.pay_all(None)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model, StageOptimizer(1, shards, model, manifest.inner), tally


def test_each_shard_is_divided_by_its_own_text_tokens(parts):
    model, optimizer, tally = parts
    step = optimizer.step(0, tally, expected=None)
    count = sum(p.numel() for p in model.parameters_of("block.0"))
    assert step.norm == pytest.approx((count * (1 / 4 + 1 / 64)) ** 0.5, rel=1e-5)
    assert (step.reason, step.visits) == ("", StageVisits(1, (0,)))
    expected = {"block.0": count**0.5 / 2, "block.1": count**0.5 / 8}
    assert step.shard_norms == pytest.approx(expected, rel=1e-5)
    assert all(p.any() and p.grad is None for p in model.parameters())


def test_only_what_was_expected_is_stepped(parts):
    model, optimizer, tally = parts
    assert optimizer.step(0, tally, expected=(0, 1)).reason == "visits"
    assert not any(p.any() for p in model.parameters())
    assert all(p.grad is None for p in model.parameters()), "nothing is left for the next step"


def test_gradients_that_are_not_finite_change_nothing(parts):
    model, optimizer, tally = parts
    model.parameters_of("block.1")[1].grad[0, 0] = float("inf")
    step = optimizer.step(0, tally, expected=(0,))
    assert (step.reason, step.shard_norms) == ("non-finite", {})
    assert not any(p.any() for p in model.parameters())


def test_without_visits_a_stage_is_idle(parts):
    model, optimizer, tally = parts
    tally.clear()
    optimizer.release_gradients()
    step = optimizer.step(0, tally, expected=None)
    assert (step.reason, step.text_tokens, step.norm) == ("idle", 0, 0.0)
    assert not any(p.any() for p in model.parameters())
