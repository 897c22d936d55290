"""Slots: reserved before a microbatch is injected, given back by the origin (DESIGN 9).

No deadlock: the origin reserves a slot on every peer of a route before anything moves, its
reservations wait in the same order everywhere, and whoever else asks for a slot, to route around
a peer, is answered at once.
"""

from dataclasses import replace

from skerry.protocol.errors import ProtocolError
from skerry.protocol.rings.actions import Action, Forget, StepOver
from skerry.protocol.rings.frames import Frame, Grant, Place, Refuse, Release, Reserve
from skerry.protocol.rings.plan import MAX_ACCOUNTS, ORIGIN, check_route
from skerry.protocol.rings.state import Book, RingState, Status, Visit, refuse, tell
from skerry.protocol.rings.tasks import At

MOST_OPEN_STEPS = 4


def on_reserve(s: RingState, source: int, frame: Frame, reserve: Reserve) -> list[Action]:
    """Take a slot for a microbatch, let the origin wait for one, or refuse."""
    at, place = frame.fence.at, frame.place
    try:
        check_route(s.ring, reserve.route)
    except ProtocolError as error:
        return refuse(s, source, error.reason)
    here = place.hop < len(reserve.route) and reserve.route[place.hop].member == s.me
    if not here or place.attempt < 1:
        return refuse(s, source, "wrong-hop")
    if at not in s.books:
        return tell(s, source, at, place, Refuse("early-step"))
    seen = s.books[at].attempts
    if place.attempt <= seen.get((place.microbatch, place.hop), 0):
        return refuse(s, source, "stale-attempt")
    if len(seen) >= MAX_ACCOUNTS:
        return refuse(s, source, "too-many-visits")
    seen[place.microbatch, place.hop] = place.attempt
    actions = drop_visit(s, s.visits.get((at, place.microbatch, place.hop)))
    _stop_waiting(s, at, place)
    if len(s.visits) + len(s.waiting) < s.member.slots:
        return actions + _grant(s, source, frame, reserve)
    if source != ORIGIN or len(s.waiting) >= s.member.slots:
        return actions + tell(s, source, at, place, Refuse("no-slot"))
    s.waiting.append((source, frame))
    return actions


def open_book(s: RingState, at: At) -> list[Action]:
    """Begin to count for a step; one before it whose end was never told comes to nothing."""
    if at in s.books:
        return []
    if at[0] > s.open_round:
        s.early, s.missed = at, None
        return []
    if len(s.books) >= MOST_OPEN_STEPS:
        return refuse(s, ORIGIN, "too-many-steps")
    for older in s.books.values():
        if older.end is None:
            older.end, older.reason = (), "step-missed"
    s.books[at] = Book()
    older_visits = [visit for visit in s.visits.values() if visit.at < at]
    return [action for visit in older_visits for action in end_visit(s, visit, done=True)]


def open_round(s: RingState, number: int) -> list[Action]:
    """Let the steps of a round begin here, and the one that has begun at the origin already."""
    s.open_round = number
    if s.missed is not None and s.missed[0] == number:
        s.floor, s.missed = max(s.floor, s.missed), None
        return [StepOver(s.floor, last=True)]
    if s.early is None or s.early[0] > number:
        return []
    at, s.early = s.early, None
    return open_book(s, at)


def on_release(s: RingState, source: int, frame: Frame, release: Release) -> list[Action]:
    """End a visit: at once, or when its weight gradient is done."""
    place = frame.place
    visit = s.visits.get((frame.fence.at, place.microbatch, place.hop))
    if visit is None or visit.place != place:
        _stop_waiting(s, frame.fence.at, place)
        return []
    if source not in (ORIGIN, visit.reserved_by):
        return refuse(s, source, "not-yours")
    return end_visit(s, visit, release.done)


def end_visit(s: RingState, visit: Visit, done: bool) -> list[Action]:
    """Free a slot; if the microbatch was trained, only when its weight gradient is computed."""
    if done and visit.status is Status.SHIPPED:
        visit.released = True
        return []
    return drop_visit(s, visit)


def grant_waiting(s: RingState) -> list[Action]:
    """Give free slots to the reservations that wait, in their order."""
    actions: list[Action] = []
    while s.waiting and len(s.visits) < s.member.slots:
        source, frame = s.waiting.popleft()
        assert isinstance(frame.body, Reserve)
        actions += _grant(s, source, frame, frame.body)
    return actions


def drop_visit(s: RingState, visit: Visit | None) -> list[Action]:
    """Free a visit's slot and all that is kept for it."""
    if visit is None:
        return []
    del s.visits[visit.key]
    s.queue.drop(visit.at, visit.place)
    return [*cancel_detour(s, visit), Forget(visit.at, visit.place)]


def cancel_detour(s: RingState, visit: Visit) -> list[Action]:
    """Give back the slot that was asked for at another host, if one was."""
    if visit.detour is None:
        return []
    hop, route = visit.detour.hop, visit.detour.route
    visit.detour = None
    place = replace(visit.place, hop=hop)
    return tell(s, route[hop].member, visit.at, place, Release(done=False))


def _grant(s: RingState, source: int, frame: Frame, reserve: Reserve) -> list[Action]:
    visit = Visit(frame.fence.at, frame.place, reserve.route, reserved_by=source)
    s.visits[visit.key] = visit
    return tell(s, source, visit.at, visit.place, Grant())


def _stop_waiting(s: RingState, at: At, place: Place) -> None:
    """Take back a reservation that still waits, of this attempt or one before."""
    for entry in list(s.waiting):
        frame = entry[1]
        same = (frame.fence.at, frame.place.microbatch, frame.place.hop)
        older = frame.place.attempt <= place.attempt
        if same == (at, place.microbatch, place.hop) and older:
            s.waiting.remove(entry)
