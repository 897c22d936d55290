"""The node's pure core: apply(state, event, now) -> actions (DESIGN 3).

Joins the round state machine and the failure detector. Everything that decides anything goes
through here, so a recorded list of events and times replays a node exactly (record.py).
"""

from dataclasses import dataclass

from skerry.protocol.ids import PeerId
from skerry.protocol.rounds import machine
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.events import Event, HeartbeatReceived, PeerDown, PeerUp
from skerry.protocol.rounds.state import RoundState
from skerry.recovery.detector import Detector

LEAVING = "leaving"
"""Phase in the last heartbeat of a peer that leaves on purpose."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A request to a peer failed."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Network:
    """The own transport went down, or is back."""

    up: bool


NodeEvent = Event | Unreachable | Network


@dataclass(slots=True)
class NodeState:
    """All that a node knows of its run."""

    rounds: RoundState
    detector: Detector


def apply(s: NodeState, event: NodeEvent, now: float) -> list[Action]:
    """Take in one event and return what is to be done, in order."""
    actions: list[Action] = []
    match event:
        case HeartbeatReceived() if event.heartbeat.message.phase == LEAVING:
            s.detector.forget(event.heartbeat.signer)
            return machine.apply(s.rounds, PeerDown(event.heartbeat.signer), now)
        case HeartbeatReceived():
            s.detector.heard(event.heartbeat.signer, now)
        case Unreachable():
            s.detector.unreachable(event.peer, now)
        case Network(up=True):
            s.detector.resume(now)
        case Network():
            s.detector.suspend()
        case _:
            pass
    for change in s.detector.changes(now):
        turn = PeerUp(change.peer) if change.up else PeerDown(change.peer)
        actions += machine.apply(s.rounds, turn, now)
    if not isinstance(event, Unreachable | Network):
        actions += machine.apply(s.rounds, event, now)
    return actions


def next_deadline(s: NodeState, now: float) -> float | None:
    """Return when a Tick is due if nothing else happens before."""
    times = [machine.next_deadline(s.rounds), s.detector.next_check(now)]
    return min((time for time in times if time is not None), default=None)
