"""The round state machine: apply(state, event, now) -> actions (DESIGN 3 and 7).

No clock, no I/O, no randomness: a recorded list of events and times replays a node exactly.
The edge carries out the actions in order and feeds their results back as events.
"""

from contextlib import suppress
from typing import assert_never

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.messages import SignedCommit, SignedHeartbeat
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.asking import Answer, ask, go_on, is_better
from skerry.protocol.rounds.chain import UNKNOWN_PARENT
from skerry.protocol.rounds.collecting import (
    collect_deadline,
    commit_due,
    hearing_deadline,
    may_publish,
    may_repair,
    note_idle,
    on_announce,
    on_checked,
    on_encoded,
    on_trained,
    progress,
    rejoin,
    resend,
    start_run,
    take_early,
)
from skerry.protocol.rounds.events import Event
from skerry.protocol.rounds.following import (
    consider,
    on_applied,
    on_compute_lost,
    on_gathered,
    on_load_failed,
    on_loaded,
    plan,
    unban,
)
from skerry.protocol.rounds.holding import keeps_shards
from skerry.protocol.rounds.membership import learn
from skerry.protocol.rounds.ordering import keep_orders, learn_orders, on_order, tell
from skerry.protocol.rounds.pausing import note_rest, on_paused, on_resumed
from skerry.protocol.rounds.planning import ask_plan, on_planned
from skerry.protocol.rounds.state import Phase, Position, RoundState, leads
from skerry.protocol.rounds.takeover import take_over, takeover_due
from skerry.protocol.rounds.trust import on_finding, on_tried

MOVING = {Phase.STARTING, Phase.LOADING, Phase.FETCHING, Phase.APPLYING}


def apply(s: RoundState, event: Event, now: float) -> list[Action]:
    """Take in one event and return what is to be done, in order.

    ``now`` is monotonic seconds and never runs backwards.
    """
    moved = s.phase in MOVING
    actions = _dispatch(s, event, now)
    if moved and s.phase not in MOVING:
        actions += start_run(s) + take_early(s, now)
    return actions + ask_plan(s, now)


def next_deadline(s: RoundState) -> float | None:
    """Return when the next Tick is due, if nothing else happens before."""
    times = [s.retry_at] if s.retry_at is not None else []
    if s.phase is Phase.TRAINING and not s.finishing:
        times.append(s.round_since + s.deadline.seconds)
    if s.phase is Phase.COLLECTING:
        if s.own is not None:
            times.append(s.resent_at + s.rules.grace)
        if s.unheard:
            times.append(hearing_deadline(s))
        if not leads(s) or s.published_view != s.view:
            times.append(commit_due(s))
        if may_publish(s) or may_repair(s):
            times.append(max(collect_deadline(s), s.view_since))
    takeover = takeover_due(s)
    if takeover is not None:
        times.append(takeover)
    return min(times, default=None)


def _dispatch(s: RoundState, event: Event, now: float) -> list[Action]:
    match event:
        case ev.Restored():
            return _on_restored(s, event)
        case ev.ComputeReady():
            return _on_compute_ready(s, event, now)
        case ev.ComputeLost():
            return on_compute_lost(s, now)
        case ev.StateLoaded():
            return on_loaded(s, event, now)
        case ev.StateFailed():
            return on_load_failed(s, event, now)
        case ev.Trained():
            return on_trained(s, event, now)
        case ev.Encoded():
            return on_encoded(s, event, now)
        case ev.AnnounceReceived():
            return on_announce(s, event.announce, now)
        case ev.Checked():
            return on_checked(s, event, now)
        case ev.CommitsReceived():
            return _on_commits(s, event, now)
        case ev.Gathered():
            return on_gathered(s, event, now)
        case ev.Applied():
            return on_applied(s, event, now)
        case ev.Tried():
            return on_tried(s, event)
        case ev.FindingReceived():
            return on_finding(s, event.finding)
        case ev.OrderReceived():
            return on_order(s, event.order, event.source)
        case ev.Planned():
            return on_planned(s, event) + start_run(s)
        case ev.MemberLearned():
            learn(s, event.member, event.hearsay)
            return start_run(s)
        case ev.HeartbeatReceived():
            return _on_heartbeat(s, event.heartbeat, now)
        case ev.PeerUp():
            return _on_peer_up(s, event.peer, now)
        case ev.PeerDown():
            s.suspects.add(event.peer)
            return _on_peer_down(s, event.peer, now)
        case ev.PeerDead():
            s.suspects.discard(event.peer)
            return _on_peer_down(s, event.peer, now)
        case ev.PeerEvicted():
            s.suspects.discard(event.peer)
            s.slowness.told.pop(event.peer, None)
            return []
        case ev.Paused():
            return on_paused(s, now)
        case ev.Resumed():
            return on_resumed(s, now)
        case ev.Tick():
            return _on_tick(s, now)
        case _:
            assert_never(event)


def _on_restored(s: RoundState, event: ev.Restored) -> list[Action]:
    for commit in event.commits:
        try:
            _link(s, commit)
        except ProtocolError as error:
            if error.reason == UNKNOWN_PARENT:  # it was never written, or lost; others have it
                s.strays.setdefault(commit.message.parent, []).append(commit)
    keep_orders(s, event.orders)
    s.states = {state.digest: state for state in event.states}
    s.begun = frozenset(event.begun)
    s.history = {announce.message.parent: announce for announce in event.own}
    return []


def _link(s: RoundState, commit: SignedCommit) -> None:
    """Add a commit, and those stored that build on it. Raises: ProtocolError if it is not valid."""
    s.chain.add(commit)
    added = [commit]
    while added:
        newest = added.pop()
        _learn_members(s, newest)
        learn_orders(s, newest)
        for stray in s.strays.pop(CommitHash(newest.hash), ()):
            with suppress(ProtocolError):
                s.chain.add(stray)
                added.append(stray)


def _on_compute_ready(s: RoundState, event: ev.ComputeReady, now: float) -> list[Action]:
    for parent in event.ledger:
        s.history.setdefault(parent, None)
    if event.hosting != s.hosting:
        return [act.Host(s.hosting)]  # it was being started when the plan changed
    if not s.hosted:
        s.held = ()
    s.encoding = None  # a process that is just up owes nothing
    s.phase, s.goal = Phase.LOADING, None
    return plan(s, now)


def _on_commits(s: RoundState, event: ev.CommitsReceived, now: float) -> list[Action]:
    actions: list[Action] = []
    new: list[SignedCommit] = []
    taken, refused = -1, ""
    for commit in event.commits:
        if CommitHash(commit.hash) not in s.chain:
            try:
                _link(s, commit)
            except ProtocolError as error:
                refused = error.reason
                break
            new.append(commit)
        taken = commit.message.round
    if new:
        actions.append(act.StoreCommits(tuple(new)))
    if refused not in ("", UNKNOWN_PARENT):
        actions.append(act.Refuse(event.source, refused))
    elif event.commits and event.source != s.me:
        actions += go_on(s, Answer(event.source, event.commits[0], taken), now)
    return actions + consider(s, now)


def _learn_members(s: RoundState, commit: SignedCommit) -> None:
    for member in commit.message.admissions:
        learn(s, member)


def _on_heartbeat(s: RoundState, heartbeat: SignedHeartbeat, now: float) -> list[Action]:
    beat, peer = heartbeat.message, heartbeat.signer
    s.slowness.hear(peer, beat.block_rate)
    s.positions[peer] = Position(beat.head, beat.head_round, beat.weight)
    actions = note_rest(s, peer, beat.phase == Phase.PAUSED, now) + note_idle(s, peer, beat, now)
    actions += rejoin(s, peer, beat, now)
    if beat.head in s.chain:
        if keeps_shards(s, peer):
            unban(s, beat.head)
        return actions + consider(s, now) + start_run(s)
    if is_better(s, s.positions[peer]):
        actions += ask(s, peer, beat.head_round, now)
    return actions


def _on_peer_up(s: RoundState, peer: PeerId, now: float) -> list[Action]:
    if peer == s.me:
        return []
    s.alive.add(peer)
    s.lost.discard(peer)
    s.suspects.discard(peer)
    s.unheard.discard(peer)
    again: list[Action] = []
    if s.own is not None and s.phase is Phase.COLLECTING:
        again = [act.Broadcast(s.own.envelope, (peer,))]
    return again + tell(s, peer) + start_run(s) + progress(s, now)


def _on_peer_down(s: RoundState, peer: PeerId, now: float) -> list[Action]:
    s.alive.discard(peer)
    s.unheard.discard(peer)
    s.lost.add(peer)
    s.resting.discard(peer)
    s.positions.pop(peer, None)
    return progress(s, now)


def _on_tick(s: RoundState, now: float) -> list[Action]:
    if s.retry_at is not None and now >= s.retry_at:
        s.goal = None
        return plan(s, now)
    if s.phase is Phase.TRAINING and not s.finishing:
        if now < s.round_since + s.deadline.seconds:
            return []
        s.finishing = True
        return [act.FinishTraining()]
    return start_run(s) + resend(s, now) + progress(s, now) + take_over(s, now)
