"""One dataclass per kind of result; each becomes one line of JSON."""

import json
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """How fast a payload moved over one link by one stack."""

    kind: Literal["transfer"] = "transfer"
    link: str
    stack: str
    streams: int
    payload_mb: float
    first_mb_s: float
    """On a new connection, which has yet to find the link's rate."""
    mb_s: float
    """Median of those that followed on the same connection."""
    cpu_s_per_gb: float
    """Of both ends, with p2pd, without the kernel's work for others."""
    of_link: float | None
    """Share of what the link can carry; None on loopback."""
    of_socket: float | None
    """Share of what a plain socket moved in the same run; None for the socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Whether the goal was met: its share of a shaped link, by each transport."""

    kind: Literal["claims"] = "claims"
    goal: float
    best: dict[str, float]
    """Per stack, the smallest over payloads of 16 MB or more of its best number of streams."""
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """What could not be measured here."""

    kind: Literal["skipped"] = "skipped"
    reason: str


Result = Transfer | Claims | Skipped


def to_json(result: Result) -> str:
    """Return a result as one line."""
    return json.dumps(asdict(result))
