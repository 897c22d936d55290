"""e <- decay e + (start - local): three roundings to fp32, in any piece."""

from fractions import Fraction

import numpy as np
import torch

from skerry.compression import drift as module
from skerry.compression.drift import Drift, fold, folded


def normal(numel, seed):
    return torch.randn(numel, generator=torch.Generator().manual_seed(seed))


def rounded(number):
    """Round an exact sum or product of two fp32 numbers to fp32: float64 holds it or is sticky."""
    return np.float32(float(number))


def by_definition(e, start, local, decay):
    delta = rounded(Fraction(start) - Fraction(local))
    product = rounded(Fraction(e) * Fraction(float(np.float32(decay))))
    return rounded(Fraction(float(product)) + Fraction(float(delta)))


def test_each_operation_is_rounded_on_its_own():
    e, start, local = (normal(500, seed) for seed in range(3))
    wanted = [
        by_definition(*numbers, 0.95)
        for numbers in zip(e.tolist(), start.tolist(), local.tolist(), strict=True)
    ]
    fold(e, Drift(0.95, start, local))
    assert e.tolist() == [float(number) for number in wanted]


def test_slices_make_no_difference(monkeypatch):
    monkeypatch.setattr(module, "_SLICE_ENTRIES", 7)
    e, start, local = (normal(100, seed) for seed in range(3))
    whole = folded(e, Drift(0.9, start, local), slice(None))
    fold(e, Drift(0.9, start, local))
    assert torch.equal(e, whole)


def test_places_are_taken_as_given():
    e, start, local = (normal(30, seed) for seed in range(3))
    drift = Drift(0.9, start, local)
    places = torch.tensor([[3, 1], [29, 0]])
    assert torch.equal(folded(e, drift, places), folded(e, drift, slice(None))[places])
    assert torch.equal(folded(e, None, places), e[places])
