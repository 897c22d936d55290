"""Whom or what a peer of a ring waits for, in words for the log and the status (DESIGN 1)."""

from skerry.protocol.ids import PeerId
from skerry.protocol.rings.driving import Drive
from skerry.protocol.rings.machine import RingPeer
from skerry.protocol.rings.routes import member_at, next_hop, previous_hop
from skerry.protocol.rings.state import RingState, Status, Visit


def waiting_for(p: RingPeer) -> tuple[PeerId | str, ...]:
    """Return peer ids, or a phrase where no single peer is meant; empty if nothing is awaited."""
    if p.s.running is not None:
        return ()
    if p.d is not None and p.d.at is not None:
        return _as_origin(p.s, p.d)
    visits = (v for v in p.s.visits.values() if v.status is not Status.COUNTED)
    oldest = min(visits, key=lambda visit: visit.key, default=None)
    if oldest is not None:
        return (p.s.ring.members[_neighbour(oldest)].peer,)
    return () if p.d is not None else (p.s.ring.origin,)


def _as_origin(s: RingState, d: Drive) -> tuple[PeerId | str, ...]:
    attempts = [m.attempt for m in d.active if m.attempt is not None]
    if not attempts:
        held_up_by = sorted({m.held_up_by for m in d.todo if m.held_up_by is not None})
        busy = tuple(s.ring.members[member].peer for member in held_up_by)
        return (_lost_stages(s) or busy) if d.todo else ()
    members = {member for member, _ in attempts[0].ungranted}
    if not members:
        members = {hop.member for hop in attempts[0].route if hop.stages}
    return tuple(s.ring.members[member].peer for member in sorted(members - {s.me}))


def _lost_stages(s: RingState) -> tuple[PeerId | str, ...]:
    stages = range(len(s.plan.stages))
    lost = [stage for stage in stages if s.down.issuperset(s.ring.hosts((stage,)))]
    return tuple(f"a host of stage {stage}" for stage in lost)


def _neighbour(visit: Visit) -> int:
    hop = visit.place.hop
    if visit.status is Status.PASSED_ON:
        return member_at(visit.route, next_hop(visit.route, hop))
    return member_at(visit.route, previous_hop(visit.route, hop))
