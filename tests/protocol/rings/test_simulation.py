"""What must hold whatever happens: simulated rings of the real machine.

A failing seed tells its story with ``python tests/protocol/rings/ring_world.py SEED``.
"""

from dataclasses import replace

import pytest
import ring_world
from ring_world import Scenario, Violation, World, plan_of, rules_of

from skerry.protocol.rings import bypass, hosting, machine, origin, stepping
from skerry.protocol.rings import events as ev
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.detours import UNANNOUNCED
from skerry.protocol.rings.machine import new_ring_peer
from skerry.protocol.rings.plan import Hop
from skerry.protocol.rings.waiting import waiting_for

SEEDS = 90
MANY_SEEDS = 1090


def hold(seed: int) -> World:
    try:
        return ring_world.run(seed)
    except Exception as error:
        pytest.fail(f"seed {seed}: {error!r}", pytrace=False)


@pytest.mark.parametrize("first", range(0, SEEDS, 30))
def test_every_schedule_keeps_the_invariants(first):
    for seed in range(first, first + 30):
        hold(seed)


@pytest.mark.chaos
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("first", range(SEEDS, MANY_SEEDS, 250))
def test_many_more_schedules_keep_the_invariants(first):
    for seed in range(first, first + 250):
        hold(seed)


def test_the_schedules_are_rough_enough_to_say_something():
    redone = dropped = 0
    refused: set[str] = set()
    for seed in range(SEEDS, SEEDS + 25):
        world = hold(seed)
        redone += sum(done.redone for done in world.done)
        dropped += world.dropped
        refused |= set(world.refused)
    assert redone > 10
    assert dropped > 0
    assert {"duplicate", "stale-attempt", "stale-step"} <= refused


@pytest.mark.parametrize("seed", [3, 21])
def test_a_seed_tells_the_same_story_twice(seed):
    def story() -> list[str]:
        world = ring_world.build(seed, trace=True)
        ring_world.finish(world)
        return world.story

    assert story() == story()


@pytest.mark.parametrize(
    ("module", "name", "first"),
    [
        (hosting, "count", 0),
        (hosting, "uncount", 0),
        (origin, "on_overdue", 20),
        (machine, "grant_waiting", 9),
        (machine, "on_release", 0),
        (stepping, "tell_again", 0),
        (bypass, "begin_step", 0),
    ],
)
def test_a_machine_with_a_part_missing_is_found_out(monkeypatch, module, name, first):
    monkeypatch.setattr(module, name, lambda *rest, **more: [])
    with pytest.raises((AssertionError, KeyError)):
        for seed in range(first, first + 80):
            ring_world.run(seed)


def test_a_recorded_peer_replays_exactly(monkeypatch):
    records: dict[int, list] = {}
    real = machine.apply

    def recording(peer, event, now):
        actions = real(peer, event, now)
        records.setdefault(peer.s.me, []).append((event, now, list(actions)))
        return actions

    monkeypatch.setattr(ring_world, "apply", recording)
    scenario = Scenario(
        plan_of(4), rules_of(), faults=3, kinds=("cut", "freeze", "replay"), calm=False
    )
    ring_world.finish(ring_world.build(5, scenario))
    ring = scenario.plan.rings[0]
    for index, record in records.items():
        again = new_ring_peer(ring.members[index].peer, scenario.plan, 0, scenario.rules)
        assert all(real(again, event, now) == actions for event, now, actions in record)


def dies(scenario: Scenario, body: int, at: float, back_after: float | None = None) -> World:
    scenario.calm = False
    world = ring_world.build(1, scenario)
    world.at(at, lambda: world.kill(body, back_after))
    ring_world.finish(world)
    return world


@pytest.mark.parametrize("at", [0.05, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5])
def test_when_a_body_dies_mid_step_another_host_does_its_part(at):
    plan = plan_of(3, members=((0,), (1,), (2,), (1,)))
    world = dies(Scenario(plan, rules_of(), steps=2, microbatches=8), 1, at)
    assert [done.trained for done in world.done] == [tuple(range(8))] * 2
    assert sorted(world.taken[1, 1]) == [0, 2, 3]


@pytest.mark.parametrize("at", [0.05, 0.3, 0.6, 1.0])
def test_when_a_body_dies_mid_step_and_stages_may_be_missed_the_ring_goes_on_without(at):
    world = dies(Scenario(plan_of(4), rules_of(1), steps=2, microbatches=8), 2, at)
    assert [done.trained for done in world.done] == [tuple(range(8))] * 2
    assert sorted(world.taken[1, 1]) == [0, 1, 3]


def test_a_step_that_only_measures_counts_nothing_and_the_next_one_trains():
    scenario = Scenario(plan_of(4), rules_of(hop_min_s=5.0), measured=frozenset({0, 2}))
    world = ring_world.build(1, scenario)
    ring_world.finish(world)
    assert [done.loss for done in world.done] == [2.0] * 3
    assert list(world.taken) == [(1, 1)]
    assert len(world.taken[1, 1]) == 4


def test_without_another_way_the_ring_waits_for_the_peer_and_says_for_what():
    scenario = Scenario(plan_of(3), rules_of(), steps=2, microbatches=4, calm=False)
    world = ring_world.build(1, scenario)
    world.at(0.4, lambda: world.kill(1, 30.0))
    assert not world.run_until(lambda: bool(world.done), 20.0)
    assert waiting_for(world.nodes[0].machine) == ("a host of stage 1",)
    ring_world.finish(world)


def test_a_late_peer_is_routed_around_and_its_work_is_not_counted_twice():
    plan = plan_of(3, members=((0,), (1,), (2,), (1,)))
    world = ring_world.build(2, Scenario(plan, rules_of(), steps=3, microbatches=8, calm=False))
    world.at(0.3, lambda: world.nodes[1].freeze(8.0))
    ring_world.finish(world)
    assert world.done[0].trained == tuple(range(8))
    assert world.taken[1, 0].keys() >= {0, 2, 3}


@pytest.mark.parametrize("seed", range(4))
def test_a_last_hop_that_claims_an_honest_one_was_passed_over_costs_that_one_no_gradients(seed):
    plan = plan_of(4, members=((0,), (1,), (2,), (3,), (3,)))
    scenario = Scenario(plan, rules_of(1, hop_min_s=5.0), microbatches=8, calm=False)
    world = ring_world.build(seed, scenario)

    def claims(frame: fr.Frame) -> fr.Frame:
        if not isinstance(frame.body, fr.Activation):
            return frame
        route = frame.body.route
        changed = (route[0], replace(route[1], stages=()), *route[2:])
        return replace(frame, body=replace(frame.body, route=changed))

    world.liars[3] = claims
    ring_world.finish(world)
    assert world.refused[UNANNOUNCED] > 0
    assert world.dropped == 0
    assert not [told for told in world.stepped if told.reason]


def test_a_ring_of_one_peer_trains_alone():
    world = ring_world.build(1, Scenario(plan_of(1), rules_of(), microbatches=3))
    ring_world.finish(world)
    assert [done.trained for done in world.done] == [(0, 1, 2)] * 3


def test_paths_are_taken_as_often_as_planned_and_ends_may_be_swapped():
    whole = tuple(Hop(stage, (stage,)) for stage in range(4))
    turned = (Hop(0, ()), whole[1], whole[0], whole[3], whole[2])
    plan = plan_of(4, paths=((whole, 2), (turned, 1)), slots=6)
    world = ring_world.build(1, Scenario(plan, rules_of(hop_min_s=5.0), microbatches=6))
    ring_world.finish(world)  # which compares the visits with the plan


def test_when_the_origin_dies_the_others_keep_nothing():
    world = ring_world.build(1, Scenario(plan_of(3), rules_of(), microbatches=8))
    assert not world.run_until(lambda: False, 0.5)
    assert all(node.machine.s.visits for node in world.nodes)
    world.kill(0, None)
    world.run_until(lambda: False, 100.0)
    for node in world.nodes[1:]:
        assert not (node.machine.s.visits or node.machine.s.waiting or len(node.machine.s.queue))
        assert waiting_for(node.machine) == ("p0",)


def test_more_are_on_their_way_when_the_loop_is_long():
    world = ring_world.build(
        1, Scenario(plan_of(4, slots=12, in_flight=1), rules_of(hop_min_s=9.0), microbatches=30)
    )
    for node in world.nodes:
        node.pace = 0.02
    world.max_jitter = 0.0
    highest = 0

    def look() -> bool:
        nonlocal highest
        drive = world.nodes[0].machine.d
        highest = max(highest, len(drive.active)) if drive else 0
        return len(world.done) == 3

    assert world.run_until(look, 300.0)
    assert 5 <= highest <= 12


def test_a_step_that_is_cut_short_ends_with_what_has_a_loss():
    world = ring_world.build(1, Scenario(plan_of(3), rules_of(), steps=1, microbatches=20))
    world.run_until(lambda: False, 2.0)
    world.nodes[0].handle(ev.CutStep())
    assert world.run_until(lambda: bool(world.done), 100.0)
    assert 0 < len(world.done[0].trained) < 20
    assert world.dropped == 0


def test_a_step_that_cannot_end_can_be_given_up():
    world = ring_world.build(
        1, Scenario(plan_of(3), rules_of(), steps=1, microbatches=6, calm=False)
    )
    world.run_until(lambda: False, 0.8)
    world.kill(1, None)
    world.nodes[0].handle(ev.CutStep())
    assert not world.run_until(lambda: bool(world.done), 60.0)
    world.nodes[0].handle(ev.CutStep(force=True))
    assert world.run_until(lambda: bool(world.done), 100.0)


def test_a_ring_that_stands_still_is_a_violation():
    world = ring_world.build(1, Scenario(plan_of(3), rules_of()))
    world.nodes[2].handle = lambda event: None
    with pytest.raises(Violation, match="stands still"):
        ring_world.finish(world)
