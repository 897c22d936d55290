"""The end of an inner step: every member is told what its gradients are made of, and steps.

The origin knows by which route each microbatch was trained in the end, and tells every member its
part. A member whose gradients hold something else than that (a microbatch that was done again
elsewhere because this peer was late) cannot take it out again, so it throws the gradients of this
step away and says so: nothing is counted twice. One that holds less, because it came back without
memory, steps with what it has.
"""

from skerry.protocol.rings import bypass
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.actions import (
    Action,
    Compute,
    MemberStepped,
    Note,
    StepDone,
    StepOver,
)
from skerry.protocol.rings.driving import Drive
from skerry.protocol.rings.plan import HEAD, ORIGIN, counted_stages
from skerry.protocol.rings.slots import end_visit, open_book
from skerry.protocol.rings.state import Book, Closed, RingState, Status, refuse, tell
from skerry.protocol.rings.tasks import At, DropGradients, TakeStep

_NOBODY = fr.Place()


def end_step(s: RingState, d: Drive) -> list[Action]:
    """When every microbatch is trained, tell all members what was theirs."""
    if d.at is None or d.ended or not d.finished:
        return []
    d.ended, d.ended_at, d.ended_last = True, d.at, d.last
    d.unconfirmed = dict(enumerate(_accounts(s, d)))
    actions = bypass.end_step(s, d) if any(d.unconfirmed.values()) else []
    for member, visits in d.unconfirmed.items():
        actions += tell(s, member, d.at, _NOBODY, fr.StepEnd(visits, d.last))
    return actions


def tell_again(s: RingState, d: Drive, member: int) -> list[Action]:
    """Tell a member that is back of the last step's end, unless it has stepped, and of the next."""
    actions: list[Action] = []
    if d.ended_at is not None and member in d.unconfirmed:
        end = fr.StepEnd(d.unconfirmed[member], d.ended_last)
        actions = tell(s, member, d.ended_at, _NOBODY, end)
    if d.at is not None and not d.ended:
        actions += tell(s, member, d.at, _NOBODY, fr.StepBegin())
    return actions


def on_step_end(s: RingState, source: int, at: At, end: fr.StepEnd) -> list[Action]:
    """Note what the gradients are to be made of; end the visits that are not part of it."""
    if s.closed is not None and s.closed.at == at:
        return tell(s, source, at, _NOBODY, fr.Stepped(s.closed.visits, s.closed.reason))
    if at <= s.floor or (at not in s.books and at < s.newest):
        return refuse(s, source, "stale-step")  # an old end must not end what has begun since
    actions = open_book(s, at)
    book = s.books.get(at)
    if book is None:
        s.early, s.missed = None, at if end.last else None
        return actions
    if book.end is not None:
        return refuse(s, source, "duplicate")
    book.end, book.last = end.visits, end.last
    due = {(v.stage, microbatch) for v in end.visits for microbatch in v.microbatches}
    for visit in [visit for visit in s.visits.values() if visit.at == at]:
        stages = counted_stages(visit.route, visit.place.hop)
        mine = any((stage, visit.place.microbatch) in due for stage in stages)
        actions += end_visit(s, visit, mine)
    return actions


def close_books(s: RingState) -> list[Action]:
    """Step, if the oldest open step is over and all its weight gradients are computed."""
    actions: list[Action] = []
    while s.books:
        at = min(s.books)
        book = s.books[at]
        busy = any(v.at == at and v.status is Status.SHIPPED for v in s.visits.values())
        if book.end is None or busy or s.queue.holds(at):
            break
        if book.counted:
            s.running = _work(at, book)
            return [*actions, Compute(s.running)]
        actions += on_step_taken(s, at)
    return actions


def on_step_taken(s: RingState, at: At) -> list[Action]:
    """The optimizer has stepped, or the gradients are gone: close the book and tell the origin."""
    book = s.books.pop(at)
    visits = () if book.reason else _made_of(book)
    bypass.grow(s, visits)
    s.floor, s.closed = at, Closed(at, visits, book.reason, book.last)
    return [StepOver(at, book.last), *tell(s, ORIGIN, at, _NOBODY, fr.Stepped(visits, book.reason))]


def on_stepped(s: RingState, d: Drive, source: int, at: At, stepped: fr.Stepped) -> list[Action]:
    """A member has stepped; when the origin itself has, the next step may begin."""
    if at != d.ended_at or d.unconfirmed.pop(source, None) is None:
        return refuse(s, source, "stale-step")
    peer = s.ring.members[source].peer
    actions: list[Action] = [MemberStepped(peer, at, stepped.visits, stepped.reason)]
    if stepped.reason and source != s.me:
        actions.append(Note(f"{peer} has thrown its gradients of step {at} away: {stepped.reason}"))
    if source == s.me:
        actions.append(_step_done(d, at, stepped.reason))
        d.at = None
    return actions


def _accounts(s: RingState, d: Drive) -> list[tuple[fr.StageVisits, ...]]:
    """Return what each member is to have counted, by stage."""
    tokens = {m.number: m.text_tokens for m in d.microbatches}
    lists: list[dict[int, list[int]]] = [{} for _ in s.ring.members]
    for microbatch in d.microbatches:
        route = microbatch.trained
        if route is None or d.forward_only or microbatch.original is not None:
            continue
        for hop, at in enumerate(route):
            for stage in counted_stages(route, hop):
                lists[at.member].setdefault(stage, []).append(microbatch.number)
        lists[ORIGIN].setdefault(HEAD, []).append(microbatch.number)
    return [
        tuple(
            fr.StageVisits(stage, sum(tokens[n] for n in numbers), tuple(numbers))
            for stage, numbers in sorted(stages.items())
        )
        for stages in lists
    ]


def _work(at: At, book: Book) -> TakeStep | DropGradients:
    assert book.end is not None
    due = {(visits.stage, number) for visits in book.end for number in visits.microbatches}
    if not book.counted.keys() <= due:
        book.reason = book.reason or "counted-elsewhere"
    return DropGradients(at) if book.reason else TakeStep(at, _made_of(book))


def _made_of(book: Book) -> tuple[fr.StageVisits, ...]:
    stages: dict[int, dict[int, int]] = {}
    for (stage, number), tokens in book.counted.items():
        stages.setdefault(stage, {})[number] = tokens
    return tuple(
        fr.StageVisits(stage, sum(numbers.values()), tuple(sorted(numbers)))
        for stage, numbers in sorted(stages.items())
    )


def _step_done(d: Drive, at: At, reason: str) -> StepDone:
    trained = [m for m in d.microbatches if m.trained is not None and m.original is None]
    text_tokens = sum(m.text_tokens for m in trained)
    total = sum((m.loss or 0.0) * m.text_tokens for m in trained)
    mean = total / text_tokens if text_tokens else 0.0
    numbers = tuple(m.number for m in trained)
    return StepDone(at, text_tokens, mean, numbers, d.redone, reason)
