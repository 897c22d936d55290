"""Measures every scheme on one case: size, error, and speed in turns with the others.

Shape suffixes: N entries of the shard, T tiles, V entries of a tile, M kept entries.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum

import torch
from torch import Tensor

from codec_bench.cases import TILE_SIDE, Case
from codec_bench.limits import shard_limit
from codec_bench.results import BaselineResult, SchemeResult
from codec_bench.schemes import SCHEMES, Encoded, K, Scheme, take_up
from codec_bench.timing import Operation, fastest

_SLICE_ENTRIES = 2**20
_ROUNDING = 1e-6
"""Of fp32, relative to the largest entry: the torch fold may round elsewhere than ours."""


@dataclass(frozen=True, slots=True)
class _Quality:
    """What a payload is worth, from its bytes and what it decodes to."""

    encoded: Encoded
    kept: int
    error: float
    error_of_kept: float


class CaseBench:
    """One case with all schemes and the two vectors that they take turns to use."""

    def __init__(self, case: Case) -> None:
        """Make the schemes."""
        self._case = case
        self._schemes = {name: entry.make(case.shapes) for name, entry in SCHEMES.items()}
        self._feedback_N = torch.empty_like(case.feedback_N)
        self._total_N = torch.empty_like(case.feedback_N)

    def results(self, repetitions: int) -> Iterator[SchemeResult | BaselineResult]:
        """Yield the baselines, then the schemes."""
        qualities = {name: self._quality(scheme) for name, scheme in self._schemes.items()}
        timed = {name: qualities[name] for name, entry in SCHEMES.items() if entry.timed}
        operations = self._baselines()
        for name, quality in timed.items():
            operations["encode", name] = self._encoding(self._schemes[name])
            operations["add", name] = self._adding(quality.encoded)
        seconds = fastest(operations, repetitions)
        speeds = {name: self._case.numel / 1e6 / took for name, took in seconds.items()}
        for kind, name in operations:
            if kind == "baseline":
                yield BaselineResult(
                    operation=name,
                    data=self._case.name,
                    parameters=self._case.numel,
                    mparam_s=speeds[kind, name],
                )
        for name, quality in qualities.items():
            encode, add = speeds.get(("encode", name)), speeds.get(("add", name))
            yield self._scheme_result(name, quality, encode, add)

    def _scheme_result(
        self, name: str, quality: _Quality, encode: float | None, add: float | None
    ) -> SchemeResult:
        index_bytes = quality.encoded.index_bytes
        index_bits = None if index_bytes is None else 8 * index_bytes / quality.kept
        return SchemeResult(
            scheme=name,
            data=self._case.name,
            parameters=self._case.numel,
            bits_per_parameter=8 * quality.encoded.num_bytes / self._case.numel,
            bits_per_index=index_bits,
            index_limit=shard_limit(self._case.shapes) if index_bits is not None else None,
            encode_mparam_s=encode,
            add_mparam_s=add,
            error=quality.error,
            error_of_kept=quality.error_of_kept,
        )

    def _quality(self, scheme: Scheme) -> _Quality:
        """Encode once and compare with the error feedback.

        Raises: ArithmeticError if the scheme did not subtract what its payload decodes to.
        """
        case = self._case
        before_N = case.feedback_N.clone()
        take_up(before_N, case.drift)
        self._feedback_N.copy_(case.feedback_N)
        encoded = scheme(self._feedback_N, case.drift)
        encoded.add(self._total_N.zero_())
        left_N = before_N - self._total_N
        stray = float((self._feedback_N - left_N).abs().max() / before_N.abs().max())
        if stray > _ROUNDING:
            raise ArithmeticError(f"feedback is off by {stray:.1e} from what was not sent")
        kept_N = self._total_N != 0
        return _Quality(
            encoded,
            kept=int(kept_N.sum()),
            error=_energy(left_N) / _energy(before_N),
            error_of_kept=_energy(left_N[kept_N]) / _energy(before_N[kept_N]),
        )

    def _baselines(self) -> dict[tuple[str, str], Operation]:
        usable = self._case.numel // TILE_SIDE**2 * TILE_SIDE**2
        magnitudes_TV = self._case.drift.start[:usable].abs().view(-1, TILE_SIDE**2)
        return {
            ("baseline", "memcpy"): Operation(lambda: self._total_N.copy_(self._case.drift.start)),
            ("baseline", "torch.topk"): Operation(
                lambda: magnitudes_TV.topk(K, dim=1, sorted=False)
            ),
        }

    def _encoding(self, scheme: Scheme) -> Operation:
        return Operation(
            lambda: scheme(self._feedback_N, self._case.drift),
            prepare=lambda: self._feedback_N.copy_(self._case.feedback_N),
        )

    def _adding(self, encoded: Encoded) -> Operation:
        return Operation(lambda: encoded.add(self._total_N), prepare=self._total_N.zero_)


def _energy(values_M: Tensor) -> float:
    """Return the sum of squares, exact enough for any number of entries."""
    pieces = torch.split(values_M, _SLICE_ENTRIES)
    return fsum(float(piece.double().square().sum()) for piece in pieces)
