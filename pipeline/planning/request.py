"""What a node asks of the planner's process (maker.py). Imports neither numpy nor numba."""

import json
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from skerry.protocol.ids import PeerId
from skerry.protocol.rounds.candidates import Candidate


@dataclass(frozen=True, slots=True)
class MeasuredLink:
    """What lies between two peers, both ways."""

    a: PeerId
    b: PeerId
    latency_s: float
    """One way."""
    bandwidth: float
    """Bytes per second; 0: not measured."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a plan is to be made of."""

    manifest: str
    """Canonical JSON."""
    candidates: tuple[Candidate, ...]
    running: str
    """The plan in force, as its bytes in hex; empty if there is none."""
    links: tuple[MeasuredLink, ...] = ()
    """Of pairs of candidates; what lies between others is not known."""
    domains: dict[PeerId, str] = field(default_factory=dict)
    """What fails together, by candidate; who is not named fails alone."""

    def to_json(self) -> bytes:
        """Return it as one line."""
        return TypeAdapter(Request).dump_json(self)

    @staticmethod
    def from_json(text: bytes) -> "Request":
        """Read what to_json wrote."""
        return TypeAdapter(Request).validate_python(json.loads(text))
