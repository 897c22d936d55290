"""The mean of several contributions, from payloads to a dense vector.

The decoder of the reference takes all payloads at once, so a part of its work is shared by them.
Ours also clips each contribution to the median of the norms, as a run does.
"""

from collections.abc import Iterator

import torch

from codec_bench.cases import Shapes, normal
from codec_bench.results import MeanResult
from codec_bench.schemes import K
from codec_bench.timing import Operation, fastest
from comparators.reference import ReferenceScheme
from skerry.compression.aggregate import WeightedPayload, aggregate
from skerry.compression.options import CodecOptions
from skerry.compression.pseudogradient import PseudoGradientCodec


def results(shapes: Shapes, contributions: int, repetitions: int) -> Iterator[MeanResult]:
    """Yield the time of one mean of this many contributions, by scheme."""
    reference = ReferenceScheme(shapes, K)
    codec = PseudoGradientCodec(shapes, CodecOptions(k=K))
    theirs, ours = [], []
    for seed in range(contributions):
        entries_N = normal(shapes, torch.Generator().manual_seed(seed))
        theirs.append(reference.encode(entries_N.clone()))
        ours.append(WeightedPayload(codec.encode(entries_N), 1))
    operations = {
        "sign": Operation(lambda: aggregate(codec, ours)),
        "reference": Operation(lambda: reference.mean(theirs)),
    }
    for name, took in fastest(operations, repetitions).items():
        yield MeanResult(
            scheme=name,
            parameters=codec.numel,
            contributions=contributions,
            mparam_s=codec.numel * contributions / 1e6 / took,
        )
