"""Gradients of weights, split off from those of inputs and computed later.

The gradient of a block's input is what the stage before waits for; those of its weights nobody
waits for until the step. So the backward pass computes the former and writes down, for each matrix,
the two factors of the latter. Nothing is computed twice: the products are just done later.

The model's code stays as it is: while a ``Deferral`` is active, it stands in for ``F.linear``.
Source: Qi et al. 2023 (arXiv:2401.10241), section 2, the split of a backward pass in two.

Shape suffixes: B sequences, T text tokens, D model width, I inputs and O outputs of a matrix; N any
number of rows, "..." for B and T.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix's gradient as its factors: the sum over rows of outputs' gradient times input."""

    matrix_OI: nn.Parameter
    inputs_xI: Tensor
    """[..., I]"""
    gradients_xO: Tensor
    """[..., O]"""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What is kept for it."""
        return self.inputs_xI, self.gradients_xO

    def pay(self) -> None:
        """Add the gradient to the matrix's."""
        inputs_NI = self.inputs_xI.flatten(0, -2)
        gradients_ON = self.gradients_xO.flatten(0, -2).T
        if self.matrix_OI.grad is None:
            self.matrix_OI.grad = gradients_ON @ inputs_NI
        else:
            self.matrix_OI.grad.addmm_(gradients_ON, inputs_NI)


@dataclass(frozen=True, slots=True)
class Lookup:
    """An embedding's gradient, as the gradient of what was looked up."""

    embed: Callable[[Tensor], Tensor]
    """From text tokens [B, T] to rows [B, T, D]; differentiable in ``table``."""
    table: nn.Parameter
    tokens_BT: Tensor
    gradients_BTD: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What is kept for it."""
        return self.tokens_BT, self.gradients_BTD

    def pay(self) -> None:
        """Add the gradient to the table's."""
        rows_BTD = self.embed(self.tokens_BT)
        rows_BTD.backward(self.gradients_BTD, inputs=[self.table])  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Whole:
    """A vector's gradient, which costs next to nothing and is computed at once."""

    vector: nn.Parameter
    gradient: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What is kept for it."""
        return (self.gradient,)

    def pay(self) -> None:
        """Add the gradient to the vector's."""
        if self.vector.grad is None:
            self.vector.grad = self.gradient
        else:
            self.vector.grad.add_(self.gradient)


Debt = Product | Lookup | Whole


class Deferral(TorchFunctionMode):
    """While active, F.linear with a trained matrix leaves that matrix's gradient as a debt."""

    def __init__(self, wanted: Iterable[nn.Parameter]) -> None:
        """Write down debts to ``wanted`` only; other matrices get no gradient at all."""
        super().__init__()
        self._wanted = {id(parameter) for parameter in wanted}
        self.debts: list[Debt] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  (whatever the function of torch returns)
        """Stand in for F.linear; torch calls this for each of its functions."""
        if func is F.linear and isinstance(args[1], nn.Parameter) and torch.is_grad_enabled():
            debts = self.debts if id(args[1]) in self._wanted else None
            return _Linear.apply(args[0], args[1], debts)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


class _Linear(torch.autograd.Function):
    """F.linear whose backward pass computes the input's gradient only."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (torch has no type for it)
        inputs_xI: Tensor,
        matrix_OI: nn.Parameter,
        debts: list[Debt] | None,
    ) -> Tensor:
        ctx.save_for_backward(inputs_xI)
        ctx.matrix_OI, ctx.debts = matrix_OI, debts
        return F.linear(inputs_xI, matrix_OI)

    @staticmethod
    def backward(ctx: Any, gradients_xO: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (inputs_xI,) = ctx.saved_tensors
        if ctx.debts is not None:
            ctx.debts.append(Product(ctx.matrix_OI, inputs_xI.detach(), gradients_xO.detach()))
        return gradients_xO @ ctx.matrix_OI, None, None


def kept_bytes(debts: Iterable[Debt]) -> int:
    """Return the memory that debts keep; a tensor in several of them counts once."""
    storages = {
        storage.data_ptr(): storage.nbytes()
        for debt in debts
        for storage in (tensor.untyped_storage() for tensor in debt.tensors)
    }
    return sum(storages.values())
