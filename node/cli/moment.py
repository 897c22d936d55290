"""What the screen shows at one time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from skerry.node.cli.figures import Figures
from skerry.node.cli.history import Happening
from skerry.proto import control_pb2 as pb


@dataclass(frozen=True, slots=True)
class Moment:
    """A status, what the event log adds, and how the view itself is."""

    status: pb.StatusReply
    figures: Figures = field(default_factory=Figures)
    troubles: Sequence[Happening] = ()
    """Failures and how they were mended, oldest first; as many of the newest as fit are shown."""
    events: Sequence[Happening] = ()
    """What else happened, oldest first; as many of the newest as fit are shown."""
    now: float = 0.0
    """Unix seconds."""
    notice: str = ""
    """What is wrong with the view: it shows the past while no daemon answers."""

    def without_events(self) -> "Moment":
        """Return the moment as it is worth keeping: events pass, failures are to be seen."""
        return replace(self, events=())
