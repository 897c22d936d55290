"""What the codec promises, held against the results."""

from collections.abc import Callable, Iterable

from codec_bench.cases import DISTRIBUTIONS
from codec_bench.results import Claim, Claims, MemoryResult, Result, SchemeResult

OURS, REFERENCE = "sign", "reference"


def judge(results: Iterable[Result]) -> Claims:
    """Return every goal with the worst figure of all made-up cases."""
    everything = list(results)
    schemes = [r for r in everything if isinstance(r, SchemeResult) and r.data in DISTRIBUTIONS]
    memory = [r for r in everything if isinstance(r, MemoryResult) and r.scheme == OURS]
    pairs = _pairs(schemes)
    normal = [ours for ours, _ in pairs if ours.data == "normal"]
    claims = [
        Claim(
            goal="size, bits per parameter on normal entries",
            figure=max(r.bits_per_parameter for r in normal),
            bound="at most",
            limit=0.137,
        ),
        Claim(
            goal="bits per index over log2 C(n, k) / k, normal entries",
            figure=max((r.bits_per_index or 0.0) / (r.index_limit or 1.0) for r in normal),
            bound="at most",
            limit=1.02,
        ),
        Claim(
            goal="encode, speed over the reference in torch",
            figure=min(_ratio(pair, lambda r: r.encode_mparam_s) for pair in pairs),
            bound="at least",
            limit=3.0,
        ),
        Claim(
            goal="decode and add, speed over the reference's scatter_reduce",
            figure=min(_ratio(pair, lambda r: r.add_mparam_s) for pair in pairs),
            bound="at least",
            limit=8.0,
        ),
        Claim(
            goal="error of kept entries over the reference's 2 bits",
            figure=max(_ratio(pair, lambda r: r.error_of_kept) for pair in pairs),
            bound="at most",
            limit=1.0,
        ),
    ]
    peaks = [max(r.encode_bytes_per_parameter, r.add_bytes_per_parameter) for r in memory]
    if peaks:
        goal = "peak extra memory of encode and of add, bytes per parameter"
        claims.append(Claim(goal=goal, figure=max(peaks), bound="at most", limit=1.5))
    return Claims(claims=tuple(claims))


def _pairs(results: list[SchemeResult]) -> list[tuple[SchemeResult, SchemeResult]]:
    """Return our result and the reference's for each case."""
    by_case = {(r.scheme, r.data, r.parameters): r for r in results}
    return [(r, by_case[REFERENCE, r.data, r.parameters]) for r in results if r.scheme == OURS]


def _ratio(
    pair: tuple[SchemeResult, SchemeResult], figure: Callable[[SchemeResult], float | None]
) -> float:
    ours, theirs = figure(pair[0]), figure(pair[1])
    return (ours or 0.0) / theirs if theirs else float("nan")
