"""Which detours the origin believes, and whom it names for those that it does not."""

from dataclasses import replace
from itertools import permutations

import pytest
from ring_world import TOKENS, plan_of
from test_machine import PACE, Bench, activation, grant_all

from skerry.protocol.ids import PeerId
from skerry.protocol.rings import actions as act
from skerry.protocol.rings import events as ev
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.machine import next_deadline
from skerry.protocol.rings.plan import Hop, Route
from skerry.protocol.rings.tasks import Kind, Task

PLAN = plan_of(5, members=((0,), (1,), (2,), (3,), (4,), (2,), (3,), (4,)))
"""p5, p6 and p7 stand by for stages 2, 3 and 4."""
ROUTE = PLAN.rings[0].paths[0].hops


def changed(*hops: tuple[int, int | None], route: Route = ROUTE) -> Route:
    """Return a route with other hosts at some positions; None: passed over."""
    for hop, member in hops:
        old = route[hop]
        new = replace(old, stages=()) if member is None else Hop(member, old.stages)
        route = (*route[:hop], new, *route[hop + 1 :])
    return route


def under_way(most_skipped: int = 1) -> Bench:
    """Return the origin with a step of one microbatch on its way."""
    bench = Bench(0, most_skipped, PLAN)
    set_out(bench, bench.do(ev.BeginStep(1, 0, (TOKENS,))), attempt=1)
    return bench


def set_out(bench: Bench, reserved: list[act.Action], attempt: int) -> None:
    """Grant all slots, compute the embedding, and have the first hop pass the microbatch on."""
    grant_all(bench, reserved)
    bench.get(1, fr.Passed(), 1, attempt=attempt)


def back(bench: Bench, route: Route, source: int = 4, attempt: int = 1) -> list[act.Action]:
    return bench.get(source, activation(route), 5, attempt=attempt)


def rerouted(bench: Bench, source: int, hop: int, route: Route, culprit: int) -> list[act.Action]:
    return bench.get(source, fr.Rerouted(route, culprit), hop)


def has_loss(bench: Bench) -> bool:
    """Say whether the origin computes the loss of what came back."""
    work = bench.peer.s.running
    return isinstance(work, Task) and work.kind is Kind.LOSS


def overdue(bench: Bench) -> list[act.Action]:
    """Let the time of the attempt pass."""
    due = next_deadline(bench.peer)
    assert due is not None
    bench.now = due
    return bench.do(ev.Tick())


def begun_anew(actions: list[act.Action], why: str) -> bool:
    return any(isinstance(a, act.Note) and f"begun anew: {why}" in a.text for a in actions)


@pytest.mark.parametrize("claimed", [changed((2, None)), changed((2, 5)), changed((1, None))])
def test_who_claims_a_detour_that_nobody_announced_is_named_and_passed_by(claimed):
    bench = under_way()
    assert back(bench, claimed) == []
    assert not has_loss(bench)
    actions = overdue(bench)
    assert act.Refused(PeerId("p4"), "unannounced-detour") in actions
    assert begun_anew(actions, "unannounced-detour at p4")
    assert bench.peer.s.banned.keys() == {4}
    again = [body.route for _, body in bench.said(actions) if isinstance(body, fr.Reserve)]
    assert again and set(again) == {changed((4, 7))}


@pytest.mark.parametrize("told", list(permutations(["p1", "p5", "back"])))
def test_detours_of_several_hops_are_believed_in_whatever_order_they_are_heard_of(told):
    bench = under_way()
    both = changed((2, 5), (3, 6))
    said = {
        "p1": lambda: rerouted(bench, 1, 1, changed((2, 5)), 2),
        "p5": lambda: rerouted(bench, 5, 2, both, 3),
        "back": lambda: back(bench, both),
    }
    for one in told:
        assert not has_loss(bench)
        assert not bench.refusals(said[one]())
    assert has_loss(bench)
    done = bench.do(ev.Computed(bench.peer.s.running, b"g", 0.1, loss=2.0))
    done += bench.get(1, fr.Gradient(PACE), 0)
    released = {
        a.peer: a.frame.body.done
        for a in done
        if isinstance(a, act.Send) and isinstance(a.frame.body, fr.Release)
    }
    assert released == {f"p{i}": i not in (2, 3) for i in range(1, 7)}
    ends = {
        a.peer: a.frame.body.visits
        for a in done
        if isinstance(a, act.Send) and isinstance(a.frame.body, fr.StepEnd)
    }
    assert {peer for peer, visits in ends.items() if visits} == {"p1", "p4", "p5", "p6"}


def test_a_hop_that_changes_its_mind_is_believed_and_so_is_a_late_one_that_comes_through():
    bench = under_way()
    rerouted(bench, 1, 1, changed((2, 5)), 2)
    rerouted(bench, 1, 1, changed((2, None), route=changed((2, 5))), 5)
    assert not bench.refusals(back(bench, ROUTE))
    assert has_loss(bench)


def test_a_hop_may_pass_one_over_and_replace_the_one_after_it():
    bench = under_way()
    way = changed((2, None), (3, 6))
    assert not bench.refusals(rerouted(bench, 1, 1, changed((2, None)), 2))
    assert not bench.refusals(rerouted(bench, 1, 1, way, 3))
    assert not bench.refusals(back(bench, way))
    assert has_loss(bench)


def test_what_a_hop_says_of_those_before_it_vouches_for_nothing():
    bench = under_way()
    claimed = changed((2, None))
    assert not bench.refusals(rerouted(bench, 3, 3, claimed, 2))
    back(bench, claimed)
    assert not has_loss(bench)
    assert act.Refused(PeerId("p4"), "unannounced-detour") in overdue(bench)


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (changed((2, None), (3, None)), "missed-stages"),
        (changed((3, 6)), "wrong-detour"),
        (changed((2, 5), (4, 7)), "wrong-detour"),
    ],
)
def test_a_hop_that_changes_more_than_what_comes_next_is_named_at_once(route, reason):
    bench = under_way()
    actions = rerouted(bench, 1, 1, route, 2)
    assert bench.refusals(actions) == [reason]
    assert begun_anew(actions, f"{reason} at p1")
    assert 1 in bench.peer.s.banned


def test_a_way_that_misses_more_stages_than_it_may_is_refused_at_once():
    bench = under_way()
    actions = back(bench, changed((2, None), (3, None)))
    assert bench.refusals(actions) == ["missed-stages"]
    assert begun_anew(actions, "missed-stages at p4")
    assert 4 in bench.peer.s.banned


def test_a_member_beside_the_way_ends_no_attempt_by_what_it_tells():
    bench = under_way()
    actions = back(bench, changed((2, None), (3, None), (4, 7)), source=7)
    assert bench.refusals(actions) == ["missed-stages"]
    assert not begun_anew(actions, "missed-stages")
    back(bench, changed((4, 7)), source=7)
    assert not has_loss(bench)
    assert not bench.refusals(back(bench, ROUTE))
    assert has_loss(bench)


def test_nobody_is_named_where_an_announcement_may_be_lost_with_its_stream():
    bench = under_way()
    back(bench, changed((2, 5)))
    bench.do(ev.PeerDown(PeerId("p1")))
    bench.do(ev.PeerUp(PeerId("p1")))
    actions = overdue(bench)
    assert "unannounced-detour" not in bench.refusals(actions)
    assert 4 not in bench.peer.s.banned
    assert bench.peer.d.redone == 1


def test_what_a_member_that_is_gone_has_lost_is_held_against_nobody_else():
    bench = under_way()
    bench.do(ev.PeerDown(PeerId("p2")))
    actions = overdue(bench)
    assert bench.peer.d.redone == 1
    assert not [a for a in actions if isinstance(a, act.Note) and "perhaps at" in a.text]


def test_where_the_same_is_named_again_another_may_have_kept_its_detour_to_itself():
    bench = under_way()
    claimed = changed((2, None))
    back(bench, claimed)
    first = overdue(bench)
    assert not [a for a in first if isinstance(a, act.Note) and "perhaps at" in a.text]
    bench.now += bench.peer.s.rules.ban_s
    set_out(bench, first, attempt=2)
    back(bench, claimed, attempt=2)
    again = overdue(bench)
    assert [a for a in again if isinstance(a, act.Note) and "perhaps at" in a.text]


def test_a_host_refuses_a_way_that_misses_too_much_or_is_changed_behind_it():
    bench = Bench(3, 1, PLAN).opened()
    bench.get(0, fr.Reserve(ROUTE), 3)
    short = changed((1, None), (2, None))
    assert bench.refusals(bench.get(0, activation(short), 3)) == ["missed-stages"]
    assert bench.refusals(bench.get(2, activation(changed((4, 7))), 3)) == ["wrong-hop"]
    assert not bench.refusals(bench.get(2, activation(ROUTE), 3))
