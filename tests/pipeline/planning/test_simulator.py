"""Times that can be worked out by hand, rules that hold in every simulation, and losses."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline.planning.costs import HOME, PUBLISHED, UPLINKS, CostModel
from skerry.pipeline.planning.problem import (
    Limits,
    ModelCosts,
    Network,
    Peer,
    Problem,
    Traffic,
)
from skerry.pipeline.planning.simulator import Change, Route, Scenario, Simulator, Stop

# One unit takes 1 s forward and 2 s backward; a payload occupies an uplink for 0.5 s and is there
# 0.25 s after it has left.
BUSY, DELAY = 0.5, 0.25
MODEL = ModelCosts(4, 0, 0, 0, 0.0, 1, 0, 0)


def simulator(peers: int, costs: CostModel, download: float = float("inf")) -> Simulator:
    ones_NN = np.ones((peers, peers))
    return Simulator(
        Problem(
            peers=tuple(Peer(f"p{i}", 1.0, 0.5, download=download) for i in range(peers)),
            network=Network(DELAY * ones_NN, ones_NN / BUSY),
            model=MODEL,
            traffic=Traffic(microbatch_tokens=1, payload_bytes=1, microbatches=0),
            limits=Limits(),
            costs=costs,
        )
    )


def chain(*peers: int, loss: float = 0.0) -> Route:
    return Route(tuple(Stop(peer, 1.0, kind) for kind, peer in enumerate(peers)), loss)


def test_one_microbatch_takes_its_computations_and_its_ways() -> None:
    scenario = Scenario((chain(0, 1, 2, loss=0.5),), (0,), slots=1)
    ways = 3 + 3  # to 1, 2 and the loss at 0, and back
    assert simulator(3, UPLINKS).makespan_s(scenario) == pytest.approx(
        3 * 1 + 0.5 + 3 * 2 + ways * (BUSY + DELAY)
    )


def test_a_gradient_leaves_before_the_weights_gradient_is_computed() -> None:
    # Back to 1 and to 0, two thirds of a backward are enough; the last backward counts in full.
    scenario = Scenario((chain(0, 1),), (0,), slots=1)
    shipped = UPLINKS.ship_after - HOME.ship_after
    whole = simulator(2, UPLINKS).makespan_s(scenario)
    assert simulator(2, HOME).makespan_s(scenario) == pytest.approx(whole - 2 * shipped)


def test_one_peer_alone_does_one_after_the_other() -> None:
    scenario = Scenario((chain(0, loss=1.0),), (0,) * 5, slots=2)
    assert simulator(1, HOME).makespan_s(scenario) == pytest.approx(5 * (1 + 1 + 2))


def test_published_peers_rest_between_computations() -> None:
    scenario = Scenario((chain(0),), (0,) * 2, slots=1)
    first, other = PUBLISHED.rest_injected_s, PUBLISHED.rest_s
    rests = (first + other + other) + (first + other)  # the last one does not count
    assert simulator(1, PUBLISHED).makespan_s(scenario) == pytest.approx(2 * 3 + rests)


def test_a_sender_s_tensors_leave_one_after_the_other() -> None:
    # Two paths fork at peer 0 and end there: both leave it at once.
    routes = (Route((Stop(0, 0.0), Stop(1, 1.0))), Route((Stop(0, 0.0), Stop(2, 1.0))))
    both = Scenario(routes, (0, 1), slots=2)
    free = simulator(3, CostModel(contended=False, downlinks=False)).play(both)
    queued = simulator(3, CostModel(downlinks=False)).play(both)
    assert free.done_s[0] == pytest.approx(free.done_s[1])
    assert queued.done_s[0] == pytest.approx(free.done_s[0])
    assert queued.done_s[1] == pytest.approx(free.done_s[1] + BUSY)
    assert queued.sent_s[0] == pytest.approx(4 * BUSY)


def test_a_receiver_s_tensors_arrive_one_after_the_other() -> None:
    # Two origins send to peer 2 at the same time; its downlink is half as fast as their uplinks.
    routes = (Route((Stop(0, 0.0), Stop(2, 0.0))), Route((Stop(1, 0.0), Stop(2, 0.0))))
    both = Scenario(routes, (0, 1), slots=2)
    slow = simulator(3, CostModel(downlinks=True), download=1 / (2 * BUSY))
    done = simulator(3, CostModel(downlinks=True)).play(both).done_s
    assert done[0] == pytest.approx(done[1] - BUSY) or done[0] == pytest.approx(done[1])
    one = slow.makespan_s(Scenario(routes, (0,), slots=2))
    assert slow.makespan_s(both) > one + BUSY


def test_a_slot_is_taken_on_every_peer_of_the_path_before_a_microbatch_starts() -> None:
    # Paths in opposite directions over the same peers: with one slot each, one waits for the other.
    routes = (chain(0, 1, 2), Route((Stop(3, 1.0), Stop(2, 1.0), Stop(1, 1.0))))
    outcome = simulator(4, HOME).play(Scenario(routes, (0, 1) * 3, slots=1))
    assert all(outcome.done_s)
    assert set(outcome.peak_slots.values()) == {1}


@st.composite
def scenarios(draw):
    peers = draw(st.integers(1, 5))
    routes = []
    for _ in range(draw(st.integers(1, 3))):
        order = draw(st.permutations(range(peers)))
        size = draw(st.integers(1, peers))
        stops = tuple(Stop(peer, float(draw(st.integers(1, 3)))) for peer in order[:size])
        routes.append(Route(stops, float(draw(st.integers(0, 1)))))
    drawn = draw(st.lists(st.integers(0, len(routes) - 1), min_size=1, max_size=8))
    return peers, Scenario(tuple(routes), tuple(drawn), slots=draw(st.integers(1, 3)))


def step_s(route: Route, step: int) -> float:
    length = len(route.stops)
    if step == length:
        return route.loss_units
    return route.stops[step].units if step < length else 2 * route.stops[2 * length - step].units


@settings(deadline=None)
@given(scenarios(), st.sampled_from([PUBLISHED, UPLINKS, HOME]))
def test_rules_hold_whatever_is_simulated(case, costs) -> None:
    peers, scenario = case
    outcome = simulator(peers, costs).play(scenario, log=True)
    assert all(outcome.done_s)
    assert max(outcome.peak_slots.values()) <= scenario.slots
    by_microbatch: dict[int, list] = {}
    by_peer: dict[int, list] = {}
    for task in outcome.tasks:
        by_microbatch.setdefault(task.microbatch, []).append(task)
        by_peer.setdefault(task.peer, []).append(task)
    for microbatch, route in enumerate(scenario.order):
        tasks = by_microbatch[microbatch]
        steps = range(2 * len(scenario.routes[route].stops) + 1)
        assert [task.step for task in tasks] == list(steps)
        for task in tasks:
            assert task.end_s - task.start_s == pytest.approx(
                step_s(scenario.routes[route], task.step)
            )
        for before, after in pairwise(tasks):
            way = BUSY + DELAY if before.peer != after.peer else 0.0
            share = costs.ship_after if before.step > len(steps) // 2 else 1.0
            ready = before.start_s + share * (before.end_s - before.start_s)
            assert after.start_s >= ready + way - 1e-9
        assert tasks[-1].end_s == pytest.approx(outcome.done_s[microbatch])
    for tasks in by_peer.values():
        for before, after in pairwise(tasks):
            assert after.start_s >= before.end_s - 1e-9
    assert outcome.makespan_s == max(outcome.done_s)


@settings(deadline=None)
@given(scenarios())
def test_the_same_scenario_gives_the_same_times(case) -> None:
    peers, scenario = case
    assert simulator(peers, HOME).play(scenario) == simulator(peers, HOME).play(scenario)


RING = (chain(0, 1),)
TWICE = ((0,), (1, 2))
"""Peer 2 hosts what peer 1 does."""


def test_a_lost_peer_s_microbatches_start_again_over_another_host() -> None:
    scenario = Scenario(RING, (0,) * 4, 2, (Change(2.0, 1, up=False),), TWICE)
    outcome = simulator(3, HOME).play(scenario, log=True)
    assert all(outcome.done_s)
    assert sum(outcome.retries) == 2  # those under way
    assert all(task.start_s <= 2.0 for task in outcome.tasks if task.peer == 1)
    redone = [task for task in outcome.tasks if task.peer == 2]
    assert len(redone) == 2 * len(scenario.order)
    assert min(task.start_s for task in redone) >= 2.0
    lost = Scenario(RING, (0,) * 4, 2, (Change(2.0, 1, up=False),), ((0,), (1,)))
    assert not all(simulator(3, HOME).play(lost).done_s)


def test_what_had_not_begun_takes_another_host_as_well() -> None:
    scenario = Scenario(RING, (0,) * 3, 1, (Change(0.0, 1, up=False),), TWICE)
    outcome = simulator(3, HOME).play(scenario)
    assert all(outcome.done_s)
    assert outcome.computed_s[1] == 0.0


def test_a_peer_that_comes_back_is_waited_for() -> None:
    changes = (Change(0.5, 1, up=False), Change(50.0, 1, up=True))
    outcome = simulator(2, HOME).play(Scenario(RING, (0,) * 2, 2, changes, ((0,), (1,))))
    assert all(done > 50.0 for done in outcome.done_s)


def test_stages_without_a_host_are_passed_by_if_the_rules_say_so() -> None:
    route = (chain(0, 1, 2),)
    change = (Change(0.5, 1, up=False),)
    outcome = simulator(3, CostModel(bypass=True)).play(
        Scenario(route, (0,) * 2, 2, change, ((0,), (1,), (2,))), log=True
    )
    assert all(outcome.done_s)
    done = {(task.microbatch, task.peer) for task in outcome.tasks if task.peer == 2}
    assert done == {(0, 2), (1, 2)}
    assert all(task.start_s < 0.5 for task in outcome.tasks if task.peer == 1)


def test_nothing_goes_on_without_the_origin() -> None:
    change = (Change(0.5, 0, up=False),)
    outcome = simulator(3, HOME).play(Scenario(RING, (0,) * 2, 2, change, ((0, 2), (1,))))
    assert outcome.done_s == (0.0, 0.0)


@settings(deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3), st.booleans()), max_size=6),
)
def test_whoever_comes_and_goes_slots_are_never_exceeded_nor_leaked(work, slots, changes) -> None:
    # Peers 1 to 3 host the same; the last change brings all of them back, so that all is done.
    churn = [Change(float(at), peer, up) for at, peer, up in changes]
    churn += [Change(100.0, peer, up=True) for peer in (1, 2, 3)]
    routes = (chain(0, 1), chain(0, 2))
    order = tuple(i % 2 for i in range(work))
    hosts = ((0,), (1, 2, 3))
    outcome = simulator(4, HOME).play(Scenario(routes, order, slots, tuple(churn), hosts))
    assert all(outcome.done_s)
    assert max(outcome.peak_slots.values()) <= slots


def test_hops_are_averaged_over_both_directions() -> None:
    one = simulator(2, HOME)
    assert one.hop_s(0, 1) == pytest.approx(BUSY + DELAY)
    assert one.hops_NN()[0, 1] == pytest.approx(one.hop_s(1, 0))
