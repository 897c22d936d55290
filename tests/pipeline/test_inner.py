"""Inner steps of a full replica: against torch's AdamW, and when they are refused."""

import pytest
import torch

from skerry.pipeline.adamw import learning_rate
from skerry.pipeline.inner import InnerOptimizer
from skerry.pipeline.model import window_loss
from skerry.protocol.manifest import InnerSection

SECTION = InnerSection(
    lr=0.01, min_lr_ratio=0.1, warmup_steps=10, decay_steps=110, steps=4, clip=0.5, weight_decay=0.3
)


@pytest.fixture
def windows() -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, 17), generator=random) for _ in range(6)]


def test_steps_equal_those_of_torch(model, section, build_model, windows):
    reference = build_model(section)
    matrices = [p for p in reference.parameters() if p.ndim >= 2]
    vectors = [p for p in reference.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, betas=(SECTION.beta1, SECTION.beta2), eps=SECTION.eps)
    optimizer = InnerOptimizer(model, SECTION)
    for number, windows_BS in enumerate(windows):
        optimizer.step(windows_BS, number)
        adamw.zero_grad()
        window_loss(reference, windows_BS).backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), SECTION.clip)
        for group in adamw.param_groups:
            group["lr"] = 0.01 * (number + 1) / 10
        adamw.step()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_joiner_starts_gently_and_a_veteran_does_not(section, build_model, windows):
    late = 50  # past the warm-up of the schedule
    joiner, veteran = build_model(section), build_model(section)
    fresh, seasoned = InnerOptimizer(joiner, SECTION), InnerOptimizer(veteran, SECTION)
    for windows_BS in windows[:4]:
        seasoned.step(windows_BS, late)
    veteran.load_state_dict(joiner.state_dict())
    moved = []
    for optimizer, trained in ((fresh, joiner), (seasoned, veteran)):
        start = trained.head.output.detach().clone()
        optimizer.step(windows[4], late)
        moved.append(float((trained.head.output.detach() - start).abs().max()))
    assert moved[0] <= 1.5 * learning_rate(SECTION, late, steps_taken=0)
    assert moved[1] > 1.5 * moved[0]


def test_a_step_that_is_not_finite_changes_nothing(model, windows):
    optimizer = InnerOptimizer(model, SECTION)
    optimizer.step(windows[0], 0)
    with torch.no_grad():
        kept = float(model.head.output[0, 0])
        model.head.output[0, 0] = float("inf")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert optimizer.step(windows[1], 1) is None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.no_grad():
        model.head.output[0, 0] = kept
    assert optimizer.step(windows[1], 1) is not None, "the moments are still sound"
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_gradients_are_released(model, windows):
    optimizer = InnerOptimizer(model, SECTION)
    optimizer.step(windows[0], 0)
    optimizer.release_gradients()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_loss_falls_over_a_few_hundred_steps(model, windows):
    section = InnerSection(lr=5e-3, warmup_steps=10, batch_size=3)
    optimizer = InnerOptimizer(model, section)
    losses = [optimizer.step(windows[number % 2], number) for number in range(200)]
    assert losses[0] > 4
    assert losses[-1] < 1
