"""Everything that can happen to a peer of a ring."""

from dataclasses import dataclass

from skerry.protocol.ids import PeerId
from skerry.protocol.rings.frames import Frame, StageAge
from skerry.protocol.rings.tasks import Work


@dataclass(frozen=True, slots=True)
class BeginStep:
    """The origin is to drive an inner step with these microbatches, one after another in time."""

    round: int
    step: int
    text_tokens: tuple[int, ...]
    """Of each microbatch; their positions are their numbers."""
    forward_only: bool = False
    """Whether only the loss is computed: nothing is counted, and nobody steps."""
    doubled: int | None = None
    """A microbatch to be computed a second time, by another host of a stage (doubles.py)."""
    last: bool = False
    """Whether no other step of the round will follow."""


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """This peer holds the parameters of a round's start: its steps may begin here."""

    round: int


@dataclass(frozen=True, slots=True)
class StagesRebuilt:
    """Stages of this peer were made of others: at first part of the microbatches pass over them."""

    stages: tuple[StageAge, ...]


@dataclass(frozen=True, slots=True)
class CutStep:
    """The origin is to end the inner step early: what has no loss yet is left out of it."""

    force: bool = False
    """Leave out also what has one; where that was counted already, the step comes to nothing."""
    last: bool = False
    """No other step of the round will follow."""


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """A frame came in from a peer that the transport has proven."""

    source: PeerId
    frame: Frame
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class FrameSent:
    """The last byte of an activation or gradient was handed to the transport."""

    frame: Frame
    seconds: float
    """Since its first byte, waits for the neighbour's credit included."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A computation is done; its output is to be sent on, if there is one."""

    work: Work
    payload: bytes
    seconds: float
    loss: float = 0.0
    """Nats per text token, of a LOSS or MEASURE task."""


@dataclass(frozen=True, slots=True)
class ComputeFailed:
    """A computation could not be done, for instance because its input does not decode."""

    work: Work
    reason: str
    of_input: bool = False
    """Whether what the neighbour sent is unusable; whoever sent it is named."""


@dataclass(frozen=True, slots=True)
class PeerUp:
    """There is a stream to a peer of the ring."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerDown:
    """There is no stream to a peer of the ring any more."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    BeginStep
    | RoundOpened
    | StagesRebuilt
    | CutStep
    | FrameReceived
    | FrameSent
    | Computed
    | ComputeFailed
    | PeerUp
    | PeerDown
    | Tick
)
