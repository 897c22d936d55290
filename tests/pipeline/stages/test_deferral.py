"""Gradients of weights computed later: equal to autograd's, in any order, and accounted for."""

import torch
import torch.nn.functional as F
from torch import nn

from skerry.pipeline.stages.deferral import Deferral, kept_bytes


def layers(seed: int = 0) -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(6, 5, generator=random)), nn.Parameter(torch.randn(4, 6))]


def through(x, matrices):
    return F.linear(F.silu(F.linear(x, matrices[0])), matrices[1])


def test_debts_come_to_autograds_gradients_over_several_passes():
    random = torch.Generator().manual_seed(1)
    inputs = [torch.randn(2, 3, 5, generator=random, requires_grad=True) for _ in range(3)]
    matrices = layers()
    sum(through(x, matrices).sin().sum() for x in inputs).backward()
    expected = [(m.grad.clone(), x.grad.clone()) for m, x in zip(matrices, inputs, strict=False)]
    for matrix in matrices:
        matrix.grad = None
    debts = []
    for x in inputs:
        with Deferral(matrices) as deferral:
            loss = through(x, matrices).sin().sum()
        (gradient,) = torch.autograd.grad(loss, [x])
        torch.testing.assert_close(gradient, x.grad)
        debts += deferral.debts
    assert all(matrix.grad is None for matrix in matrices), "nothing is computed before it is due"
    for debt in reversed(debts):
        debt.pay()
    for matrix, (of_matrix, _) in zip(matrices, expected, strict=True):
        torch.testing.assert_close(matrix.grad, of_matrix)


def test_only_wanted_matrices_are_owed():
    matrices, x = layers(), torch.ones(1, 1, 5, requires_grad=True)
    with Deferral(matrices[:1]) as deferral:
        loss = through(x, matrices).sum()
    (gradient,) = torch.autograd.grad(loss, [x])
    assert [debt.matrix_OI is matrices[0] for debt in deferral.debts] == [True]
    assert gradient.any()


def test_matrices_that_do_not_train_take_torchs_own_way():
    basis, x = torch.ones(4, 5), torch.ones(1, 1, 5, requires_grad=True)
    with Deferral([]) as deferral:
        loss = F.linear(x, basis).sum()
    loss.backward()
    assert torch.equal(x.grad, torch.full((1, 1, 5), 4.0))
    assert deferral.debts == []


def test_without_gradients_nothing_is_written_down():
    matrices = layers()
    with torch.no_grad(), Deferral(matrices) as deferral:
        through(torch.ones(1, 1, 5), matrices)
    assert deferral.debts == []


def test_shared_inputs_are_counted_once():
    one, other = nn.Parameter(torch.ones(3, 5)), nn.Parameter(torch.ones(2, 5))
    x = torch.ones(1, 7, 5, requires_grad=True)
    with Deferral([one, other]) as deferral:
        loss = (F.linear(x, one) ** 2).sum() + (F.linear(x, other) ** 2).sum()
    torch.autograd.grad(loss, [x])
    assert len(deferral.debts) == 2
    assert kept_bytes(deferral.debts) == 4 * 7 * (5 + 3 + 2)
