"""What every member does for a microbatch: forward, pass on, backward, count; and find a detour
when the next peer is gone or late.
"""

from dataclasses import replace

from skerry.protocol.errors import ProtocolError
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.actions import Action
from skerry.protocol.rings.detours import MISSED_STAGES
from skerry.protocol.rings.events import ComputeFailed
from skerry.protocol.rings.pacing import micros
from skerry.protocol.rings.plan import ORIGIN, Route, check_route, counted_stages
from skerry.protocol.rings.routes import detour, member_at, missed, next_hop, previous_hop
from skerry.protocol.rings.slots import cancel_detour, drop_visit
from skerry.protocol.rings.state import Detour, RingState, Status, Visit, refuse, tell
from skerry.protocol.rings.tasks import Kind, Task


def on_activation(
    s: RingState, source: int, frame: fr.Frame, body: fr.Activation, payload: bytes, now: float
) -> list[Action]:
    """Compute the forward pass of a microbatch that has a slot here."""
    visit = find_visit(s, frame)
    if isinstance(visit, str):
        return refuse(s, source, visit)
    if visit.status is not Status.RESERVED:
        return refuse(s, source, "duplicate")
    reason = _route_reason(s, visit, source, body.route)
    if reason:
        return refuse(s, source, reason)
    visit.route, visit.text_tokens, visit.pace = body.route, body.text_tokens, body.pace
    begin_forward(s, visit, payload, now)
    return []


def begin_forward(s: RingState, visit: Visit, payload: bytes, now: float) -> None:
    """Let the forward pass wait for its turn."""
    visit.status = Status.FORWARD
    stages = visit.route[visit.place.hop].stages
    tokens = visit.text_tokens
    task = Task(Kind.FORWARD, visit.at, visit.place, stages, (), tokens, payload)
    s.queue.put(task, now)


def on_forward_done(s: RingState, visit: Visit, payload: bytes, now: float) -> list[Action]:
    """Pass the output on, and tell whoever sent the input that it is no longer needed there."""
    visit.status, visit.output = Status.PASSED_ON, payload
    actions: list[Action] = []
    if visit.place.hop > 0:
        before = previous_hop(visit.route, visit.place.hop)
        upstream = member_at(visit.route, before)
        actions = tell(s, upstream, visit.at, visit.place, fr.Passed())
    return actions + pass_on(s, visit, now)


def pass_on(s: RingState, visit: Visit, now: float) -> list[Action]:
    """Give the output to the next peer; if that one is gone, find another way."""
    hop = next_hop(visit.route, visit.place.hop)
    member = member_at(visit.route, hop)
    if member in s.down:
        return _find_detour(s, visit, member, now)
    assert visit.output is not None
    visit.sent_to[member] = now
    visit.due = now + s.hop_patience.seconds
    body = fr.Activation(visit.route, visit.text_tokens, _own_pace(s, visit))
    place = replace(visit.place, hop=hop)
    return tell(s, member, visit.at, place, body, visit.output)


def on_passed(s: RingState, source: int, frame: fr.Frame, now: float) -> list[Action]:
    """The next peer has computed its part: its input need not be kept here any more."""
    found = [
        visit
        for visit in s.visits.values()
        if (visit.at, visit.place.microbatch) == (frame.fence.at, frame.place.microbatch)
        and visit.place.attempt == frame.place.attempt
        and source in visit.sent_to
        and next_hop(visit.route, visit.place.hop) == frame.place.hop
    ]
    if not found:
        return []  # a late peer that was routed around, or an attempt that is over
    visit = found[0]
    s.hop_patience.observe(now - visit.sent_to[source])
    visit.output = visit.due = None
    return cancel_detour(s, visit)


def on_gradient(
    s: RingState, source: int, frame: fr.Frame, body: fr.Gradient, payload: bytes, now: float
) -> list[Action]:
    """Compute the input gradient of a visit; at the first hop there are only weights."""
    visit = find_visit(s, frame)
    if isinstance(visit, str):
        return refuse(s, source, visit)
    if visit.status is not Status.PASSED_ON:
        early = visit.status < Status.PASSED_ON
        return refuse(s, source, "early-gradient" if early else "duplicate")
    if source not in visit.sent_to:
        return refuse(s, source, "not-neighbour")
    visit.pace, visit.output, visit.due = body.pace, None, None
    actions = cancel_detour(s, visit)
    if visit.place.hop > 0:
        visit.status = Status.BACKWARD
        s.queue.put(_task(visit, Kind.INPUT_GRADIENT, (), payload), now)
    else:
        _await_weights(s, visit, payload, now)
    return actions


def on_input_gradient_done(s: RingState, visit: Visit, payload: bytes, now: float) -> list[Action]:
    """Ship the gradient first; the weights can wait."""
    hop = previous_hop(visit.route, visit.place.hop)
    member = member_at(visit.route, hop)
    if member in s.down:
        return complain(s, visit, member, "peer-down")
    place = replace(visit.place, hop=hop)
    _await_weights(s, visit, b"", now)
    return tell(s, member, visit.at, place, fr.Gradient(_own_pace(s, visit)), payload)


def on_weight_gradient_done(s: RingState, visit: Visit) -> list[Action]:
    """The visit has done all it can; its slot is free if the origin says so."""
    visit.status = Status.COUNTED
    s.busy.compute.observe(visit.compute_s)
    return drop_visit(s, visit) if visit.released else []


def count(s: RingState, task: Task) -> None:
    """Note, as a computation begins, whose gradients it adds to."""
    for stage in task.counts:
        s.books[task.at].counted[stage, task.place.microbatch] = task.text_tokens


def asked(s: RingState, source: int, frame: fr.Frame) -> bool:
    """Say whether this peer has asked that one for a slot, to route around another."""
    return _asking(s, source, frame) is not None


def on_compute_failed(s: RingState, visit: Visit, event: ComputeFailed, now: float) -> list[Action]:
    """Nothing came of a computation: this attempt cannot go on. Who sent rubbish is named."""
    assert isinstance(event.work, Task)
    culprit, actions = s.me, list[Action]()
    if event.of_input:
        culprit = _before(visit) if event.work.kind is Kind.FORWARD else _next(visit)
        actions = blame(s, culprit, event.reason, now)
    actions += complain(s, visit, culprit, event.reason)
    if event.work.kind is Kind.WEIGHT_GRADIENT:
        visit.status = Status.COUNTED
        actions += drop_visit(s, visit) if visit.released else []
    return actions


def on_grant(s: RingState, source: int, frame: fr.Frame, now: float) -> list[Action]:
    """Another host of the next stage has a slot: give it the output, and tell the origin."""
    visit = _asking(s, source, frame)
    if visit is None or visit.detour is None:
        place = frame.place
        return tell(s, source, frame.fence.at, place, fr.Release(done=False))
    route, culprit = visit.detour.route, visit.detour.culprit
    visit.route, visit.detour = route, None
    told = tell(s, ORIGIN, visit.at, visit.place, fr.Rerouted(route, culprit))
    return told + pass_on(s, visit, now)


def on_refusal(s: RingState, source: int, frame: fr.Frame, now: float) -> list[Action]:
    """That host has no slot: try the next."""
    visit = _asking(s, source, frame)
    if visit is None or visit.detour is None:
        return []
    culprit, visit.detour = visit.detour.culprit, None
    visit.tried.add(source)
    return _find_detour(s, visit, culprit, now)


def on_neighbour_down(s: RingState, member: int, now: float) -> list[Action]:
    """Route around a peer that is gone, or tell the origin that an attempt cannot go on."""
    actions: list[Action] = []
    for visit in list(s.visits.values()):
        if visit.detour is not None and visit.detour.route[visit.detour.hop].member == member:
            culprit, visit.detour = visit.detour.culprit, None
            actions += _find_detour(s, visit, culprit, now)
        elif visit.output is not None and visit.detour is None and _next(visit) == member:
            actions += _find_detour(s, visit, member, now)
        elif Status.FORWARD <= visit.status <= Status.BACKWARD and _before(visit) == member:
            actions += complain(s, visit, member, "peer-down")
    return actions


def on_late(s: RingState, now: float) -> list[Action]:
    """Route around neighbours that take too long, where there is another way."""
    actions: list[Action] = []
    for visit in list(s.visits.values()):
        if visit.detour is not None and now >= visit.detour.due:
            visit.tried.add(visit.detour.route[visit.detour.hop].member)
            culprit = visit.detour.culprit
            actions += cancel_detour(s, visit) + _find_detour(s, visit, culprit, now)
        elif visit.due is not None and visit.detour is None and now >= visit.due:
            actions += _pass_by(s, visit, now)
    return actions


def complain(s: RingState, visit: Visit, culprit: int, reason: str) -> list[Action]:
    """Tell the origin, once, that this attempt cannot go on from here."""
    if visit.complained:
        return []
    visit.complained = True
    return tell(s, ORIGIN, visit.at, visit.place, fr.Failed(culprit, reason))


def blame(s: RingState, member: int, reason: str, now: float) -> list[Action]:
    """Count what a member sent against it, and pass it by for a while, if there is another way."""
    if member == s.me:
        return []
    if member != ORIGIN:
        s.banned[member] = now + s.rules.ban_s
    return refuse(s, member, reason)


def find_visit(s: RingState, frame: fr.Frame) -> Visit | str:
    """Return the visit that a frame belongs to, or why there is none."""
    place = frame.place
    visit = s.visits.get((frame.fence.at, place.microbatch, place.hop))
    if visit is not None and visit.place == place:
        return visit
    seen = s.books[frame.fence.at].attempts.get((place.microbatch, place.hop), 0)
    return "stale-attempt" if place.attempt <= seen else "unreserved"


def _pass_by(s: RingState, visit: Visit, now: float) -> list[Action]:
    late = _next(visit)
    s.hop_patience.observe(now - visit.sent_to[late])
    visit.due = None
    actions = _find_detour(s, visit, late, now)
    if late != _next(visit) or visit.detour is not None:
        known = late in s.avoided(now)
        s.banned[late] = now + s.rules.ban_s
        actions += [] if known else refuse(s, late, "late")
    return actions


def _find_detour(s: RingState, visit: Visit, culprit: int, now: float) -> list[Action]:
    """Ask another host of the next stage for a slot, pass the stage over, or give up."""
    hop = next_hop(visit.route, visit.place.hop)
    if hop == len(visit.route):
        return []  # without the origin there is nobody to train for
    visit.tried.add(culprit)
    avoid = s.avoided(now) | visit.tried | {s.me}
    route = _detour(s, visit.route, hop, avoid)
    if route is None and culprit not in s.down | visit.sent_to.keys():
        return pass_on(s, visit, now)  # it has come back meanwhile
    if route is None and culprit not in s.down:
        visit.due = now + s.hop_patience.seconds  # nobody else can do it, so it may take its time
        return []
    if route is None:
        visit.due = None
        return complain(s, visit, culprit, "no-host")
    if not route[hop].stages:
        visit.route, visit.tried = route, set()
        told = tell(s, ORIGIN, visit.at, visit.place, fr.Rerouted(route, culprit))
        return told + pass_on(s, visit, now)
    visit.detour = Detour(route, hop, culprit, now + s.hop_patience.seconds)
    place = replace(visit.place, hop=hop)
    return tell(s, route[hop].member, visit.at, place, fr.Reserve(route))


def _detour(s: RingState, route: Route, hop: int, avoid: set[int]) -> Route | None:
    return detour(s.plan, s.ring_number, route, hop, avoid, s.rules.most_skipped)


def _asking(s: RingState, source: int, frame: fr.Frame) -> Visit | None:
    """Return the visit for which this peer was asked for a slot."""
    for visit in s.visits.values():
        asked = visit.detour
        if asked is None or asked.route[asked.hop].member != source:
            continue
        place = replace(visit.place, hop=asked.hop)
        if (visit.at, place) == (frame.fence.at, frame.place):
            return visit
    return None


def _route_reason(s: RingState, visit: Visit, source: int, route: Route) -> str:
    """Return why an activation's route is not acceptable; empty if it is."""
    try:
        check_route(s.ring, route)
    except ProtocolError as error:
        return error.reason
    hop = visit.place.hop
    if hop >= len(route) or route[hop:] != visit.route[hop:]:
        return "wrong-hop"  # what comes from here on is not for those before to change
    if missed(s.plan, route) > s.most_missed:
        return MISSED_STAGES
    sender = member_at(route, previous_hop(route, hop))
    return "" if sender == source else "not-neighbour"


def _uncounted(s: RingState, visit: Visit) -> tuple[int, ...]:
    counted = s.books[visit.at].counted
    stages = counted_stages(visit.route, visit.place.hop)
    return tuple(stage for stage in stages if (stage, visit.place.microbatch) not in counted)


def _await_weights(s: RingState, visit: Visit, payload: bytes, now: float) -> None:
    """Let the weight gradient wait for its turn, if the microbatch is not counted yet."""
    counts = _uncounted(s, visit)
    visit.status = Status.SHIPPED if counts else Status.COUNTED
    if counts:
        s.queue.put(_task(visit, Kind.WEIGHT_GRADIENT, counts, payload), now)


def _task(visit: Visit, kind: Kind, counts: tuple[int, ...], payload: bytes) -> Task:
    stages = visit.route[visit.place.hop].stages
    return Task(kind, visit.at, visit.place, stages, counts, visit.text_tokens, payload)


def _own_pace(s: RingState, visit: Visit) -> fr.Pace:
    return fr.Pace(visit.pace.queued_us, max(visit.pace.bottleneck_us, s.busy.bottleneck_us))


def uncount(s: RingState, task: Task) -> None:
    """Take back what was noted when a computation began that has added to no gradient after all."""
    for stage in task.counts:
        del s.books[task.at].counted[stage, task.place.microbatch]


def add_wait(visit: Visit, seconds: float) -> None:
    """Add what a computation of this visit has waited for its turn."""
    queued = visit.pace.queued_us + micros(seconds)
    visit.pace = replace(visit.pace, queued_us=queued)


def _next(visit: Visit) -> int:
    return member_at(visit.route, next_hop(visit.route, visit.place.hop))


def _before(visit: Visit) -> int:
    if visit.place.hop == 0:
        return -1
    return member_at(visit.route, previous_hop(visit.route, visit.place.hop))
