"""Everything a peer of a ring can ask for. The edge carries actions out in order."""

from dataclasses import dataclass

from skerry.protocol.ids import PeerId
from skerry.protocol.rings.frames import Frame, Place, StageVisits
from skerry.protocol.rings.tasks import At, Work


@dataclass(frozen=True, slots=True)
class Send:
    """Send a frame; one to a peer without a stream is dropped."""

    peer: PeerId
    frame: Frame
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Compute:
    """Do this now; answered by Computed or ComputeFailed. There is never more than one."""

    work: Work


@dataclass(frozen=True, slots=True)
class Forget:
    """Free what is kept of one visit of a microbatch."""

    at: At
    place: Place


@dataclass(frozen=True, slots=True)
class MemberStepped:
    """At the origin: a member has told what its inner step was made of."""

    peer: PeerId
    at: At
    visits: tuple[StageVisits, ...]
    reason: str
    """Why its gradients were thrown away; empty if they were not."""


@dataclass(frozen=True, slots=True)
class StepDone:
    """At the origin: the inner step is over here; the next one may begin."""

    at: At
    text_tokens: int
    """Of the microbatches that were trained, or measured if the step was forward only."""
    loss: float
    """Their mean, weighted by text tokens, nats per text token; 0 if there were none."""
    trained: tuple[int, ...]
    redone: int
    """Attempts that failed."""
    reason: str
    """Why the origin's own gradients were thrown away; empty if they were not."""


@dataclass(frozen=True, slots=True)
class StepOver:
    """An inner step is over at this peer: it has stepped, or there was nothing to step with."""

    at: At
    last: bool = False
    """Whether no other step of the round will follow."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Count and log something of a peer that was not accepted."""

    peer: PeerId
    reason: str
    fault: bool = False
    """Whether it has ended the stream, since no honest member ever sends such a thing."""


@dataclass(frozen=True, slots=True)
class Note:
    """Tell the user."""

    text: str


Action = Send | Compute | Forget | MemberStepped | StepDone | StepOver | Refused | Note
