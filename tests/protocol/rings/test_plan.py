from dataclasses import replace

import pytest
from ring_world import plan_of

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.rings.plan import (
    EMBEDDING,
    HEAD,
    Hop,
    Member,
    Path,
    Plan,
    Ring,
    Shadow,
    Stage,
    check_plan,
    check_route,
    counted_stages,
)

PLAN = plan_of(3)
RING = PLAN.rings[0]
ALONE = Ring((Member(PeerId("a"), (0,), 1),), (Path((Hop(0, (0,)),), 1),), 1)


def with_ring(**changes) -> Plan:
    return replace(PLAN, rings=(replace(RING, **changes),))


def member(index: int, **changes) -> Plan:
    members = list(RING.members)
    members[index] = replace(members[index], **changes)
    return with_ring(members=tuple(members))


def path(*hops: tuple[int, tuple[int, ...]], quota: int = 1) -> Plan:
    return with_ring(paths=(Path(tuple(Hop(m, stages) for m, stages in hops), quota),))


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        path((0, (0,)), (2, (2,))),
        path((0, ()), (1, (1,)), (0, (0,)), (2, (2,))),
        replace(PLAN, spares=(PeerId("p9"),), shadows=(Shadow(1, PeerId("p1"), PeerId("p9")),)),
        Plan(1, 1, (Stage(("embed",)),), (ALONE,)),
    ],
)
def test_plans_that_can_be_followed_pass(plan):
    check_plan(plan)


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, stages=()),
        replace(PLAN, rings=()),
        replace(PLAN, microbatch_tokens=0),
        replace(PLAN, stages=(Stage(("a", "b")), Stage(("b",)), Stage(("c",)))),
        replace(PLAN, rings=(RING, RING)),
        replace(PLAN, spares=(RING.members[0].peer,)),
        replace(PLAN, shadows=(Shadow(3, PeerId("p0"), PeerId("p1")),)),
        replace(PLAN, shadows=(Shadow(1, PeerId("p0"), PeerId("stranger")),)),
        with_ring(members=()),
        with_ring(paths=()),
        with_ring(in_flight=0),
        member(1, slots=0),
        member(1, slots=10**6),
        member(1, stages=(2, 1)),
        member(1, stages=(1, 7)),
        path((1, (1,)), (0, (0,)), (2, (2,))),
        path((0, ()), (1, (1,))),
        path((0, (0,)), (1, (2,))),
        path((0, (0,)), (1, (1,)), (1, (1,))),
        path((0, (0,)), (5, (1,))),
        path((0, (0,)), (1, ())),
        path((0, (0,)), quota=0),
        path((0, (0,)), quota=10_000),
        path(*[(0, (0,))] * 200),
    ],
)
def test_plans_that_cannot_be_followed_are_refused(plan):
    with pytest.raises(ProtocolError, match="cannot be followed"):
        check_plan(plan)


def test_one_microbatch_must_find_all_its_slots():
    twice = path((0, ()), (1, (1,)), (0, (0,)), (2, (2,))).rings[0]
    tight = tuple(replace(m, slots=1) for m in twice.members)
    with pytest.raises(ProtocolError, match="too few slots"):
        check_plan(replace(PLAN, rings=(replace(twice, members=tight),)))


def test_a_route_may_pass_over_any_stage_but_the_first():
    check_route(RING, (Hop(0, (0,)), Hop(1, ()), Hop(2, (2,))))
    with pytest.raises(ProtocolError, match="first stage"):
        check_route(RING, (Hop(0, ()), Hop(1, (1,)), Hop(2, (2,))))


def test_who_hosts_what():
    ring = plan_of(3, members=((0,), (1,), (2,), (1, 2))).rings[0]
    assert ring.hosts((1,)) == (1, 3)
    assert ring.hosts((1, 2)) == (3,)
    assert ring.member_of(PeerId("p2")) == 2
    assert ring.member_of(PeerId("p7")) is None
    assert PLAN.ring_of(PeerId("p2")) == 0
    assert PLAN.ring_of(PeerId("p7")) is None


def test_embedding_and_head_are_counted_too():
    turned = (Hop(0, ()), Hop(1, (1,)), Hop(0, (0,)))
    assert [counted_stages(turned, hop) for hop in range(4)] == [(EMBEDDING,), (1,), (0,), (HEAD,)]
    assert counted_stages((Hop(0, (0,)), Hop(1, ())), 1) == ()
