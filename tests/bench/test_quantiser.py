"""The quantiser is the published one."""

from math import sqrt

import pytest
import torch
from hivemind.compression.quantization import Uniform8BitQuantization

from comparators.quantiser import quantise


def test_quantiser_by_hand() -> None:
    """Mean 2, sigma sqrt(10/3), bins of 1.5 sigma: 0 and 1 share one, 2 and 5 have their own."""
    values = torch.tensor([0.0, 1.0, 2.0, 5.0])
    width = 1.5 * sqrt((4 + 1 + 0 + 9) / 3)
    expected = [round((value - 2) / width + 2) for value in values.tolist()]
    symbols, codebook = quantise(values, 4)
    assert symbols.tolist() == expected == [1, 2, 2, 3]
    torch.testing.assert_close(codebook, torch.tensor([2.0, 0.0, 1.5, 5.0]))


def test_equal_values_are_exact() -> None:
    symbols, codebook = quantise(torch.full((7,), 0.25), 4)
    assert codebook[symbols.long()].tolist() == [0.25] * 7


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_256_bins_are_those_of_hivemind() -> None:
    values = torch.randn(5000, generator=torch.Generator().manual_seed(0)).exp()
    theirs, their_codebook = Uniform8BitQuantization().quantize(values)
    symbols, codebook = quantise(values, 256)
    # A value on the border of two bins may go either way.
    assert int((symbols != torch.from_numpy(theirs)).sum()) <= 2
    decoded, expected = codebook[symbols.long()], torch.from_numpy(their_codebook)
    torch.testing.assert_close(
        (decoded - values).norm(), (expected[torch.from_numpy(theirs).long()] - values).norm()
    )
