"""The passes through the shards a peer hosts: forward, loss, and the gradient of the input.

Only inputs are kept between a forward pass and its gradient: activations are computed again, as in
Chen et al. 2016 (arXiv:1604.06174). Gradients are of the *sum* of the loss over text tokens, nats,
so that a stage can divide by the text tokens that visited it, whichever they were.

Shape suffixes: B sequences, T text tokens, D model width, V vocabulary.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skerry.pipeline.stages.cuts import EMBED, HEAD
from skerry.pipeline.stages.deferral import Debt, Deferral, Lookup, Whole
from skerry.pipeline.stages.stage_model import StageModel


@dataclass(frozen=True, slots=True)
class Gradients:
    """What a backward pass leaves."""

    input_BTD: Tensor
    """dL/dX of the visit's input."""
    debts: list[Debt]
    """The gradients of weights, still to be computed."""


def forward(model: StageModel, x_BTD: Tensor, blocks: Sequence[str]) -> Tensor:
    """Pass [B, T, D] through blocks; keeps nothing."""
    with torch.no_grad():
        return model.through(x_BTD, blocks)


def embed(model: StageModel, tokens_BT: Tensor) -> Tensor:
    """Return embeddings [B, T, D] of [B, T] int64; keeps nothing."""
    with torch.no_grad():
        return model.embedded(tokens_BT)


def score(
    model: StageModel, x_BTD: Tensor, targets_BT: Tensor, wanted: Collection[str]
) -> tuple[float, Gradients]:
    """Return the loss of predicting ``targets_BT`` from what left the last block, and gradients.

    Args:
        x_BTD: [B, T, D] f32.
        targets_BT: [B, T] int64.
        wanted: shards whose gradients are to be computed later.
    Returns: the sum of the loss, nats, and dL/dX with the head's debts.
    """
    x_BTD = x_BTD.detach().requires_grad_()
    with Deferral(_trained(model, wanted)) as deferral:
        logits_BTV = model.logits(x_BTD)
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum")
    vectors = _vectors(model, [HEAD], wanted)
    gradient_BTD, *of_vectors = torch.autograd.grad(loss, [x_BTD, *vectors])
    return loss.item(), Gradients(gradient_BTD, deferral.debts + _wholes(vectors, of_vectors))


def measure(model: StageModel, x_BTD: Tensor, targets_BT: Tensor) -> float:
    """Return the sum of the loss, nats, as ``score`` does; keeps nothing."""
    with torch.no_grad():
        logits_BTV = model.logits(x_BTD)
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum")
    return loss.item()


def input_gradient(
    model: StageModel,
    x_BTD: Tensor,
    gradient_BTD: Tensor,
    blocks: Sequence[str],
    wanted: Collection[str],
) -> Gradients:
    """Compute the forward pass again, and the gradient of its input.

    Args:
        x_BTD: [B, T, D] f32, the input of the forward pass.
        gradient_BTD: [B, T, D] f32, dL/dX of its output.
        blocks: what it passed, in order.
        wanted: shards whose gradients are to be computed later.
    """
    if not blocks:
        return Gradients(gradient_BTD, [])
    x_BTD = x_BTD.detach().requires_grad_()
    with Deferral(_trained(model, wanted)) as deferral:
        output_BTD = model.through(x_BTD, blocks)
    vectors = _vectors(model, blocks, wanted)
    gradients = torch.autograd.grad(output_BTD, [x_BTD, *vectors], gradient_BTD)
    return Gradients(gradients[0], deferral.debts + _wholes(vectors, gradients[1:]))


def lookup_debt(model: StageModel, tokens_BT: Tensor, gradient_BTD: Tensor) -> Debt:
    """Return what the embedding owes to the gradient [B, T, D] of what it looked up."""
    (table,) = model.parameters_of(EMBED)
    return Lookup(model.embedded, table, tokens_BT, gradient_BTD)


def _trained(model: StageModel, shards: Collection[str]) -> list[nn.Parameter]:
    return [parameter for shard in shards for parameter in model.parameters_of(shard)]


def _vectors(
    model: StageModel, passed: Sequence[str], wanted: Collection[str]
) -> list[nn.Parameter]:
    shards = [shard for shard in passed if shard in wanted]
    return [parameter for parameter in _trained(model, shards) if parameter.ndim == 1]


def _wholes(vectors: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> list[Debt]:
    return [Whole(*pair) for pair in zip(vectors, gradients, strict=True)]
