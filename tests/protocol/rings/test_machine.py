"""Single peers of a ring: what they refuse, what they say when the next peer is gone or late."""

from dataclasses import replace

import pytest
import ring_strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_world import RUN, TOKENS, plan_of, rules_of

from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.rings import actions as act
from skerry.protocol.rings import events as ev
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.machine import RingPeer, apply, new_ring_peer, next_deadline
from skerry.protocol.rings.plan import Hop, Plan
from skerry.protocol.rings.tasks import Kind, Task

PLAN = plan_of(4, members=((0,), (1,), (2,), (3,), (2,)))
ROUTE = PLAN.rings[0].paths[0].hops
ROUND_ABOUT = (*ROUTE[:2], Hop(4, (2,)), ROUTE[3])
FENCE = fr.Fence(RUN, 1, 0, 1, 0)
PACE = fr.Pace()


class Bench:
    """One peer of the ring, to which the test plays all others."""

    def __init__(self, index: int, most_skipped: int = 0, plan: Plan = PLAN) -> None:
        self.now = 0.0
        self.index = index
        self.peer: RingPeer = new_ring_peer(PeerId(f"p{index}"), plan, 0, rules_of(most_skipped))
        for other in set(range(len(plan.rings[0].members))) - {index}:
            self.do(ev.PeerUp(PeerId(f"p{other}")))

    def do(self, event: ev.Event) -> list[act.Action]:
        return apply(self.peer, event, self.now)

    def get(
        self,
        source: int,
        body: fr.Body,
        hop: int = 0,
        *,
        attempt: int = 1,
        payload: bytes = b"x",
        fence: fr.Fence = FENCE,
    ) -> list[act.Action]:
        frame = fr.Frame(fence, fr.Place(0, attempt, hop), body)
        return self.do(ev.FrameReceived(PeerId(f"p{source}"), frame, payload))

    def compute(self, payload: bytes = b"y") -> list[act.Action]:
        work = self.peer.s.running
        assert work is not None
        return self.do(ev.Computed(work, payload, 0.1))

    def opened(self) -> "Bench":
        self.get(0, fr.StepBegin())
        return self

    def reserved(self, hop: int, route=ROUTE) -> "Bench":
        assert self.said(self.opened().get(0, fr.Reserve(route), hop)) == [(0, fr.Grant())]
        return self

    def said(self, actions: list[act.Action]) -> list[tuple[int, fr.Body]]:
        sends = [a for a in actions if isinstance(a, act.Send)]
        return [(int(send.peer[1:]), send.frame.body) for send in sends]

    def refusals(self, actions: list[act.Action]) -> list[str]:
        return [a.reason for a in actions if isinstance(a, act.Refused)]


def activation(route=ROUTE) -> fr.Activation:
    return fr.Activation(route, TOKENS, PACE)


def test_a_peer_that_is_not_in_the_round_yet_has_no_slot_until_it_is():
    bench = Bench(1)
    bench.do(ev.RoundOpened(0))
    bench.opened()
    reserve = fr.Reserve(ROUTE)
    assert bench.said(bench.get(0, reserve, 1)) == [(0, fr.Refuse("early-step"))]
    bench.do(ev.RoundOpened(1))
    assert bench.said(bench.get(0, reserve, 1)) == [(0, fr.Grant())]


def test_a_step_that_ended_before_its_round_began_here_does_not_begin():
    bench = Bench(1)
    bench.do(ev.RoundOpened(0))
    bench.opened()
    assert bench.get(0, fr.StepEnd((), last=True)) == []
    # Who comes so late learns at once that there is nothing to wait for.
    assert bench.do(ev.RoundOpened(1)) == [act.StepOver((1, 0), last=True)]
    assert not bench.peer.s.books


def test_the_end_of_a_step_before_does_not_end_the_one_that_has_begun():
    bench = Bench(1).opened()
    older = fr.Fence(RUN, 1, 0, 0, 5)
    late = bench.get(0, fr.StepEnd(()), fence=older)
    assert bench.refusals(late) == ["stale-step"]
    assert bench.peer.s.books[1, 0].end is None


def test_a_step_in_which_a_peer_had_nothing_to_do_is_over_there_all_the_same():
    actions = Bench(1).opened().get(0, fr.StepEnd(()))
    assert act.StepOver((1, 0)) in actions
    assert not [action for action in actions if isinstance(action, act.Compute)]


def test_an_origin_waits_a_while_for_a_peer_that_was_never_there():
    peer = new_ring_peer(PeerId("p0"), PLAN, 0, rules_of(most_skipped=1))
    for other in (1, 2, 4):
        apply(peer, ev.PeerUp(PeerId(f"p{other}")), 0.0)
    sent = apply(peer, ev.BeginStep(1, 0, (TOKENS,)), 0.0)
    assert not [a for a in sent if isinstance(a, act.Send) and isinstance(a.frame.body, fr.Reserve)]
    due = next_deadline(peer)
    assert due == peer.s.rules.attempt_min_s
    late = apply(peer, ev.Tick(), due)
    reserved = [
        a.frame.body.route
        for a in late
        if isinstance(a, act.Send) and isinstance(a.frame.body, fr.Reserve)
    ]
    assert reserved and all(hop.stages != (3,) for hop in reserved[0])


def test_an_origin_waits_for_a_peer_that_is_not_in_the_round_yet_without_passing_it_by():
    bench = Bench(0)
    bench.do(ev.BeginStep(1, 0, (TOKENS,)))
    bench.get(1, fr.Refuse("early-step"), 1)
    assert not bench.peer.s.banned
    due = next_deadline(bench.peer)
    assert due is not None
    bench.now = due
    again = bench.said(bench.do(ev.Tick()))
    assert (1, fr.Reserve(ROUTE)) in again


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run_id": RunId("00" * 32)}, "wrong-run"),
        ({"plan": 0}, "stale-plan"),
        ({"plan": 2}, "unknown-plan"),
        ({"ring": 1}, "wrong-ring"),
        ({"round": 0}, "stale-step"),
    ],
)
def test_what_belongs_elsewhere_is_refused_by_name(changes, reason):
    bench = Bench(2).reserved(2)
    fence = replace(FENCE, **changes)
    for body in (fr.Reserve(ROUTE), activation(), fr.Gradient(PACE), fr.Grant()):
        assert bench.refusals(bench.get(1, body, 2, fence=fence)) == [reason]


def test_an_activation_needs_a_slot_its_neighbour_and_its_hop():
    bench = Bench(2).opened()
    assert bench.refusals(bench.get(1, activation(), 2)) == ["unreserved"]
    bench.get(0, fr.Reserve(ROUTE), 2)
    assert bench.refusals(bench.get(3, activation(), 2)) == ["not-neighbour"]
    assert bench.refusals(bench.get(1, activation(), 2, attempt=2)) == ["unreserved"]
    assert bench.refusals(bench.get(1, activation(ROUND_ABOUT), 2)) == ["wrong-hop"]
    assert bench.refusals(bench.get(1, activation(ROUTE[1:]), 2)) == ["plan"]
    stranger = fr.Frame(FENCE, fr.Place(0, 1, 2), activation())
    assert bench.do(ev.FrameReceived(PeerId("p9"), stranger)) == [
        act.Refused(PeerId("p9"), "not-in-ring")
    ]
    assert [type(a) for a in bench.get(1, activation(), 2)] == [act.Compute]


def test_a_replayed_frame_changes_nothing():
    bench = Bench(2).reserved(2)
    assert bench.refusals(bench.get(0, fr.Reserve(ROUTE), 2)) == ["stale-attempt"]
    bench.get(1, activation(), 2)
    assert bench.refusals(bench.get(1, activation(), 2)) == ["duplicate"]
    assert bench.refusals(bench.get(3, fr.Gradient(PACE), 2)) == ["early-gradient"]
    bench.compute()
    assert bench.refusals(bench.get(1, fr.Gradient(PACE), 2)) == ["not-neighbour"]
    bench.get(3, fr.Gradient(PACE), 2)
    assert bench.refusals(bench.get(3, fr.Gradient(PACE), 2)) == ["duplicate"]
    bench.compute()
    bench.get(0, fr.Release(True), 2)
    bench.compute()
    assert not bench.peer.s.visits
    assert bench.refusals(bench.get(1, activation(), 2)) == ["stale-attempt"]
    assert bench.refusals(bench.get(0, fr.Reserve(ROUTE), 2)) == ["stale-attempt"]


def test_only_the_origin_says_when_a_step_begins_and_ends():
    bench = Bench(2)
    for body in (fr.StepBegin(), fr.StepEnd(()), fr.Failed(1, ""), fr.Stepped((), "")):
        assert bench.refusals(bench.get(1, body)) == ["not-the-origin"]
    assert bench.said(bench.get(1, fr.Reserve(ROUTE), 2)) == [(1, fr.Refuse("early-step"))]
    assert not bench.peer.s.books


def test_a_full_peer_lets_the_origin_wait_and_refuses_others_at_once():
    bench = Bench(2).opened()
    slots = bench.peer.s.member.slots

    def reserve(source: int, number: int) -> list[tuple[int, fr.Body]]:
        frame = fr.Frame(FENCE, fr.Place(number, 1, 2), fr.Reserve(ROUTE))
        return bench.said(bench.do(ev.FrameReceived(PeerId(f"p{source}"), frame)))

    assert [reserve(0, number) for number in range(slots)] == [[(0, fr.Grant())]] * slots
    assert [reserve(0, number) for number in range(slots, 2 * slots)] == [[]] * slots
    assert reserve(1, 50) == [(1, fr.Refuse("no-slot"))]
    assert reserve(0, 51) == [(0, fr.Refuse("no-slot"))]
    released = fr.Frame(FENCE, fr.Place(1, 1, 2), fr.Release(False))
    freed = bench.do(ev.FrameReceived(PeerId("p0"), released))
    grants = [a.frame.place.microbatch for a in freed if isinstance(a, act.Send)]
    assert grants == [slots]
    assert bench.refusals(bench.get(3, fr.Release(False), 2)) == ["not-yours"]


def passed_on(bench: Bench) -> list[act.Action]:
    """Let the peer at position 1 compute its forward pass."""
    bench.reserved(1).get(0, activation(), 1)
    return bench.compute(b"output")


def test_an_output_goes_on_and_is_kept_until_the_next_has_passed_it_on():
    bench = Bench(1)
    assert bench.said(passed_on(bench)) == [(0, fr.Passed()), (2, activation())]
    [visit] = bench.peer.s.visits.values()
    assert visit.output == b"output"
    bench.get(2, fr.Passed(), 2)
    assert visit.output is None and visit.due is None


def test_a_dead_next_peer_is_replaced_at_the_hop_and_the_origin_is_told():
    bench = Bench(1)
    passed_on(bench)
    assert bench.said(bench.do(ev.PeerDown(PeerId("p2")))) == [(4, fr.Reserve(ROUND_ABOUT))]
    assert bench.said(bench.get(4, fr.Grant(), 2)) == [
        (0, fr.Rerouted(ROUND_ABOUT, 2)),
        (4, activation(ROUND_ABOUT)),
    ]


def test_a_peer_that_is_already_gone_is_not_even_tried():
    bench = Bench(1)
    bench.do(ev.PeerDown(PeerId("p2")))
    assert bench.said(passed_on(bench)) == [(0, fr.Passed()), (4, fr.Reserve(ROUND_ABOUT))]


def test_a_late_next_peer_is_replaced_and_may_still_answer():
    bench = Bench(1)
    passed_on(bench)
    due = next_deadline(bench.peer)
    assert due is not None
    bench.now = due
    assert bench.said(bench.do(ev.Tick())) == [(4, fr.Reserve(ROUND_ABOUT))]
    assert bench.said(bench.get(2, fr.Passed(), 2)) == [(4, fr.Release(False))]
    assert bench.said(bench.get(4, fr.Grant(), 2)) == [(4, fr.Release(False))]
    assert bench.said(bench.get(2, fr.Gradient(PACE), 1)) == []
    assert isinstance(bench.peer.s.running, Task)
    assert bench.peer.s.running.kind is Kind.INPUT_GRADIENT


def test_without_another_host_the_stage_is_passed_over_if_that_is_allowed():
    bench = Bench(1, most_skipped=1)
    bench.do(ev.PeerDown(PeerId("p4")))
    passed_on(bench)
    over = (*ROUTE[:2], Hop(2, ()), ROUTE[3])
    assert bench.said(bench.do(ev.PeerDown(PeerId("p2")))) == [
        (0, fr.Rerouted(over, 2)),
        (3, activation(over)),
    ]


def test_without_any_other_way_the_origin_is_told_that_it_failed():
    bench = Bench(1)
    bench.do(ev.PeerDown(PeerId("p4")))
    passed_on(bench)
    assert bench.said(bench.do(ev.PeerDown(PeerId("p2")))) == [(0, fr.Failed(2, "no-host"))]


def test_a_host_without_a_slot_leads_to_the_next_way():
    bench = Bench(1, most_skipped=1)
    passed_on(bench)
    bench.do(ev.PeerDown(PeerId("p2")))
    said = bench.said(bench.get(4, fr.Refuse("no-slot"), 2))
    assert [type(body) for _, body in said] == [fr.Rerouted, fr.Activation]


def test_when_the_peer_before_is_gone_the_gradient_has_no_way_and_the_origin_is_told():
    bench = Bench(2).reserved(2)
    bench.get(1, activation(), 2)
    assert bench.said(bench.do(ev.PeerDown(PeerId("p1")))) == [(0, fr.Failed(1, "peer-down"))]


def failed(bench: Bench, reason: str = "outlier") -> list[act.Action]:
    """Let the present computation fail at what a neighbour has sent."""
    work = bench.peer.s.running
    assert work is not None
    return bench.do(ev.ComputeFailed(work, reason, of_input=True))


def test_who_sent_an_activation_that_cannot_be_used_is_named():
    bench = Bench(2).reserved(2)
    bench.get(1, activation(), 2)
    actions = failed(bench)
    assert act.Refused(PeerId("p1"), "outlier") in actions
    assert bench.said(actions) == [(0, fr.Failed(1, "outlier"))]


def test_who_sent_a_gradient_that_cannot_be_used_is_named_and_passed_by():
    bench = Bench(1)
    passed_on(bench)
    bench.get(2, fr.Gradient(PACE), 1)
    actions = failed(bench)
    assert act.Refused(PeerId("p2"), "outlier") in actions
    assert bench.said(actions) == [(0, fr.Failed(2, "outlier"))]
    assert bench.peer.s.banned[2] > bench.now


def test_a_computation_that_failed_for_another_reason_is_blamed_on_nobody_else():
    bench = Bench(2).reserved(2)
    bench.get(1, activation(), 2)
    actions = bench.do(ev.ComputeFailed(bench.peer.s.running, "SK-CMP-001"))
    assert not bench.refusals(actions)
    assert bench.said(actions) == [(0, fr.Failed(2, "SK-CMP-001"))]


def injected() -> Bench:
    """Return the origin with a step of one microbatch on its way."""
    bench = Bench(0)
    begun = bench.do(ev.BeginStep(1, 0, (TOKENS,)))
    grant_all(bench, begun)
    return bench


def grant_all(bench: Bench, actions: list[act.Action]) -> None:
    """Grant what was reserved elsewhere, and compute the embedding."""
    for send in [a for a in actions if isinstance(a, act.Send)]:
        if isinstance(send.frame.body, fr.Reserve):
            place = send.frame.place
            bench.get(int(send.peer[1:]), fr.Grant(), place.hop, attempt=place.attempt)
    bench.compute()


def test_a_microbatch_that_is_an_outlier_twice_is_left_out_of_the_step():
    bench = injected()
    again = bench.get(2, fr.Failed(1, "outlier"), 2)
    assert not [
        a for a in again if isinstance(a, act.Send) and isinstance(a.frame.body, fr.StepEnd)
    ]
    grant_all(bench, again)
    ended = bench.get(2, fr.Failed(1, "outlier"), 2, attempt=2)
    ends = [a.frame.body for a in ended if isinstance(a, act.Send)]
    assert fr.StepEnd(()) in ends
    assert "left out: outlier at p1 again" in next(a.text for a in ended if isinstance(a, act.Note))


def test_a_gradient_that_is_an_outlier_twice_stays_with_those_who_had_taken_it():
    bench = injected()
    for attempt in (1, 2):
        bench.get(3, activation(ROUTE if attempt == 1 else ROUND_ABOUT), 4, attempt=attempt)
        work = bench.peer.s.running
        bench.do(ev.Computed(work, b"g", 0.1, loss=2.0))
        culprit = 2 if attempt == 1 else 4
        actions = bench.get(1, fr.Failed(culprit, "outlier"), 1, attempt=attempt)
        if attempt == 1:
            grant_all(bench, actions)
    released = {
        send.peer: send.frame.body.done
        for send in actions
        if isinstance(send, act.Send) and isinstance(send.frame.body, fr.Release)
    }
    assert released == {"p1": False, "p4": True, "p3": True}
    [end] = [
        send.frame.body
        for send in actions
        if isinstance(send, act.Send) and isinstance(send.frame.body, fr.StepEnd)
        if send.peer == "p3"
    ]
    assert end.visits[0].microbatches == (0,)


def computed_twice(losses: tuple[float, float]) -> tuple[Bench, list[act.Action]]:
    """Let the origin train a microbatch, and measure it once more by another host of stage 2."""
    bench = Bench(0)
    grant_all(bench, bench.do(ev.BeginStep(1, 0, (TOKENS,), doubled=0)))
    bench.get(3, activation(), 4)
    bench.do(ev.Computed(bench.peer.s.running, b"g", 0.1, loss=losses[0]))
    actions = bench.get(1, fr.Gradient(PACE), 0)
    reserved = [a for a in actions if isinstance(a, act.Send) and a.frame.place.microbatch == 1]
    assert {a.peer for a in reserved} <= {"p1", "p3", "p4"}
    bench.compute()  # the weight gradient of the first one
    for send in reserved:
        frame = fr.Frame(FENCE, send.frame.place, fr.Grant())
        bench.do(ev.FrameReceived(send.peer, frame))
    assert bench.peer.s.running.kind is Kind.FORWARD
    bench.compute()
    back = fr.Frame(FENCE, fr.Place(1, 1, 4), activation(ROUND_ABOUT))
    bench.do(ev.FrameReceived(PeerId("p3"), back, b"x"))
    work = bench.peer.s.running
    assert (work.kind, work.counts) == (Kind.MEASURE, ())
    return bench, bench.do(ev.Computed(work, b"", 0.1, loss=losses[1]))


def test_two_hosts_of_a_stage_that_come_to_different_losses_are_both_named():
    _, actions = computed_twice((2.0, 2.1))
    refused = [a for a in actions if isinstance(a, act.Refused)]
    assert refused == [
        act.Refused(PeerId("p2"), "double-differs"),
        act.Refused(PeerId("p4"), "double-differs"),
    ]
    [note] = [a.text for a in actions if isinstance(a, act.Note)]
    assert "2.0000 by one way and of 2.1000 by another: one of p2, p4" in note


def test_a_double_that_agrees_trains_nothing_and_ends_with_the_step():
    bench, actions = computed_twice((2.0, 2.005))
    assert not bench.refusals(actions)
    ends = [
        a.frame.body
        for a in actions
        if isinstance(a, act.Send) and isinstance(a.frame.body, fr.StepEnd)
    ]
    assert ends and all(v.microbatches == (0,) for end in ends for v in end.visits)


def test_where_every_stage_has_one_host_nothing_is_computed_twice():
    bench = Bench(0)
    bench.do(ev.PeerDown(PeerId("p4")))
    grant_all(bench, bench.do(ev.BeginStep(1, 0, (TOKENS,), doubled=0)))
    bench.get(3, activation(), 4)
    bench.do(ev.Computed(bench.peer.s.running, b"g", 0.1, loss=2.0))
    bench.get(1, fr.Gradient(PACE), 0)
    actions = bench.compute()
    assert bench.peer.d.microbatches[1].left_out
    assert bench.peer.d.ended or [a for a in actions if isinstance(a, act.StepOver)]


def counted_once(bench: Bench) -> None:
    """Let the peer at position 2 do all that it does for microbatch 0."""
    bench.reserved(2).get(1, activation(), 2)
    bench.compute()
    bench.get(3, fr.Gradient(PACE), 2)
    bench.compute()
    bench.compute()


def test_the_weight_gradient_comes_after_the_input_gradient_is_shipped():
    bench = Bench(2).reserved(2)
    bench.get(1, activation(), 2)
    bench.compute()
    bench.get(3, fr.Gradient(PACE), 2)
    actions = bench.compute(b"gradient")
    [sent] = [a for a in actions if isinstance(a, act.Send)]
    assert (sent.peer, sent.payload, sent.frame.place.hop) == ("p1", b"gradient", 1)
    work = bench.peer.s.running
    assert isinstance(work, Task)
    assert (work.kind, work.counts) == (Kind.WEIGHT_GRADIENT, (2,))


def test_a_microbatch_that_is_tried_again_is_computed_again_but_counted_once():
    bench = Bench(2)
    counted_once(bench)
    bench.get(0, fr.Release(False), 2)
    assert bench.said(bench.get(0, fr.Reserve(ROUTE), 2, attempt=2)) == [(0, fr.Grant())]
    bench.get(1, activation(), 2, attempt=2)
    bench.compute()
    bench.get(3, fr.Gradient(PACE), 2, attempt=2)
    [(member, body)] = bench.said(bench.compute())
    assert (member, type(body)) == (1, fr.Gradient)
    assert bench.peer.s.running is None


def end(bench: Bench, *numbers: int) -> list[act.Action]:
    visits = (fr.StageVisits(2, TOKENS * len(numbers), numbers),) if numbers else ()
    return bench.get(0, fr.StepEnd(visits))


def test_a_step_is_made_of_what_the_origin_says():
    bench = Bench(2)
    counted_once(bench)
    visits = (fr.StageVisits(2, TOKENS, (0,)),)
    [taken] = [a.work for a in end(bench, 0) if isinstance(a, act.Compute)]
    assert taken.visits == visits
    assert bench.said(bench.compute()) == [(0, fr.Stepped(visits, ""))]
    again = end(bench, 0)
    assert bench.said(again) == [(0, fr.Stepped(visits, ""))]  # and no second step
    assert bench.peer.s.running is None


def test_gradients_that_hold_what_was_counted_elsewhere_are_thrown_away():
    bench = Bench(2)
    counted_once(bench)
    end(bench)
    assert bench.said(bench.compute()) == [(0, fr.Stepped((), "counted-elsewhere"))]


def test_gradients_of_a_step_whose_end_was_missed_are_thrown_away():
    bench = Bench(2)
    counted_once(bench)
    bench.get(0, fr.StepBegin(), fence=replace(FENCE, step=1))
    said = bench.said(bench.compute())
    assert said == [(0, fr.Stepped((), "step-missed"))]
    assert bench.refusals(bench.get(1, activation(), 2)) == ["stale-step"]


def test_a_body_peer_is_asked_for_no_step():
    with pytest.raises(ValueError, match="origin"):
        Bench(1).do(ev.BeginStep(1, 0, (TOKENS,)))


def test_one_step_at_a_time():
    bench = Bench(0)
    bench.do(ev.BeginStep(1, 0, (TOKENS,)))
    with pytest.raises(ValueError, match="cannot begin"):
        bench.do(ev.BeginStep(1, 1, (TOKENS,)))


def test_the_origin_hears_only_who_is_involved():
    bench = Bench(0)
    bench.do(ev.BeginStep(1, 0, (TOKENS,)))
    assert bench.refusals(bench.get(4, fr.Failed(1, "no-host"), 1)) == ["not-on-route"]
    assert bench.refusals(bench.get(4, fr.Rerouted(ROUTE, 1), 1)) == ["not-on-route"]
    assert bench.refusals(bench.get(1, fr.Failed(77, "no-host"), 1)) == ["not-on-route"]
    assert bench.refusals(bench.get(4, fr.Refuse("no-slot"), 1)) == ["stale-attempt"]
    assert bench.refusals(bench.get(1, fr.Gradient(PACE), 0)) == ["early-gradient"]
    assert bench.refusals(bench.get(3, activation(), 4)) == ["early-activation"]


events = st.one_of(
    st.builds(
        ev.FrameReceived,
        st.sampled_from([PeerId(f"p{i}") for i in range(6)]),
        st.builds(
            fr.Frame,
            st.builds(
                fr.Fence, st.just(RUN), st.just(1), st.just(0), st.just(1), st.integers(0, 3)
            ),
            st.builds(fr.Place, st.integers(0, 3), st.integers(0, 3), st.integers(0, 4)),
            st.one_of(
                own.bodies,
                st.sampled_from(
                    [
                        fr.Reserve(ROUTE),
                        fr.Reserve(ROUND_ABOUT),
                        activation(),
                        activation(ROUND_ABOUT),
                        fr.StepEnd((fr.StageVisits(2, 10, (0, 1)),)),
                    ]
                ),
            ),
        ),
        st.just(b"x"),
    ),
    st.builds(ev.PeerUp, st.sampled_from([PeerId("p0"), PeerId("p1"), PeerId("p4")])),
    st.builds(ev.PeerDown, st.sampled_from([PeerId("p0"), PeerId("p1"), PeerId("p4")])),
    st.just(ev.Tick()),
    st.just(ev.BeginStep(1, 0, (TOKENS, TOKENS))),
    st.just(ev.BeginStep(1, 0, (TOKENS,), forward_only=True)),
    st.booleans(),
)


@settings(max_examples=25)
@given(st.integers(0, 4), st.lists(events, max_size=40))
def test_whatever_happens_a_peer_stays_within_its_bounds(index, happenings):
    bench = Bench(index, most_skipped=1)
    s = bench.peer.s
    for happening in happenings:
        bench.now += 0.3
        if isinstance(happening, bool):
            work = s.running
            if work is not None:
                failed = ev.ComputeFailed(work, "x")
                bench.do(ev.Computed(work, b"y", 0.1) if happening else failed)
        elif not isinstance(happening, ev.BeginStep) or (index == 0 and not s.books):
            bench.do(happening)
        assert len(s.visits) <= s.member.slots
        assert len(s.waiting) <= s.member.slots
        assert len(s.books) <= 4
        assert len(s.queue) <= 3 * s.member.slots
        assert not s.loopback
