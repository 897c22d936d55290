"""One dataclass per kind of result; each becomes one line of JSON."""

import json
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """A published schedule in our simulator, under the published cost model."""

    kind: Literal["reproduction"] = "reproduction"
    schedule: str
    published_s: float
    simulated_s: float
    off: float
    """Relative."""
    goal: float = 0.01
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanResult:
    """Our plan for the published topology."""

    kind: Literal["plan"] = "plan"
    case: str
    slots: int
    skip_ratio: float
    step_s: float
    goal_s: float
    microbatches: tuple[int, ...]
    """Of each ring."""
    equal_visits: bool
    planning_cpu_s: float
    worst_loss_s: float
    """Step in which a body peer is lost after a third, at worst: 5 s until noticed, then over
    other hosts."""
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleResult:
    """How long planning takes."""

    kind: Literal["scale"] = "scale"
    peers: int
    skip_ratio: float
    stages: int
    rings: int
    spares: int
    text_tokens_s: float
    planning_cpu_s: float
    planning_wall_s: float
    replanning_cpu_s: float
    """After one peer of a ring has gone."""
    goal_s: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Everything at once."""

    kind: Literal["claims"] = "claims"
    compiling_cpu_s: float
    """Of the process's first simulation, not part of any planning time: numba compiles, or loads
    what it compiled before."""
    passed: bool


Result = Reproduction | PlanResult | ScaleResult | Claims


def to_json(result: Result) -> str:
    """Return a result as one line."""
    return json.dumps(asdict(result))
