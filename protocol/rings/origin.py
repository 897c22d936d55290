"""The origin's part: draw a path, reserve it, inject, and begin anew what failed (DESIGN 9, 10).

A microbatch is done when its gradient is back at the first hop. Until then any failure ends the
attempt everywhere and begins another, with a higher number, on the same hosts as far as they are
there: a host that has counted the microbatch already computes it again, but does not count it.
"""

from collections import deque

from skerry.protocol.rings import bypass, detours, doubles
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.actions import Action, Note
from skerry.protocol.rings.driving import Attempt, Drive, Held, Microbatch
from skerry.protocol.rings.events import BeginStep, ComputeFailed, CutStep
from skerry.protocol.rings.hosting import begin_forward, blame
from skerry.protocol.rings.pacing import micros
from skerry.protocol.rings.plan import HEAD, ORIGIN, Route
from skerry.protocol.rings.routes import member_at, previous_hop, repaired
from skerry.protocol.rings.state import RingState, refuse, tell
from skerry.protocol.rings.tasks import Kind, Task

OUTLIER = "outlier"
"""Why a payload is refused that is unlike those before it (pipeline/stages/outliers.py)."""
MOST_OUTLIERS = 2
"""Attempts at one microbatch: it may be the text that is unusual, and not a peer."""


def on_begin(s: RingState, d: Drive, event: BeginStep, now: float) -> list[Action]:
    """Begin an inner step. Raises: ValueError if one is being driven or it is not a later one."""
    at = (event.round, event.step)
    if d.at is not None or at <= s.newest:
        raise ValueError(f"step {at} cannot begin: {d.at or s.newest} is there")
    d.at, d.redone, d.ended, d.forward_only = at, 0, False, event.forward_only
    d.last = event.last
    if d.unseen_until is None:
        d.unseen_until = now + s.rules.attempt_min_s
    d.todo.clear()
    d.microbatches = tuple(
        Microbatch(number, tokens, not_before=now)
        for number, tokens in enumerate(event.text_tokens)
    )
    if event.doubled is not None:
        double = doubles.double_of(d.microbatches, event.doubled, now)
        d.microbatches = (*d.microbatches, double)
    d.todo.extend(d.microbatches)
    bypass.begin_step(s, d)
    actions: list[Action] = []
    for member in range(len(s.ring.members)):
        actions += tell(s, member, at, fr.Place(), fr.StepBegin())
    return actions


def inject(s: RingState, d: Drive, now: float) -> list[Action]:
    """Reserve paths for as many microbatches as are to be on their way."""
    actions: list[Action] = []
    if d.unseen and d.unseen_until is not None and now < d.unseen_until:
        return actions
    for microbatch in list(d.todo):
        if len(d.active) >= d.flight.window:
            break
        if microbatch.not_before > now:
            continue
        if microbatch.original is not None:
            actions += _double(s, d, microbatch, now)
            continue
        route = _route_for(s, d, microbatch, now)
        if route is None:
            break
        d.todo.remove(microbatch)
        way = bypass.bypassed(s, d, microbatch, route)
        bypass.set_out(d, way)
        actions += _reserve(s, d, microbatch, way, now)
    return actions


def on_granted(s: RingState, d: Drive, source: int, frame: fr.Frame, now: float) -> list[Action]:
    """When all slots of a route are granted, the microbatch goes on its way."""
    microbatch = find(d, frame)
    attempt = microbatch.attempt if microbatch else None
    if microbatch is None or attempt is None:
        return refuse(s, source, "stale-attempt")
    attempt.ungranted.discard((source, frame.place.hop))
    if attempt.ungranted or attempt.injected_at is not None:
        return []
    attempt.injected_at, microbatch.on_its_way = now, True
    attempt.due = now + d.patience.seconds
    visit = s.visits[frame.fence.at, frame.place.microbatch, 0]
    visit.text_tokens = microbatch.text_tokens
    begin_forward(s, visit, b"", now)
    return []


def on_refused(s: RingState, d: Drive, source: int, frame: fr.Frame, now: float) -> list[Action]:
    """A member has no slot, although all of them are this origin's: wait a little."""
    microbatch = find(d, frame)
    attempt = microbatch.attempt if microbatch else None
    if microbatch is None or attempt is None or (source, frame.place.hop) not in attempt.ungranted:
        return refuse(s, source, "stale-attempt")
    microbatch.held_up_by = source
    return retry(s, d, microbatch, now, pause=True)


def on_returned(
    s: RingState, d: Drive, source: int, frame: fr.Frame, payload: bytes, now: float
) -> list[Action]:
    """The forward pass is back: compute the loss. Its route is the one that was really taken."""
    assert isinstance(frame.body, fr.Activation)
    microbatch = find(d, frame)
    attempt = microbatch.attempt if microbatch else None
    if microbatch is None or attempt is None:
        return refuse(s, source, "stale-attempt")
    if attempt.returned or attempt.injected_at is None:
        return refuse(s, source, "duplicate" if attempt.returned else "early-activation")
    route = frame.body.route
    reason = detours.returned_reason(s, attempt, source, route)
    if reason in detours.LIES:
        return _disbelieve(s, d, microbatch, source, reason, now)
    if reason:
        return refuse(s, source, reason)
    if not detours.is_announced(attempt, route):
        attempt.held = Held(source, frame, payload)
        return []
    attempt.returned, attempt.route, attempt.pace = True, route, frame.body.pace
    attempt.touched |= {(hop.member, i) for i, hop in enumerate(route) if hop.stages}
    attempt.held = None
    place = fr.Place(microbatch.number, attempt.place.attempt, len(attempt.route))
    counted = (HEAD, microbatch.number) in s.books[frame.fence.at].counted
    measures = d.forward_only or microbatch.original is not None
    counts = () if counted or measures else (HEAD,)
    tokens, kind = microbatch.text_tokens, Kind.MEASURE if measures else Kind.LOSS
    s.queue.put(Task(kind, frame.fence.at, place, (), counts, tokens, payload), now)
    return tell(s, source, frame.fence.at, place, fr.Passed())


def on_loss(s: RingState, d: Drive, task: Task, payload: bytes, loss: float) -> list[Action]:
    """Send the gradient on its way back."""
    microbatch, attempt = current(d, task)
    if microbatch is None or attempt is None:
        return []
    microbatch.loss = loss
    hop = previous_hop(attempt.route, len(attempt.route))
    member = member_at(attempt.route, hop)
    place = fr.Place(microbatch.number, attempt.place.attempt, hop)
    pace = fr.Pace(attempt.pace.queued_us, max(attempt.pace.bottleneck_us, s.busy.bottleneck_us))
    return tell(s, member, task.at, place, fr.Gradient(pace), payload)


def on_measured(s: RingState, d: Drive, task: Task, loss: float) -> list[Action]:
    """The loss is all that was wanted of this microbatch: nobody has to count it."""
    microbatch, attempt = current(d, task)
    if microbatch is None or attempt is None:
        return []
    microbatch.loss, microbatch.trained, microbatch.attempt = loss, attempt.route, None
    compared = doubles.compare(s, microbatch) if microbatch.original is not None else []
    return compared + _release(s, task.at, attempt, set())


def add_wait(d: Drive, task: Task, seconds: float) -> None:
    """Add what a loss has waited for its turn to the pace of its microbatch."""
    _, attempt = current(d, task)
    if attempt is not None:
        queued = attempt.pace.queued_us + micros(seconds)
        attempt.pace = fr.Pace(queued, attempt.pace.bottleneck_us)


def on_loss_failed(
    s: RingState, d: Drive, task: Task, event: ComputeFailed, now: float
) -> list[Action]:
    """What came back cannot be used: begin the microbatch anew."""
    microbatch, attempt = current(d, task)
    if microbatch is None or attempt is None:
        return []
    culprit = member_at(attempt.route, previous_hop(attempt.route, len(attempt.route)))
    actions: list[Action] = []
    if event.of_input:
        actions = blame(s, culprit, event.reason, now)
    return actions + _begin_anew(s, d, microbatch, event.reason, culprit, task.place.hop, now)


def complete(s: RingState, d: Drive, frame: fr.Frame, pace: fr.Pace, now: float) -> list[Action]:
    """The gradient is back at the first hop: this microbatch is trained."""
    microbatch = find(d, frame)
    assert microbatch is not None and microbatch.attempt is not None
    attempt = microbatch.attempt
    assert attempt.injected_at is not None
    microbatch.trained, microbatch.attempt = attempt.route, None
    d.patience.observe(now - attempt.injected_at)
    d.suspicion.came_back({hop.member for hop in attempt.route if hop.stages} - {ORIGIN})
    d.flight.observe(now - attempt.injected_at, pace)
    taken = {(hop.member, i) for i, hop in enumerate(attempt.route) if hop.stages or i == 0}
    return _release(s, frame.fence.at, attempt, taken)


def on_rerouted(
    s: RingState, d: Drive, source: int, frame: fr.Frame, body: fr.Rerouted, now: float
) -> list[Action]:
    """A hop has found another way: remember whose slots are to be freed, and who was at fault."""
    microbatch = find(d, frame)
    if microbatch is None or microbatch.attempt is None:
        return []
    attempt = microbatch.attempt
    reason = detours.announced_reason(s, attempt, source, frame.place.hop, body.route)
    if reason in detours.LIES:
        return _disbelieve(s, d, microbatch, source, reason, now)
    if reason:
        return refuse(s, source, reason)
    detours.announce(attempt, source, frame.place.hop, body.route)
    if _is_involved(attempt, source):
        attempt.touched |= {(hop.member, i) for i, hop in enumerate(body.route) if hop.stages}
        attempt.due = now + d.patience.seconds
        ban(s, body.culprit, now, s.rules.ban_s)
    held = attempt.held  # the microbatch itself may have been faster
    return on_returned(s, d, held.source, held.frame, held.payload, now) if held else []


def on_failed(
    s: RingState, d: Drive, source: int, frame: fr.Frame, body: fr.Failed, now: float
) -> list[Action]:
    """An attempt cannot go on: begin another."""
    microbatch = find(d, frame)
    if microbatch is None or microbatch.attempt is None:
        return []
    involved = _is_involved(microbatch.attempt, source)
    if body.culprit >= len(s.ring.members) or not involved:
        return refuse(s, source, "not-on-route")
    on_break = body.reason == fr.ROUND_OVER and source == body.culprit
    ban(s, body.culprit, now, s.rules.break_s if on_break else s.rules.ban_s)
    return _begin_anew(s, d, microbatch, body.reason, body.culprit, frame.place.hop, now)


def _begin_anew(
    s: RingState,
    d: Drive,
    microbatch: Microbatch,
    reason: str,
    culprit: int,
    hop: int,
    now: float,
) -> list[Action]:
    """Try a microbatch once more, unless it is an outlier a second time."""
    name = s.ring.members[culprit].peer
    microbatch.outliers += reason == OUTLIER
    if microbatch.outliers < MOST_OUTLIERS:
        note = Note(f"microbatch {microbatch.number} is begun anew: {reason} at {name}")
        return [note, *retry(s, d, microbatch, now)]
    note = Note(f"microbatch {microbatch.number} is left out: {reason} at {name} again")
    return [note, *_leave_out(s, d, microbatch, hop)]


def _disbelieve(
    s: RingState, d: Drive, microbatch: Microbatch, source: int, reason: str, now: float
) -> list[Action]:
    """Name a member that tells of a way that cannot be true; begin anew what it was to carry."""
    attempt = microbatch.attempt
    assert attempt is not None
    actions = blame(s, source, reason, now)
    if not _is_involved(attempt, source):
        return actions
    return actions + _begin_anew(s, d, microbatch, reason, source, attempt.place.hop, now)


def _leave_out(s: RingState, d: Drive, microbatch: Microbatch, hop: int) -> list[Action]:
    """End the step without a microbatch that failed at ``hop``.

    If it has a loss, the hops after that one have had its gradient already. They keep it: taken
    back from them, all else that they have learned in this step would be lost with it.
    """
    attempt = microbatch.attempt
    assert attempt is not None
    if microbatch.loss is None:
        microbatch.left_out = True
        return _end_attempt(s, d, microbatch, attempt)
    microbatch.trained, microbatch.attempt = attempt.route, None
    taken = {(one.member, i) for i, one in enumerate(attempt.route) if i > hop}
    return _release(s, _at(d), attempt, taken)


def on_rebuilt(s: RingState, d: Drive, source: int, told: fr.Rebuilt) -> list[Action]:
    """Let microbatches pass over stages that train back in; draw anew those that only wait."""
    actions = bypass.on_told(s, d, source, told)
    for microbatch in d.active:
        attempt = microbatch.attempt
        assert attempt is not None
        if bypass.bypassed(s, d, microbatch, attempt.route) != attempt.route:
            actions += _end_attempt(s, d, microbatch, attempt)
            d.todo.appendleft(microbatch)
    return actions


def on_member_down(s: RingState, d: Drive, member: int, now: float) -> list[Action]:
    """Begin anew what needs a peer that is gone; what has not reached it may find a way itself."""
    actions: list[Action] = []
    for microbatch in d.active:
        attempt = microbatch.attempt
        assert attempt is not None
        attempt.cut = True
        if not _is_involved(attempt, member):
            continue
        if attempt.ungranted or (attempt.returned and _visits(attempt.route, member)):
            actions += retry(s, d, microbatch, now)
        else:
            attempt.due = min(attempt.due, now + s.hop_patience.seconds)
    return actions


def on_overdue(s: RingState, d: Drive, now: float) -> list[Action]:
    """Begin anew what has not come back in time, without whom it may have been lost by."""
    overdue = [m for m in d.active if m.attempt is not None and now >= m.attempt.due]
    if not overdue:
        return []
    actions: list[Action] = []
    for microbatch in overdue:
        attempt = microbatch.attempt
        assert attempt is not None
        for member in {member for member, _ in attempt.ungranted} - {ORIGIN}:
            actions += [] if member in s.avoided(now) else refuse(s, member, "late")
            ban(s, member, now, s.rules.ban_s)  # it does not even answer
        if not attempt.ungranted:
            actions += _lost(s, d, microbatch.number, attempt, now)
        actions += retry(s, d, microbatch, now)
    d.patience.observe(2 * d.patience.seconds / d.patience.factor)
    return actions


def retry(
    s: RingState, d: Drive, microbatch: Microbatch, now: float, *, pause: bool = False
) -> list[Action]:
    """End an attempt everywhere and put the microbatch back, to be tried again before others."""
    attempt = microbatch.attempt
    if attempt is None:
        return []
    actions = _end_attempt(s, d, microbatch, attempt)
    if microbatch.original is not None:
        microbatch.left_out = True  # no training depends on it
        return actions
    d.redone += 1
    tries = microbatch.attempts - (0 if pause else 1)
    wait_s = min(s.rules.retry_s * 2 ** min(tries - 1, 10), s.rules.ban_s) if tries > 0 else 0.0
    microbatch.not_before = now + wait_s
    d.todo.appendleft(microbatch)
    return actions


def cut(s: RingState, d: Drive, event: CutStep) -> list[Action]:
    """Leave out what is not trained and has no loss yet; with ``force`` also what has one."""
    d.last = d.last or event.last
    actions: list[Action] = []
    for microbatch in d.microbatches:
        if microbatch.trained is not None or (microbatch.loss is not None and not event.force):
            continue
        microbatch.left_out = True
        if microbatch.attempt is not None:
            actions += _end_attempt(s, d, microbatch, microbatch.attempt)
    d.todo = deque(microbatch for microbatch in d.todo if not microbatch.left_out)
    return actions


def _end_attempt(s: RingState, d: Drive, microbatch: Microbatch, attempt: Attempt) -> list[Action]:
    microbatch.attempt, microbatch.route = None, attempt.route
    loss = fr.Place(microbatch.number, attempt.place.attempt, len(attempt.route))
    s.queue.drop(_at(d), loss)
    return _release(s, _at(d), attempt, set())


def find(d: Drive, frame: fr.Frame) -> Microbatch | None:
    """Return the microbatch whose current attempt a frame is about."""
    if frame.fence.at != d.at or frame.place.microbatch >= len(d.microbatches):
        return None
    microbatch = d.microbatches[frame.place.microbatch]
    attempt = microbatch.attempt
    same = attempt is not None and attempt.place.attempt == frame.place.attempt
    return microbatch if same else None


def current(d: Drive, task: Task) -> tuple[Microbatch | None, Attempt | None]:
    """Return the microbatch and attempt that a LOSS task is for, if they still stand."""
    microbatch = d.microbatches[task.place.microbatch] if task.at == d.at else None
    attempt = microbatch.attempt if microbatch else None
    if attempt is None or attempt.place.attempt != task.place.attempt:
        return None, None
    return microbatch, attempt


def ban(s: RingState, member: int, now: float, seconds: float) -> None:
    """Pass a member by for a while, if there is another way."""
    if member not in (ORIGIN, s.me):
        s.banned[member] = now + seconds


def _double(s: RingState, d: Drive, double: Microbatch, now: float) -> list[Action]:
    """Begin a double when its original is back; leave it out if there is nobody to compare."""
    assert double.original is not None
    if not doubles.is_due(double) and not double.original.left_out:
        return []
    route = doubles.route_of(s, d, double, now) if doubles.is_due(double) else None
    d.todo.remove(double)
    if route is None:
        double.left_out = True
        return []
    return _reserve(s, d, double, route, now)


def _reserve(
    s: RingState, d: Drive, microbatch: Microbatch, route: Route, now: float
) -> list[Action]:
    microbatch.attempts += 1
    microbatch.held_up_by = None
    slots = {(hop.member, i) for i, hop in enumerate(route) if hop.stages or i == 0}
    place = fr.Place(microbatch.number, microbatch.attempts)
    due = now + d.patience.seconds
    microbatch.attempt = Attempt(place, route, route, due, set(slots), set(slots))
    actions: list[Action] = []
    for member, hop in sorted(slots, key=lambda slot: slot[1]):
        where = fr.Place(place.microbatch, place.attempt, hop)
        actions += tell(s, member, _at(d), where, fr.Reserve(route))
    return actions


def _release(
    s: RingState, at: tuple[int, int], attempt: Attempt, trained: set[tuple[int, int]]
) -> list[Action]:
    actions: list[Action] = []
    for member, hop in sorted(attempt.touched):
        place = fr.Place(attempt.place.microbatch, attempt.place.attempt, hop)
        done = (member, hop) in trained
        actions += tell(s, member, at, place, fr.Release(done))
    return actions


def _route_for(s: RingState, d: Drive, microbatch: Microbatch, now: float) -> Route | None:
    """Return the way of the next attempt: the last one, repaired, or a planned path."""
    suspects = list(d.suspicion.suspects(now))
    ways_round = [s.avoided(now) | some for some in suspects[:1]]
    ways_round += [s.down | some for some in suspects]
    for avoid in ways_round:
        if microbatch.route is not None:
            route = _repaired(s, microbatch.route, avoid)
            if route is not None:
                return route
        ways = [_repaired(s, path.hops, avoid) for path in s.ring.paths]
        usable = [i for i, way in enumerate(ways) if way is not None]
        if usable:
            return ways[d.router.draw(usable)]
    return None


def _lost(s: RingState, d: Drive, number: int, attempt: Attempt, now: float) -> list[Action]:
    """Name who claims a detour that nobody has announced, or find out who may have lost it.

    A second time it may be another: one that keeps its detours to itself, to have others blamed.
    """
    if any(member in s.down for member, _ in attempt.touched):
        return []  # it went with a member that is gone
    if attempt.held is None or attempt.cut:
        return _suspect(s, d, number, attempt, now)
    source = attempt.held.source
    again = source in s.banned
    name = s.ring.members[source].peer
    note = Note(f"microbatch {number} is begun anew: {detours.UNANNOUNCED} at {name}")
    actions = [note, *blame(s, source, detours.UNANNOUNCED, now)]
    return actions + (_suspect(s, d, number, attempt, now) if again else [])


def _suspect(s: RingState, d: Drive, number: int, attempt: Attempt, now: float) -> list[Action]:
    """Nobody has complained, and yet a microbatch is lost: do without a member of its way."""
    touched = {member for member, _ in attempt.touched} - {ORIGIN} - s.avoided(now)
    suspect = d.suspicion.lost(touched, now)
    if suspect is None:
        return []
    name = s.ring.members[suspect].peer
    return [Note(f"microbatch {number} is lost, perhaps at {name}, which is passed by for a while")]


def _repaired(s: RingState, route: Route, avoid: set[int]) -> Route | None:
    return repaired(s.plan, s.ring_number, route, avoid, s.rules.most_skipped)


def _is_involved(attempt: Attempt, member: int) -> bool:
    return any(touched == member for touched, _ in attempt.touched)


def _visits(route: Route, member: int) -> bool:
    return any(hop.member == member and hop.stages for hop in route)


def _at(d: Drive) -> tuple[int, int]:
    assert d.at is not None
    return d.at
