"""One peer of a ring as a state machine: apply(state, event, now) -> actions (DESIGN 3 and 9).

No clock, no I/O, no randomness. The edge carries the actions out in order and feeds their results
back as events. Frames are fenced here: one of another run, plan, ring or step is refused by name
before anything else looks at it.
"""

from dataclasses import dataclass
from typing import assert_never

from skerry.protocol.ids import PeerId
from skerry.protocol.rings import bypass, hosting, origin, stepping
from skerry.protocol.rings import events as ev
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.actions import Action, Compute, Forget, Refused
from skerry.protocol.rings.driving import Drive, new_drive
from skerry.protocol.rings.plan import ORIGIN, Plan
from skerry.protocol.rings.slots import (
    drop_visit,
    grant_waiting,
    on_release,
    on_reserve,
    open_book,
    open_round,
)
from skerry.protocol.rings.state import RingState, Rules, Visit, new_ring_state, refuse
from skerry.protocol.rings.tasks import Kind, Task


@dataclass(slots=True)
class RingPeer:
    """One peer of a ring: what every member has, and what only the origin has."""

    s: RingState
    d: Drive | None
    """None on every member but the origin."""


def new_ring_peer(me: PeerId, plan: Plan, ring: int, rules: Rules) -> RingPeer:
    """Return a peer at the start of a plan. Raises: ValueError if the ring has no such peer."""
    s = new_ring_state(me, plan, ring, rules)
    return RingPeer(s, new_drive(s.ring, rules) if s.is_origin else None)


def apply(p: RingPeer, event: ev.Event, now: float) -> list[Action]:
    """Take in one event and return what is to be done, in order.

    ``now`` is monotonic seconds and never runs backwards.
    Raises: ValueError if the edge asks for a step that cannot begin.
    """
    actions = _dispatch(p, event, now)
    while True:
        actions += _go_on(p, now)
        if not p.s.loopback:
            return actions
        frame, payload = p.s.loopback.popleft()
        actions += _on_frame(p, p.s.me, frame, payload, now)


def next_deadline(p: RingPeer) -> float | None:
    """Return when the next Tick is due, if nothing else happens before."""
    times = [v.due for v in p.s.visits.values() if v.due is not None and v.detour is None]
    times += [v.detour.due for v in p.s.visits.values() if v.detour is not None]
    if p.d is not None:
        times += [m.attempt.due for m in p.d.active if m.attempt is not None]
        room = len(p.d.active) < p.d.flight.window
        times += [m.not_before for m in p.d.todo if room and m.not_before > p.d.looked_at]
        if p.d.unseen and p.d.todo and p.d.unseen_until and p.d.unseen_until > p.d.looked_at:
            times.append(p.d.unseen_until)
    return min(times, default=None)


def _go_on(p: RingPeer, now: float) -> list[Action]:
    """Do what has become possible: slots, injections, the end of the step, the next computation."""
    s, d = p.s, p.d
    actions = grant_waiting(s)
    if d is not None:
        d.looked_at = now
        actions += origin.inject(s, d, now) + stepping.end_step(s, d)
    if s.running is None and not s.loopback:
        actions += stepping.close_books(s)
    if s.running is None and not s.loopback:
        actions += _start(p, now)
    return actions


def _start(p: RingPeer, now: float) -> list[Action]:
    s = p.s
    taken = s.queue.take(min(s.books, default=s.floor))
    if taken is None:
        return []
    task, since = taken
    visit = _visit_of(s, task)
    if visit is not None:
        hosting.add_wait(visit, now - since)
    elif p.d is not None and task.kind in (Kind.LOSS, Kind.MEASURE):
        origin.add_wait(p.d, task, now - since)
    hosting.count(s, task)
    s.running = task
    return [Compute(task)]


def _dispatch(p: RingPeer, event: ev.Event, now: float) -> list[Action]:
    s, d = p.s, p.d
    match event:
        case ev.BeginStep():
            if d is None:
                raise ValueError("only the origin drives a ring")
            return origin.on_begin(s, d, event, now)
        case ev.RoundOpened(number):
            return open_round(s, number)
        case ev.StagesRebuilt():
            return bypass.on_rebuilt(s, event)
        case ev.CutStep():
            return origin.cut(s, d, event) if d is not None else []
        case ev.FrameReceived(source, frame, payload):
            member = s.ring.member_of(source)
            if member is None or member == s.me:
                return [Refused(source, "not-in-ring")]
            return _on_frame(p, member, frame, payload, now)
        case ev.FrameSent():
            return _on_sent(s, event)
        case ev.Computed():
            return _on_computed(p, event, now)
        case ev.ComputeFailed():
            return _on_compute_failed(p, event, now)
        case ev.PeerUp(peer):
            return _on_peer_up(p, peer)
        case ev.PeerDown(peer):
            return _on_peer_down(p, peer, now)
        case ev.Tick():
            late = hosting.on_late(s, now)
            return late + (origin.on_overdue(s, d, now) if d is not None else [])
        case _:
            assert_never(event)


def _on_frame(
    p: RingPeer, source: int, frame: fr.Frame, payload: bytes, now: float
) -> list[Action]:
    s, d = p.s, p.d
    reason = _fence_reason(s, frame)
    if reason:
        return refuse(s, source, reason)
    match frame.body:
        case fr.Reserve():
            return on_reserve(s, source, frame, frame.body)
        case fr.Release():
            return on_release(s, source, frame, frame.body)
        case fr.StepBegin() if source == ORIGIN:
            return open_book(s, frame.fence.at)
        case fr.StepEnd() if source == ORIGIN:
            return stepping.on_step_end(s, source, frame.fence.at, frame.body)
        case fr.Stepped() if d is not None:
            return stepping.on_stepped(s, d, source, frame.fence.at, frame.body)
        case fr.Rerouted() if d is not None:
            return origin.on_rerouted(s, d, source, frame, frame.body, now)
        case fr.Failed() if d is not None:
            return origin.on_failed(s, d, source, frame, frame.body, now)
        case fr.Rebuilt() if d is not None:
            return origin.on_rebuilt(s, d, source, frame.body)
        case fr.StepBegin() | fr.StepEnd():
            return refuse(s, source, "not-the-origin")
        case fr.Stepped() | fr.Rerouted() | fr.Failed() | fr.Rebuilt():
            return refuse(s, source, "not-the-origin")
        case fr.Passed():
            return hosting.on_passed(s, source, frame, now)
        case fr.Grant():
            if d is not None and not hosting.asked(s, source, frame):
                return origin.on_granted(s, d, source, frame, now)
            return hosting.on_grant(s, source, frame, now)
        case fr.Refuse():
            if d is not None and not hosting.asked(s, source, frame):
                return origin.on_refused(s, d, source, frame, now)
            return hosting.on_refusal(s, source, frame, now)
        case fr.Activation():
            return _on_activation(p, source, frame, frame.body, payload, now)
        case fr.Gradient():
            return _on_gradient(p, source, frame, frame.body, payload, now)
        case _:
            assert_never(frame.body)


def _on_activation(
    p: RingPeer, source: int, frame: fr.Frame, body: fr.Activation, payload: bytes, now: float
) -> list[Action]:
    if frame.fence.at not in p.s.books:
        return refuse(p.s, source, "unreserved")
    if p.d is not None and frame.place.hop == len(body.route):
        return origin.on_returned(p.s, p.d, source, frame, payload, now)
    return hosting.on_activation(p.s, source, frame, body, payload, now)


def _on_gradient(
    p: RingPeer, source: int, frame: fr.Frame, body: fr.Gradient, payload: bytes, now: float
) -> list[Action]:
    s, d = p.s, p.d
    if frame.fence.at not in s.books:
        return refuse(s, source, "unreserved")
    home = d is not None and frame.place.hop == 0
    if d is not None and home:
        microbatch = origin.find(d, frame)
        attempt = microbatch.attempt if microbatch else None
        if attempt is None or not attempt.returned:
            return refuse(s, source, "early-gradient" if attempt else "stale-attempt")
    actions = hosting.on_gradient(s, source, frame, body, payload, now)
    if d is not None and home and not any(isinstance(a, Refused) for a in actions):
        actions += origin.complete(s, d, frame, body.pace, now)
    return actions


def _fence_reason(s: RingState, frame: fr.Frame) -> str:
    """Return why a frame does not belong here; empty if it does."""
    fence = frame.fence
    if fence.run_id != s.rules.run_id:
        return "wrong-run"
    if fence.plan != s.plan.version:
        return "stale-plan" if fence.plan < s.plan.version else "unknown-plan"
    if fence.ring != s.ring_number:
        return "wrong-ring"
    # The last step's end may be told and confirmed again; what was rebuilt is of no step.
    if isinstance(frame.body, fr.StepEnd | fr.Stepped | fr.Rebuilt):
        return ""
    passed = fence.at <= s.floor or (fence.at not in s.books and fence.at < s.newest)
    if passed and isinstance(frame.body, fr.Release | fr.Passed):
        return ""
    return "stale-step" if passed else ""


def _on_sent(s: RingState, event: ev.FrameSent) -> list[Action]:
    if isinstance(event.frame.body, fr.Activation):
        s.busy.forward_upload.observe(event.seconds)
    else:
        s.busy.backward_upload.observe(event.seconds)
    return []


def _on_computed(p: RingPeer, event: ev.Computed, now: float) -> list[Action]:
    s, work = p.s, event.work
    if work != s.running:
        return []
    s.running = None
    if not isinstance(work, Task):
        return stepping.on_step_taken(s, work.at)
    if p.d is not None and work.kind is Kind.LOSS:
        return origin.on_loss(s, p.d, work, event.payload, event.loss)
    if p.d is not None and work.kind is Kind.MEASURE:
        return origin.on_measured(s, p.d, work, event.loss)
    visit = _visit_of(s, work)
    if visit is None:
        return [Forget(work.at, work.place)]  # its attempt was ended meanwhile
    visit.compute_s += event.seconds
    match work.kind:
        case Kind.FORWARD:
            return hosting.on_forward_done(s, visit, event.payload, now)
        case Kind.INPUT_GRADIENT:
            return hosting.on_input_gradient_done(s, visit, event.payload, now)
        case _:
            return hosting.on_weight_gradient_done(s, visit)


def _on_compute_failed(p: RingPeer, event: ev.ComputeFailed, now: float) -> list[Action]:
    s, work = p.s, event.work
    if work != s.running:
        return []
    s.running = None
    if not isinstance(work, Task):
        s.books[work.at].reason = event.reason
        return stepping.on_step_taken(s, work.at)
    hosting.uncount(s, work)
    visit = _visit_of(s, work)
    if visit is not None:
        return hosting.on_compute_failed(s, visit, event, now)
    if p.d is not None and work.kind in (Kind.LOSS, Kind.MEASURE):
        return origin.on_loss_failed(s, p.d, work, event, now)
    return []


def _on_peer_up(p: RingPeer, peer: PeerId) -> list[Action]:
    member = p.s.ring.member_of(peer)
    if member is None or member == p.s.me:
        return []
    p.s.down.discard(member)
    if p.d is not None:
        p.d.unseen.discard(member)
    p.s.banned.pop(member, None)
    if p.d is not None:
        return stepping.tell_again(p.s, p.d, member)
    return bypass.tell_origin(p.s) if member == ORIGIN else []


def _on_peer_down(p: RingPeer, peer: PeerId, now: float) -> list[Action]:
    s, member = p.s, p.s.ring.member_of(peer)
    if member is None or member == s.me or member in s.down:
        return []
    s.down.add(member)
    if member == ORIGIN:
        s.waiting.clear()
        return [action for v in list(s.visits.values()) for action in drop_visit(s, v)]
    actions = hosting.on_neighbour_down(s, member, now)
    return actions + (origin.on_member_down(s, p.d, member, now) if p.d is not None else [])


def _visit_of(s: RingState, task: Task) -> Visit | None:
    visit = s.visits.get((task.at, task.place.microbatch, task.place.hop))
    return visit if visit is not None and visit.place == task.place else None
