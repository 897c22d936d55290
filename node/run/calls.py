"""What is asked of other members, and between which bounds an answer is waited for."""

from enum import Enum, auto

from skerry.node.net.call_deadlines import Bounds


class Call(Enum):
    """A kind of call, whose answers take about as long as each other."""

    BEAT = auto()
    """A heartbeat: the round trip and nothing else."""
    TELL = auto()
    """Another message; a commit of many members takes a while over a slow link."""
    HELLO = auto()
    CHAIN = auto()
    """The next commit of a chain."""
    SHADOWS = auto()
    """The next record of a stale copy that is kept."""
    MOMENTS = auto()
    """Its compute process is to write them first, and goes on training meanwhile."""
    PIECE = auto()
    """That a piece of a copy is taken."""
    KEPT = auto()
    """That a copy is kept, when all of it was sent."""


_BEATS = 3.0
"""Heartbeats that the answer to one may take at least."""
_QUICK = Bounds(least=3.0, most=10.0)


def calls_at(heartbeat_s: float) -> dict[Call, Bounds]:
    """Return the bounds where signs of life come at this interval."""
    least = _BEATS * heartbeat_s
    return {
        Call.BEAT: Bounds(least, max(least, _QUICK.most)),
        Call.TELL: Bounds(least=5.0, most=30.0),
        Call.HELLO: _QUICK,
        Call.CHAIN: _QUICK,
        Call.SHADOWS: _QUICK,
        Call.MOMENTS: Bounds(least=10.0, most=60.0),
        Call.PIECE: Bounds(least=10.0, most=120.0),
        Call.KEPT: Bounds(least=30.0, most=300.0),
    }
