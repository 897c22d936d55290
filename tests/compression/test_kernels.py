"""Both kernels do what the definitions say, and the same bits, on every device there is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compression.cpu_tiles import CpuTiles
from skerry.compression.drift import Drift, fold
from skerry.compression.entries import Entries, Weights
from skerry.compression.errors import CompressionError
from skerry.compression.kernels import kernels_for
from skerry.compression.options import CodecOptions
from skerry.compression.tiles import tile_spans
from skerry.compression.torch_tiles import TorchTiles

BOTH = [CpuTiles(), TorchTiles()]
SHAPES = ((70, 66), (9,), (64, 130), (33,))
OPTIONS = CodecOptions(k=64)
SPANS = tile_spans(SHAPES, OPTIONS)
NUMEL = 70 * 66 + 9 + 64 * 130 + 33
DEVICES = [
    pytest.param("cpu", id="cpu"),
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    ),
]


def normal(seed, numel=NUMEL):
    return torch.randn(numel, generator=torch.Generator().manual_seed(seed))


def coarse(seed):
    """Few distinct magnitudes and many zeros: ties at the threshold of nearly every tile."""
    return (normal(seed) * 2).round() / 2


def same_bits(a, b):
    return torch.equal(a.cpu().view(torch.int32), b.cpu().view(torch.int32))


def same_entries(a, b):
    return (
        np.array_equal(a.counts_T, b.counts_T)
        and np.array_equal(a.positions_M, b.positions_M)
        and np.array_equal(a.values_M.view(np.uint32), b.values_M.view(np.uint32))
    )


def flat_rows(span):
    """Return the flat indices of each tile by the rows alone."""
    rows = span.rows()
    flat = [np.arange(b, b + n) for b, n in zip(rows.begin_R, rows.length_R, strict=True)]
    return np.concatenate(flat).reshape(span.num_tiles, span.valid)


def by_definition(tile, keep):
    """Largest magnitudes, ties to the lowest position, no zeros."""
    order = sorted(range(tile.size), key=lambda i: (-abs(float(tile[i])), i))
    return sorted(i for i in order[:keep] if tile[i] != 0)


@pytest.mark.parametrize("kernels", BOTH, ids=["cpu", "torch"])
@pytest.mark.parametrize("make", [normal, coarse])
def test_selection_follows_the_definition(kernels, make):
    feedback = make(0)
    for span in SPANS:
        chosen = kernels.select(feedback, None, span)
        tiles = feedback.numpy()[flat_rows(span)]
        wanted = [by_definition(tile, span.keep) for tile in tiles]
        assert chosen.counts_T.tolist() == [len(one) for one in wanted]
        assert chosen.positions_M.tolist() == [place for one in wanted for place in one]
        values = [tile[one] for tile, one in zip(tiles, wanted, strict=True)]
        assert np.array_equal(chosen.values_M, np.concatenate(values))
    assert same_bits(feedback, make(0))


SPECIAL = st.sampled_from([0.0, -0.0, 1e-45, -1e-40, 0.5, -0.5, 3.0, 3.4028234663852886e38])


@settings(deadline=None)
@given(st.lists(SPECIAL, min_size=130, max_size=130), st.sampled_from([1, 7, 4096]))
def test_selection_of_odd_numbers_follows_the_definition(numbers, k):
    (span,) = tile_spans(((2, 65), (0,)), CodecOptions(k=k))[:1]
    feedback = torch.tensor(numbers)
    wanted = [by_definition(tile, span.keep) for tile in feedback.numpy()[flat_rows(span)]]
    for kernels in BOTH:
        chosen = kernels.select(feedback, None, span)
        assert chosen.positions_M.tolist() == [place for one in wanted for place in one]


@pytest.mark.parametrize("rise", [1.0, -1.0])
def test_selection_does_not_depend_on_the_tile_before(rise):
    """Magnitudes that change by orders from tile to tile make every first guess wrong."""
    octaves = torch.linspace(-60, 60, 64).repeat_interleave(4096) * rise
    feedback = normal(0, 64 * 4096) * 2.0**octaves
    (span,) = tile_spans(((64 * 4096,),), OPTIONS)
    assert same_entries(*(kernels.select(feedback, None, span) for kernels in BOTH))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("chunk", [1024, 4096, 16384])
@pytest.mark.parametrize("make", [normal, coarse])
def test_drift_is_folded_in_on_the_way(device, chunk, make):
    before, start, local = make(0), normal(1), normal(2)
    wanted = before.clone()
    fold(wanted, Drift(0.95, start, local))
    for span in tile_spans(SHAPES, CodecOptions(chunk=chunk)):
        flat = torch.from_numpy(flat_rows(span).ravel())
        selections = []
        for kernels in (CpuTiles(), TorchTiles()):
            place = device if isinstance(kernels, TorchTiles) else "cpu"
            after = before.to(place, copy=True)
            drift = Drift(0.95, start.to(place), local.to(place))
            selections.append(kernels.select(after, drift, span))
            assert same_bits(after.cpu()[flat], wanted[flat])
            untouched = torch.ones(NUMEL, dtype=torch.bool)
            untouched[flat] = False
            assert same_bits(after.cpu()[untouched], before[untouched])
        assert same_entries(*selections)


def some_entries(span, seed):
    kept = CpuTiles().select(normal(seed), None, span)
    return Entries(kept.counts_T, kept.positions_M, kept.values_M)


@pytest.mark.parametrize("device", DEVICES)
def test_entries_are_added_where_they_belong(device):
    results = []
    for kernels, place in ((CpuTiles(), "cpu"), (TorchTiles(), device)):
        into = normal(5).to(place)
        for span in SPANS:
            kernels.add(into, span, some_entries(span, 7))
        results.append(into)
    wanted = normal(5).numpy()
    for span in SPANS:
        entries = some_entries(span, 7)
        tiles = np.repeat(np.arange(span.num_tiles), entries.counts_T)
        wanted[flat_rows(span)[tiles, entries.positions_M]] += entries.values_M
    for result in results:
        assert same_bits(result, torch.from_numpy(wanted))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("divisor", [None, 1.75])
def test_means_are_the_same_bits(device, divisor):
    weights = Weights((1.0, 0.25, 0.5), divisor)
    results = []
    for kernels, place in ((CpuTiles(), "cpu"), (TorchTiles(), device)):
        into = torch.full((NUMEL,), torch.nan, device=place)
        for span in SPANS:
            kernels.mean(into, span, [some_entries(span, seed) for seed in range(3)], weights)
        results.append(into)
    assert same_bits(*results)
    assert bool(results[0].isfinite().all())
    assert 0 < results[0].count_nonzero() < NUMEL / 10


def refuses(kernels, feedback, drift=None):
    try:
        for span in SPANS:
            kernels.select(feedback, drift, span)
    except CompressionError as error:
        return error.reason == "non-finite"
    return False


@pytest.mark.parametrize("kernels", BOTH, ids=["cpu", "torch"])
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("place", [0, 4650, NUMEL // 2, NUMEL - 1])
def test_infinities_are_found_wherever_they_are(kernels, value, place):
    drift = Drift(0.95, normal(1), normal(2))
    assert not refuses(kernels, normal(0))
    assert not refuses(kernels, normal(0), drift)
    for tensor in (drift.start, drift.local):
        kept = float(tensor[place])
        tensor[place] = value
        assert refuses(kernels, normal(0), drift)
        tensor[place] = kept
    spoiled = normal(0)
    spoiled[place] = value
    assert refuses(kernels, spoiled)
    assert refuses(kernels, spoiled, drift)


@pytest.mark.parametrize("kernels", BOTH, ids=["cpu", "torch"])
def test_a_drift_beyond_the_largest_number_is_found(kernels):
    huge = torch.full((NUMEL,), 3e38)
    assert not refuses(kernels, huge.clone())
    assert refuses(kernels, normal(0), Drift(1.0, huge, -huge))


def test_main_memory_has_compiled_kernels_and_the_rest_torch():
    assert isinstance(kernels_for(torch.device("cpu")), CpuTiles)
    assert isinstance(kernels_for(torch.device("cuda", 1)), TorchTiles)
