"""The subspace and the fixed embedding part: orthonormal, and the same bits everywhere."""

from hashlib import blake2b

import numpy as np
import pytest
import torch

from skerry.compression.activations.subspace import fixed_rows, orthonormal_basis
from skerry.compression.counter_rng import Purpose, derive, normal_rows


def digest(tensor):
    return blake2b(tensor.numpy().astype("<f4").tobytes(), digest_size=16).hexdigest()


@pytest.mark.parametrize(
    ("width", "rank"), [(4096, 64), (4096, 40), (1024, 160), (96, 96), (7, 3), (2, 1)]
)
def test_columns_are_orthonormal(width, rank):
    basis = orthonormal_basis(11, width, rank)
    assert basis.shape == (width, rank) and basis.dtype == torch.float32
    gram = basis.double().T @ basis.double()
    # Rounding to fp32 moves each entry by at most 2^-25 of 1.
    assert float((gram - torch.eye(rank, dtype=torch.float64)).abs().max()) < 1e-6


def test_columns_span_the_generators_rows():
    """Compared with LAPACK's QR, which differs in the last bits and in signs only."""
    start = normal_rows(derive(11, Purpose.BASIS), torch.arange(16), 256).double().T
    other, _ = np.linalg.qr(start.numpy())
    basis = orthonormal_basis(11, 256, 16).double().numpy()
    assert np.abs(np.abs(other) - np.abs(basis)).max() < 1e-6


def test_a_smaller_subspace_lies_in_a_larger_one():
    assert torch.equal(orthonormal_basis(5, 128, 8), orthonormal_basis(5, 128, 20)[:, :8])


def test_seeds_give_different_subspaces():
    overlap = orthonormal_basis(1, 1024, 8).T @ orthonormal_basis(2, 1024, 8)
    assert float(overlap.abs().max()) < 0.2


@pytest.mark.parametrize(
    ("seed", "width", "rank", "expected"),
    [
        (1337, 4096, 40, "c3aba922eacd87e7de599c278e0f4b6b"),
        (0, 1000, 7, "37cf35b238d25f6ea59350e3b7753c18"),
        (2**64 - 1, 5, 5, "0df7a003c491ff6670310ff23d2b30d6"),
    ],
)
def test_golden_bases(seed, width, rank, expected):
    assert digest(orthonormal_basis(seed, width, rank)) == expected


@pytest.mark.parametrize("rank", [0, -1, 9])
def test_impossible_ranks_are_refused(rank):
    with pytest.raises(ValueError, match="dimensions"):
        orthonormal_basis(1, 8, rank)


def test_dependent_vectors_are_refused():
    seeds = range(3000)
    zero = next(seed for seed in seeds if not normal_rows(derive(seed, 0), torch.tensor([0]), 1))
    with pytest.raises(ValueError, match="dependent"):
        orthonormal_basis(zero, 1, 1)


def test_fixed_rows_depend_on_seed_and_id_only():
    ids = torch.tensor([3, 262143, 3, 0])
    rows = fixed_rows(1, ids, 32)
    assert rows.shape == (4, 32) and rows.dtype == torch.float32
    assert torch.equal(rows[0], rows[2]) and not torch.equal(rows[0], rows[1])
    assert torch.equal(fixed_rows(1, ids[1:2], 32)[0], rows[1])
    assert torch.equal(fixed_rows(1 + 2**64, ids, 32), rows)
    assert not torch.equal(fixed_rows(2, ids, 32), rows)


def test_fixed_rows_share_nothing_with_the_basis():
    start = normal_rows(derive(1, Purpose.BASIS), torch.arange(4), 32)
    assert not bool((fixed_rows(1, torch.arange(4), 32) == start).all(1).any())


def test_golden_fixed_rows():
    assert (
        digest(fixed_rows(1337, torch.tensor([0, 1, 50256, 262143]), 4096))
        == "d705e43746af680de8e1b85ac91db867"
    )
