"""A made-up stage is passed over by fewer and fewer microbatches, and always visited by one."""

from dataclasses import dataclass, field, replace

import pytest
import ring_world
from hypothesis import given
from hypothesis import strategies as st
from ring_world import RUN, TOKENS, Scenario, plan_of, rules_of

from skerry.protocol.ids import PeerId
from skerry.protocol.rings import actions as act
from skerry.protocol.rings import bypass
from skerry.protocol.rings import events as ev
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.bypass import Bypass
from skerry.protocol.rings.machine import RingPeer, apply, new_ring_peer
from skerry.protocol.rings.plan import HEAD, Hop, Member, Path, Ring, Stage

bypasses = st.builds(Bypass, st.floats(0.0, 0.999), st.integers(0, 50))
PLAN = plan_of(5, slots=8, in_flight=8)
STAGES, MICROBATCHES, STEPS = 5, 8, 4
HALF = {2: {0, 2, 4, 6}, 3: {1, 3, 5, 7}}
"""Who passes over the stages 2 and 3 in the first step."""


@given(bypasses, st.integers(0, 60), st.integers(1, 40), st.integers(0, 9))
def test_somebody_visits_and_ever_fewer_pass(bypass, age, microbatches, turn):
    passing = bypass.passing(age, microbatches, turn)
    assert passing <= set(range(microbatches))
    assert len(passing) < microbatches
    assert len(passing) >= len(bypass.passing(age + 1, microbatches, turn))
    if age >= bypass.steps:
        assert not passing


def test_half_pass_at_first_in_other_places_each_step():
    bypass = Bypass(first=0.5, steps=10)
    assert bypass.passing(0, 8) == {0, 2, 4, 6}
    assert bypass.passing(5, 8) == {5, 1}
    assert bypass.passing(0, 8) != bypass.passing(1, 8)


@given(st.integers(0, 20), st.integers(1, 20).map(lambda half: 2 * half), st.integers(0, 9))
def test_no_microbatch_is_to_pass_over_two_stages_side_by_side(age, microbatches, turn):
    bypass = Bypass()
    one = bypass.passing(age, microbatches, turn)
    assert not one & bypass.passing(age, microbatches, turn + 1)


@pytest.mark.parametrize(("first", "steps"), [(1.0, 5), (-0.1, 5), (0.5, -1)])
def test_a_stage_that_nobody_visits_would_never_train(first, steps):
    with pytest.raises(ValueError, match="bypass"):
        Bypass(first, steps)


# -- whole rings -----------------------------------------------------------------------------------


def visits(rebuilt: set[int], most_skipped: int, stages: int = STAGES) -> list[list[int]]:
    """Return how many microbatches each stage has counted, step by step."""
    scenario = Scenario(
        plan_of(stages),
        rules_of(most_skipped, hop_min_s=9.0, bypass_steps=STEPS),
        steps=STEPS + 1,
        microbatches=MICROBATCHES,
        rebuilt=frozenset(rebuilt),
    )
    world = ring_world.build(1, scenario)
    ring_world.finish(world)
    told = [
        {x.stage: x for w in taken.values() for x in w.visits} for taken in world.taken.values()
    ]
    for step in told:
        for one in step.values():
            assert one.text_tokens == TOKENS * len(one.microbatches)
        assert len(step[HEAD].microbatches) == MICROBATCHES
    return [[len(step[stage].microbatches) for stage in range(stages)] for step in told]


def test_a_rebuilt_stage_is_visited_by_half_at_first_and_then_by_ever_more():
    assert [step[2] for step in visits({2}, 1)] == [4, 5, 6, 7, 8]


def test_two_side_by_side_are_passed_over_by_different_microbatches():
    found = visits({2, 3}, 1)
    assert [step[2] for step in found] == [step[3] for step in found] == [4, 5, 6, 7, 8]
    assert all(step[0] == step[1] == step[4] == MICROBATCHES for step in found)


def test_what_may_be_missed_bounds_what_is_passed_over():
    assert visits({2, 3}, 0) == [[MICROBATCHES] * STAGES] * (STEPS + 1)
    assert [sum(step) for step in visits({1, 2, 3}, 1)] == [32, 32, 34, 37, 40]
    assert sum(visits({1, 2, 3}, 2)[0]) == 40 - 12


def test_the_first_stage_is_always_visited():
    assert [step[0] for step in visits({0, 1}, 2)] == [MICROBATCHES] * (STEPS + 1)


def test_where_paths_skip_stages_too_all_are_visited_as_planned_in_the_end():
    whole = tuple(Hop(stage, (stage,)) for stage in range(4))
    paths = tuple((tuple(hop for hop in whole if hop.member != out), 1) for out in (1, 2, 3))
    rules = rules_of(2, hop_min_s=9.0, bypass_steps=STEPS)
    scenario = Scenario(
        plan_of(4, paths=paths, slots=6),
        rules,
        steps=STEPS + 1,
        microbatches=3,
        rebuilt=frozenset({1, 2, 3}),
    )
    world = ring_world.build(1, scenario)
    ring_world.finish(world)
    last = [one for work in world.taken[1, STEPS].values() for one in work.visits]
    assert {one.stage: len(one.microbatches) for one in last if 0 < one.stage < 4} == {
        1: 2,
        2: 2,
        3: 2,
    }


# -- one peer --------------------------------------------------------------------------------------


@dataclass
class Peer:
    """One peer of the ring, to which the test plays all others."""

    index: int
    most_skipped: int = 1
    machine: RingPeer = field(init=False)

    def __post_init__(self) -> None:
        rules = rules_of(self.most_skipped, bypass_steps=STEPS)
        self.machine = new_ring_peer(PeerId(f"p{self.index}"), PLAN, 0, rules)
        for other in set(range(STAGES)) - {self.index}:
            self.do(ev.PeerUp(PeerId(f"p{other}")))

    def do(self, event: ev.Event) -> list[act.Action]:
        return apply(self.machine, event, 0.0)

    def hear(self, source: int, body: fr.Body, place: fr.Place | None = None) -> list[act.Action]:
        frame = fr.Frame(fr.Fence(RUN, 1, 0, 1, 0), place or fr.Place(), body)
        return self.do(ev.FrameReceived(PeerId(f"p{source}"), frame))

    def begin(self, *, forward_only: bool = False) -> list[act.Action]:
        return self.do(ev.BeginStep(1, 0, (TOKENS,) * MICROBATCHES, forward_only))


def told(*stages: int, age: int = 0) -> fr.Rebuilt:
    return fr.Rebuilt(tuple(fr.StageAge(stage, age) for stage in stages))


def sends(actions: list[act.Action], kind: type[fr.Body]) -> list[act.Send]:
    return [a for a in actions if isinstance(a, act.Send) and isinstance(a.frame.body, kind)]


def missed(actions: list[act.Action]) -> dict[int, set[int]]:
    """Return which stages each microbatch is to miss that slots are asked for."""
    found = {}
    for send in sends(actions, fr.Reserve):
        route = send.frame.body.route
        visited = {stage for hop in route for stage in hop.stages}
        found[send.frame.place.microbatch] = set(range(STAGES)) - visited
    return found


def passing(stage: int) -> dict[int, set[int]]:
    return {n: {stage} if n in HALF[stage] else set() for n in range(MICROBATCHES)}


def reserved(actions: list[act.Action], microbatch: int) -> list[act.Send]:
    return [s for s in sends(actions, fr.Reserve) if s.frame.place.microbatch == microbatch]


def set_out(origin: Peer, actions: list[act.Action], microbatch: int) -> None:
    """Grant all slots of a microbatch."""
    for send in reserved(actions, microbatch):
        origin.hear(int(send.peer[1:]), fr.Grant(), send.frame.place)


def test_half_of_the_microbatches_need_no_slot_at_a_rebuilt_stage_and_the_user_is_told():
    origin = Peer(0)
    [note] = origin.hear(2, told(2))
    assert note == act.Note(
        "p2 trains stage 2 back in: 50 % of the microbatches pass over it, ever fewer for 4 inner"
        " steps"
    )
    assert origin.hear(2, told(2)) == []
    begun = origin.begin()
    assert missed(begun) == passing(2)
    assert {s.frame.place.microbatch for s in sends(begun, fr.Reserve) if s.peer == "p2"} == (
        set(range(MICROBATCHES)) - HALF[2]
    )


def test_who_says_again_that_a_stage_is_new_is_spared_no_more_work_than_once():
    origin = Peer(0)
    drive = origin.machine.d
    assert drive is not None
    for step in range(STEPS):
        origin.hear(2, told(2))
        assert drive.rebuilt == {2: step}
        bypass.end_step(origin.machine.s, drive)
    assert origin.hear(2, told(2)) == []
    assert not any(missed(origin.begin()).values())
    origin.hear(3, told(3))
    assert drive.rebuilt == {3: 0}


def test_who_is_between_two_attempts_at_a_round_is_passed_by_for_a_moment_only():
    for source, reason, brief in ((2, fr.ROUND_OVER, True), (2, "late", False), (1, "late", False)):
        origin = Peer(0)
        set_out(origin, origin.begin(), 0)
        origin.hear(source, fr.Failed(source, reason), fr.Place(0, 1, source))
        rules = origin.machine.s.rules
        assert origin.machine.s.banned == {source: rules.break_s if brief else rules.ban_s}
    origin = Peer(0)
    set_out(origin, origin.begin(), 0)
    origin.hear(1, fr.Failed(2, fr.ROUND_OVER), fr.Place(0, 1, 1))
    assert origin.machine.s.banned == {2: origin.machine.s.rules.ban_s}, "it did not say so itself"


def test_what_only_measures_visits_all_stages():
    origin = Peer(0)
    origin.hear(2, told(2))
    assert not any(missed(origin.begin(forward_only=True)).values())


def test_a_peer_speaks_of_its_own_stages_and_to_the_origin_only():
    origin = Peer(0)
    for body in (told(3), told(0), told(2, 3), told(99)):
        [refused] = origin.hear(2, body)
        assert refused == act.Refused(PeerId("p2"), "not-hosted")
    assert origin.hear(2, told(2, age=STEPS)) == []
    assert not any(missed(origin.begin()).values())
    assert Peer(1).hear(2, told(2)) == [act.Refused(PeerId("p2"), "not-the-origin")]


def test_a_microbatch_that_has_set_out_keeps_its_way_when_it_is_begun_anew():
    origin = Peer(0)
    begun = origin.begin()
    set_out(origin, begun, 0)
    origin.hear(2, told(2))
    again = origin.hear(1, fr.Failed(0, "x"), fr.Place(0, 1, 1))
    assert missed(again) == {0: set()}, "a stage may have counted it"


def test_a_microbatch_that_passes_over_a_stage_does_so_again_when_it_is_begun_anew():
    origin = Peer(0)
    origin.hear(2, told(2))
    set_out(origin, origin.begin(), 0)
    origin.hear(2, told(2, age=STEPS - 1))
    again = origin.hear(1, fr.Failed(0, "x"), fr.Place(0, 1, 1))
    assert missed(again) == {0: {2}}
    [rest] = {tuple(hop.stages) for s in reserved(again, 0) for hop in s.frame.body.route[2:3]}
    assert rest == ()


def test_a_microbatch_that_has_not_set_out_follows_what_is_told_meanwhile():
    origin = Peer(0)
    begun = origin.begin()
    set_out(origin, begun, 2)
    again = origin.hear(2, told(2))
    assert missed(again) == {n: {2} for n in HALF[2] - {2}}
    assert {s.frame.place for s in sends(again, fr.Release)} >= {fr.Place(0, 1, 2)}
    origin.hear(1, fr.Refuse("early-step"), fr.Place(0, 2, 1))
    paused = apply(origin.machine, ev.Tick(), 0.5)
    assert missed(paused) == {0: {2}}


def test_with_a_stage_that_has_no_host_a_rebuilt_one_is_not_passed_over_besides():
    origin = Peer(0)
    origin.hear(2, told(2))
    origin.do(ev.PeerDown(PeerId("p3")))
    assert set(map(frozenset, missed(origin.begin()).values())) == {frozenset({3})}


def test_of_several_stages_of_one_peer_only_the_rebuilt_one_is_passed_over():
    plan = plan_of(3)
    crew = tuple(Member(PeerId(f"p{i}"), own, 4) for i, own in enumerate([(0,), (1, 2), (3,)]))
    way = tuple(Hop(place, member.stages) for place, member in enumerate(crew))
    stages = (*plan.stages, Stage(("block.3",)))
    plan = replace(plan, stages=stages, rings=(Ring(crew, (Path(way, 1),), 2),))
    rules = replace(rules_of(1), bypass_steps=STEPS)
    origin = new_ring_peer(PeerId("p0"), plan, 0, rules)
    for other in (1, 2):
        apply(origin, ev.PeerUp(PeerId(f"p{other}")), 0.0)
    rebuilt = fr.Frame(fr.Fence(RUN, 1, 0, 1, 0), fr.Place(), told(2))
    apply(origin, ev.FrameReceived(PeerId("p1"), rebuilt), 0.0)
    begun = apply(origin, ev.BeginStep(1, 0, (TOKENS, TOKENS)), 0.0)
    ways = {s.frame.place.microbatch: s.frame.body.route[1] for s in sends(begun, fr.Reserve)}
    assert ways == {0: Hop(1, (1,)), 1: Hop(1, (1, 2))}


def test_a_host_tells_the_origin_at_once_and_when_it_is_back_until_all_visit():
    host = Peer(2)
    [send] = host.do(ev.StagesRebuilt((fr.StageAge(2, 0), fr.StageAge(0, 0), fr.StageAge(4, 0))))
    assert (send.peer, send.frame.body) == ("p0", told(2))
    for step in range(STEPS):
        back = come_back(host)
        assert [s.frame.body for s in back] == [told(2, age=step)]
        train(host, step)
    assert come_back(host) == []


def come_back(host: Peer) -> list[act.Send]:
    host.do(ev.PeerDown(PeerId("p0")))
    return sends(host.do(ev.PeerUp(PeerId("p0"))), fr.Rebuilt)


def train(host: Peer, step: int) -> None:
    """Let a member take an inner step upon one microbatch."""
    fence, route = fr.Fence(RUN, 1, 0, 1, step), PLAN.rings[0].paths[0].hops

    def hear(source: int, body: fr.Body, hop: int = 0, attempt: int = 0) -> None:
        frame = fr.Frame(fence, fr.Place(0, attempt, hop), body)
        host.do(ev.FrameReceived(PeerId(f"p{source}"), frame, b"x"))

    def compute() -> None:
        work = host.machine.s.running
        assert work is not None
        host.do(ev.Computed(work, b"y", 0.1))

    hear(0, fr.StepBegin())
    hear(0, fr.Reserve(route), 2, 1)
    hear(1, fr.Activation(route, TOKENS, fr.Pace()), 2, 1)
    compute()
    hear(3, fr.Gradient(fr.Pace()), 2, 1)
    compute()
    hear(0, fr.StepEnd((fr.StageVisits(2, TOKENS, (0,)),)))
    compute()
    compute()
