"""One dataclass per kind of result; each becomes one line of JSON."""

import json
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeResult:
    """One scheme on one case."""

    kind: Literal["scheme"] = "scheme"
    scheme: str
    data: str
    parameters: int
    bits_per_parameter: float
    bits_per_index: float | None
    """Without values, scales and header; None where no index is sent."""
    index_limit: float | None
    """log2 C(n, k) / k over the shard's tiles."""
    encode_mparam_s: float | None
    """Million parameters per second of one core, the update of the error feedback included."""
    add_mparam_s: float | None
    """Decoding one payload and adding it to an accumulator."""
    error: float
    """Energy that the payload leaves behind, over the energy of the error feedback."""
    error_of_kept: float
    """The same over the entries that were sent: what the value format loses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineResult:
    """A plain operation on the same entries, in the same run."""

    kind: Literal["baseline"] = "baseline"
    operation: str
    data: str
    parameters: int
    mparam_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanResult:
    """The mean of several contributions, from payloads to a dense vector."""

    kind: Literal["mean"] = "mean"
    scheme: str
    parameters: int
    contributions: int
    mparam_s: float
    """Million parameters per second and contribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryResult:
    """Extra bytes per parameter at the peak, beside input, accumulator and code."""

    kind: Literal["memory"] = "memory"
    scheme: str
    parameters: int
    encode_bytes_per_parameter: float
    add_bytes_per_parameter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexResult:
    """One code of ascending positions."""

    kind: Literal["index"] = "index"
    coder: str
    keep: int
    area: int
    bits_per_index: float
    over_limit: float
    """Share above log2 C(area, keep) / keep."""
    encode_mindex_s: float | None
    decode_mindex_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One goal and what was measured."""

    goal: str
    figure: float
    """The worst of all cases that it speaks of."""
    bound: Literal["at most", "at least"]
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the figure keeps the bound."""
        return self.figure <= self.limit if self.bound == "at most" else self.figure >= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The last line."""

    kind: Literal["claims"] = "claims"
    claims: tuple[Claim, ...]

    @property
    def passed(self) -> bool:
        """Whether all do."""
        return all(claim.passed for claim in self.claims)


Result = SchemeResult | BaselineResult | MeanResult | MemoryResult | IndexResult | Claims


def to_json(result: Result) -> str:
    """Return one line."""
    fields = asdict(result)
    if isinstance(result, Claims):
        fields["claims"] = [asdict(one) | {"passed": one.passed} for one in result.claims]
        fields["passed"] = result.passed
    return json.dumps({"bench": "codec", **fields})
