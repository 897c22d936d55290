from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from ring_world import plan_of

from skerry.protocol.rings.plan import Hop
from skerry.protocol.rings.routes import (
    PathRouter,
    detour,
    member_at,
    next_hop,
    previous_hop,
    repaired,
)

PLAN = plan_of(4, members=((0,), (1,), (2,), (3,), (2,)))
WHOLE = PLAN.rings[0].paths[0].hops


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any), st.integers(1, 5))
def test_quotas_hold_after_each_cycle_and_nearly_in_between(quotas, cycles):
    router, total = PathRouter(quotas), sum(quotas)
    everything, drawn = range(len(quotas)), Counter()
    for number in range(1, cycles * total + 1):
        drawn[router.draw(everything)] += 1
        for path, quota in enumerate(quotas):
            assert abs(drawn[path] - quota * number / total) < len(quotas)
            assert drawn[path] < quota * number / total + 1
        if number % total == 0:
            assert all(drawn[path] * total == quota * number for path, quota in enumerate(quotas))


def test_a_path_that_was_out_of_use_does_not_take_everything_afterwards():
    router = PathRouter([1, 1, 2])
    assert {router.draw([0, 1]) for _ in range(50)} == {0, 1}
    assert Counter(router.draw([0, 1, 2]) for _ in range(8)) == {0: 2, 1: 2, 2: 4}


def test_hops_that_were_passed_over_are_jumped():
    route = (WHOLE[0], Hop(1, ()), WHOLE[2], Hop(3, ()))
    assert [next_hop(route, hop) for hop in range(4)] == [2, 2, 4, 4]
    assert [previous_hop(route, hop) for hop in range(1, 5)] == [0, 0, 2, 2]
    assert [member_at(route, hop) for hop in (0, 2, 4)] == [0, 2, 0]


def test_another_host_comes_before_passing_over():
    assert detour(PLAN, 0, WHOLE, 2, {2}, 1) == (*WHOLE[:2], Hop(4, (2,)), WHOLE[3])
    assert detour(PLAN, 0, WHOLE, 2, {2, 4}, 1) == (*WHOLE[:2], Hop(2, ()), WHOLE[3])
    assert detour(PLAN, 0, WHOLE, 2, {2, 4}, 0) is None


def test_a_microbatch_misses_no_more_stages_than_allowed():
    short = (WHOLE[0], WHOLE[1], WHOLE[3])
    assert detour(PLAN, 0, short, 1, {1}, 1) is None
    assert detour(PLAN, 0, short, 1, {1}, 2) == (WHOLE[0], Hop(1, ()), WHOLE[3])


def test_the_first_stage_is_never_passed_over():
    turned = plan_of(3, members=((0,), (1,), (2,)))
    route = (Hop(0, ()), Hop(1, (1,)), Hop(0, (0,)), Hop(2, (2,)))
    assert detour(turned, 0, route, 2, {0}, 9) is None


def test_repairing_changes_only_what_must_be():
    assert repaired(PLAN, 0, WHOLE, set(), 0) == WHOLE
    assert repaired(PLAN, 0, WHOLE, {2, 3}, 1) == (*WHOLE[:2], Hop(4, (2,)), Hop(3, ()))
    assert repaired(PLAN, 0, WHOLE, {1, 3}, 1) is None
