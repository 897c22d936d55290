"""Forward passes keep nothing; gradients of inputs are autograd's, whoever wants the weights'."""

import pytest
import torch
import torch.nn.functional as F

from skerry.pipeline.shards import load_shard
from skerry.pipeline.stages import passes
from skerry.pipeline.stages.cuts import cut
from skerry.pipeline.stages.stage_model import StageModel
from skerry.protocol.layout import layout_of

BLOCKS = ("block.2", "block.0")


@pytest.fixture
def model(ring_manifest, start) -> StageModel:
    manifest = ring_manifest(dim=8, mode="reparam")
    model = StageModel(manifest.model, manifest.seed, cut(manifest.model, (4,)))
    for spec, flat in zip(layout_of(manifest.model), start(manifest), strict=True):
        load_shard(model, spec, flat)
    return model


def normal(seed: int) -> torch.Tensor:
    return torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(seed))


def gradients_of(model: StageModel) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_a_forward_pass_keeps_nothing(model):
    x = normal(0)
    output = passes.forward(model, x, BLOCKS)
    assert not output.requires_grad
    torch.testing.assert_close(output, model.through(x, BLOCKS).detach())
    assert not passes.embed(model, torch.zeros(2, 12, dtype=torch.int64)).requires_grad


@pytest.mark.parametrize("wanted", [set(BLOCKS), {"block.0"}, set()])
def test_gradients_are_those_of_plain_autograd(model, wanted):
    x, of_output = normal(1).requires_grad_(), normal(2)
    model.through(x, BLOCKS).backward(of_output)
    expected = gradients_of(model)
    for parameter in model.parameters():
        parameter.grad = None
    found = passes.input_gradient(model, x.detach(), of_output, BLOCKS, wanted)
    torch.testing.assert_close(found.input_BTD, x.grad, rtol=1e-4, atol=1e-4)
    assert gradients_of(model) == {}
    for debt in found.debts:
        debt.pay()
    paid = gradients_of(model)
    assert {name.rsplit(".", 1)[0] for name in paid} == wanted
    for name, gradient in paid.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("wanted", [{"head"}, set()])
def test_a_loss_is_summed_over_text_tokens(model, wanted):
    x, targets = normal(3).requires_grad_(), torch.randint(0, 256, (2, 12))
    logits = model.logits(x)
    F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").backward()
    expected = gradients_of(model)
    for parameter in model.parameters():
        parameter.grad = None
    loss, found = passes.score(model, x.detach(), targets, wanted)
    mean = F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    assert loss == pytest.approx(24 * mean, rel=1e-5)
    torch.testing.assert_close(found.input_BTD, x.grad, rtol=1e-4, atol=1e-4)
    for debt in found.debts:
        debt.pay()
    assert set(gradients_of(model)) == ({"head.norm", "head.output"} if wanted else set())
    for name, gradient in gradients_of(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-4)


def test_without_blocks_the_gradient_goes_through(model):
    found = passes.input_gradient(model, normal(0), normal(1), (), set())
    assert torch.equal(found.input_BTD, normal(1)) and found.debts == []


def test_an_embedding_owes_to_what_was_looked_up(model):
    tokens, of_rows = torch.randint(0, 256, (2, 12)), normal(4)
    model.embedded(tokens).backward(of_rows)
    expected = model.embed.tokens.grad.clone()
    model.embed.tokens.grad = None
    debt = passes.lookup_debt(model, tokens, of_rows)
    debt.pay()
    debt.pay()
    torch.testing.assert_close(model.embed.tokens.grad, 2 * expected)
