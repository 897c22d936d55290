"""The node's pure core: apply(state, event, now) -> actions (DESIGN 3).

Joins the round state machine, the failure detector and the register of who is alive, suspect, dead
or evicted. Everything that decides anything goes through here, so a recorded list of events and
times replays a node exactly (record.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Heartbeat, SignedHeartbeat
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import machine
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.events import (
    Event,
    HeartbeatReceived,
    PeerDead,
    PeerDown,
    PeerEvicted,
    PeerUp,
)
from skerry.protocol.rounds.state import RoundState
from skerry.recovery.detector import Detector
from skerry.recovery.standing import Evidence, Register, Sign, Standing, Turn

_LATE = Sign.LATE, "it did not answer in time"
_REFUSED = Sign.REFUSED, "there is no connection to it"
LEAVING = "leaving"
"""Phase in the last heartbeat of a peer that leaves on purpose."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A request to a peer failed."""

    peer: PeerId
    refused: bool = False
    """It failed before its deadline: there is no connection."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection to a peer broke, or the peer has ended it."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Network:
    """The own transport went down, or is back."""

    up: bool


NodeEvent = Event | Unreachable | Closed | Network


@dataclass(slots=True)
class NodeState:
    """All that a node knows of its run."""

    rounds: RoundState
    detector: Detector
    register: Register
    turns: tuple[Turn, ...] = ()
    """Who stands elsewhere since the newest event."""


def apply(s: NodeState, event: NodeEvent, now: float) -> list[Action]:
    """Take in one event and return what is to be done, in order."""
    turns: list[Turn] = []
    match event:
        case HeartbeatReceived() if event.heartbeat.message.phase == LEAVING:
            s.turns = ()
            return _gone(s, event.heartbeat.signer, now)
        case HeartbeatReceived():
            turns += _heard(s, event.heartbeat, now)
        case Unreachable() if not s.detector.suspended:
            s.detector.unreachable(event.peer, now)
            sign, said = _REFUSED if event.refused else _LATE
            turns += _doubt(s, event.peer, sign, said, now)
        case Closed() if not s.detector.suspended:
            s.detector.unreachable(event.peer, now)
            turns += _doubt(s, event.peer, Sign.CLOSED, "the connection to it broke", now)
        case Network(up=True):
            s.detector.resume(now)
            s.register.excuse(now)
        case Network():
            s.detector.suspend()
        case _:
            pass
    actions: list[Action] = []
    if isinstance(event, Closed) and turns:
        actions.append(act.Present())  # tells the others; and if it lives, it is heard soon
    actions += _look(s, turns, now)
    s.turns = tuple(turns)
    if not isinstance(event, Unreachable | Closed | Network):
        known = set(s.rounds.members)
        actions += machine.apply(s.rounds, event, now)
        _forget(s, known - s.rounds.members.keys())
    return actions


def next_deadline(s: NodeState, now: float) -> float | None:
    """Return when a Tick is due if nothing else happens before."""
    times = [machine.next_deadline(s.rounds), s.detector.next_check(now)]
    if not s.detector.suspended:
        times.append(s.register.next_check())
    return min((time for time in times if time is not None), default=None)


def _forget(s: NodeState, peers: Iterable[PeerId]) -> None:
    """Keep nothing of peers that have made room for others."""
    for peer in peers:
        s.detector.forget(peer)
        s.register.left(peer)


def _gone(s: NodeState, peer: PeerId, now: float) -> list[Action]:
    """Take leave of a peer that goes on purpose: there is nothing to find out about it."""
    s.detector.forget(peer)
    s.register.left(peer)
    return machine.apply(s.rounds, PeerDead(peer), now)


def _heard(s: NodeState, heartbeat: SignedHeartbeat, now: float) -> list[Turn]:
    teller, beat = heartbeat.signer, heartbeat.message
    s.detector.heard(teller, now)
    turns = s.register.heard(teller, _is_current(s.rounds, beat), now)
    for peer in beat.doubts:
        if peer != teller and not s.detector.suspended:
            said = Evidence(Sign.REPORTED, now, teller, "another peer has lost it, too")
            turns += s.register.doubted(peer, said)
    return turns


def _is_current(s: RoundState, beat: Heartbeat) -> bool:
    """Say whether a peer follows the plan in force, or a newer one."""
    if beat.head not in s.chain:
        return beat.head_round > s.chain.round_of(s.at)
    theirs, ours = s.chain.settings(beat.head).hosts.plan, s.hosts.plan
    return ours is None or (theirs is not None and theirs.version >= ours.version)


def _doubt(s: NodeState, peer: PeerId, sign: Sign, detail: str, now: float) -> list[Turn]:
    return s.register.doubted(peer, Evidence(sign, now, s.rounds.me, detail))


def _look(s: NodeState, turns: list[Turn], now: float) -> list[Action]:
    """Tell the rounds who has come or fallen silent, and who is given up; add to ``turns``."""
    actions: list[Action] = []
    for change in s.detector.changes(now):
        if change.up:
            actions += machine.apply(s.rounds, PeerUp(change.peer), now)
            continue
        said = f"nothing heard of it for {change.silent_s:.1f} s"
        turns += _doubt(s, change.peer, Sign.SILENT, said, now)
        fenced = (s.register.standing(change.peer) or Standing.ALIVE) >= Standing.DEAD
        down = PeerDead(change.peer) if fenced else PeerDown(change.peer)
        actions += machine.apply(s.rounds, down, now)
    if s.detector.suspended:
        return actions
    given_up = s.register.turns(now)
    turns += given_up
    return actions + _give_up(s, given_up, now)


def _give_up(s: NodeState, turns: Iterable[Turn], now: float) -> list[Action]:
    actions: list[Action] = []
    for turn in turns:
        if turn.after is Standing.DEAD:
            s.detector.forget(turn.peer)  # whatever is heard of it now is a return
            actions += machine.apply(s.rounds, PeerDead(turn.peer), now)
            actions.append(act.GiveUp(turn.peer))
        else:
            actions += machine.apply(s.rounds, PeerEvicted(turn.peer), now)
    return actions
