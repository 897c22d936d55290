"""The bench of recovery: losses are drawn alike for all, and stages train as one model."""

import numpy as np
import pytest
import torch

from recovery_bench import jobs
from recovery_bench.jobs import Job
from recovery_bench.mending import Mender
from recovery_bench.policies import POLICIES, Policy, Size, losses, manifest_of
from recovery_bench.staged import StagedModel
from skerry.pipeline.corpus import Corpus
from skerry.pipeline.model import window_loss

TINY = Size(
    stages=4,
    d_model=16,
    ffn_dim=16,
    context=8,
    batch_size=4,
    steps=12,
    warmup_steps=2,
    every=2,
    windows=4,
)
BY_NAME = {policy.name: policy for policy in POLICIES}
CPU = torch.device("cpu")


@pytest.fixture
def small_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = np.frombuffer(b"the tide comes in, the tide goes out. " * 40, np.uint8)
    monkeypatch.setattr(jobs, "load_corpus", lambda *rest: Corpus(text, text[:200]))


def windows(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (TINY.batch_size, TINY.context + 1), generator=generator)


def test_losses_are_as_frequent_as_in_the_paper_and_the_same_for_all():
    size = Size(steps=6_000)
    for percent in (16, 100):
        lost = [stage for loss in losses(size, percent, 0, False) for stage in loss.stages]
        assert len(lost) / (6_000 * 6) == pytest.approx(percent / 100 * 91.3 / 3600, rel=0.1)
    assert losses(size, 16, 0, False) == losses(size, 16, 0, False) != losses(size, 16, 1, False)


def test_single_losses_are_never_side_by_side_and_pairs_always():
    size = Size(steps=500)
    for loss in losses(size, 500, 0, pairs=False):
        assert all(b - a > 1 for a, b in zip(loss.stages, loss.stages[1:], strict=False))
    for loss in losses(size, 500, 0, pairs=True):
        assert all(b - a == 1 for a, b in zip(loss.stages[::2], loss.stages[1::2], strict=True))


def test_stages_together_are_the_model():
    model = StagedModel(manifest_of(TINY, 0), TINY.stages, CPU)
    with torch.no_grad():
        whole = float(window_loss(model.model, windows()))
    assert model.validation_loss(windows()) == pytest.approx(whole, rel=1e-6)
    orders = [tuple(range(4))] * 4
    assert model.step(windows(), 0, orders) == pytest.approx(whole, rel=1e-6)
    assert model.validation_loss(windows()) < whole


def test_a_stage_nobody_visits_stays_as_it_is():
    model = StagedModel(manifest_of(TINY, 0), TINY.stages, CPU)
    before = [model.blocks(stage)[0] for stage in range(4)]
    model.step(windows(), 0, [(0, 1), (0, 1, 3), (0, 1), (0, 1)])
    after = [model.blocks(stage)[0] for stage in range(4)]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [
        False,
        False,
        True,
        False,
    ]


def test_a_bypassed_stage_is_visited_by_half_at_first():
    policy = Policy("x", "", "average", bypass_steps=4)
    manifest = manifest_of(TINY, 0)
    mender = Mender(policy, manifest, StagedModel(manifest, TINY.stages, CPU))
    mender.mend((2,), step=5)
    assert sum(2 in order for order in mender.orders(5, 4)) == 2
    assert all(2 in order for order in mender.orders(9, 4))


@pytest.mark.parametrize("name", ["none", "shadow-10", "plus-published", "pairs-bypass", "random"])
def test_every_policy_trains_to_the_end(name: str, small_text: None):
    policy = BY_NAME[name]
    job = Job(policy, 900, TINY, seed=1)  # so often that some are lost
    found = job.run(CPU, lambda step, loss: None)
    assert len(found.curve) == 1 + TINY.steps // TINY.every
    assert bool(found.jumps) == (policy.rung != "none")
    assert (found.shadow_share > 0) == (policy.rung == "shadow")
