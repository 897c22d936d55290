"""A running plan changes where it has to, and stays as it is elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from skerry.pipeline.planning.plan import Member, Plan, Ring, Role, Shadow
from skerry.pipeline.planning.planner import Budget, make_plan
from skerry.pipeline.planning.problem import Limits, Network, Peer, Problem
from skerry.pipeline.planning.replan import replan
from skerry.protocol.errors import ConfigError

QUICK = Budget(evaluations=200)


def without(problem: Problem, *names: str) -> Problem:
    keep = [i for i, peer in enumerate(problem.peers) if peer.name not in names]
    links = problem.network
    network = Network(links.latency_NN[np.ix_(keep, keep)], links.bandwidth_NN[np.ix_(keep, keep)])
    return replace(problem, peers=tuple(problem.peers[i] for i in keep), network=network)


def with_peer(problem: Problem, name: str, **changes: object) -> Problem:
    peers = tuple(replace(peer, **changes) if peer.name == name else peer for peer in problem.peers)
    return replace(problem, peers=peers)


def homes(plan: Plan) -> dict[str, tuple[int, ...]]:
    return {member.peer: member.stages for ring in plan.rings for member in ring.members}


def hosts(plan: Plan) -> dict[int, str]:
    """Return who hosts each stage of the only ring."""
    (ring,) = plan.rings
    return {stage: member.peer for member in ring.members for stage in member.stages}


def ring_of(plan: Plan, peer: str) -> Ring:
    return next(ring for ring in plan.rings if peer in {one.peer for one in ring.members})


@pytest.fixture(scope="module")
def problem(make_swarm) -> Problem:
    """Two rings of three in two sites, and one more peer."""
    return make_swarm(7, microbatches=12)


@pytest.fixture(scope="module")
def running(problem) -> Plan:
    plan = make_plan(problem, Budget(evaluations=1200), version=4)
    assert len(plan.rings) == 2
    return plan


def test_nothing_new_keeps_everyone_in_place(problem, running) -> None:
    again = replan(running, problem, QUICK)
    assert again.version == 5
    assert again.stages == running.stages
    assert again.step_s <= running.step_s
    assert homes(again) == homes(running)


def test_a_spare_takes_the_place_of_one_that_went_and_nobody_else_moves(problem, running) -> None:
    (spare,) = running.spares
    lost = running.rings[0].members[1].peer
    after = replan(running, without(problem, lost), QUICK)
    assert homes(after)[spare] == homes(running)[lost]
    stayed = {peer: own for peer, own in homes(running).items() if peer != lost}
    assert {peer: own for peer, own in homes(after).items() if peer != spare} == stayed
    assert after.spares == ()


def test_while_a_ring_is_mended_nobody_makes_room_for_a_faster_spare(make_swarm) -> None:
    """Of two that stand by, both twice as fast, one is needed."""
    limits = Limits(slots=4, stages=4, full_replicas=False)
    problem = make_swarm(6, limits=limits, microbatches=8)
    running = make_plan(without(problem, "p4", "p5"), Budget(evaluations=200))
    faster = problem
    for name in ("p4", "p5"):
        fast = next(peer for peer in problem.peers if peer.name == name)
        faster = with_peer(faster, name, forward=2 * fast.forward, backward=2 * fast.backward)
    running = replace(running, spares=("p4", "p5"))
    lost = running.rings[0].members[2].peer
    after = replan(running, without(faster, lost), Budget(evaluations=800))
    stayed = {peer: own for peer, own in homes(running).items() if peer != lost}
    assert stayed.items() <= homes(after).items()
    assert len(homes(after)) == len(homes(running))


@pytest.fixture(scope="module")
def ring_of_four(make_swarm) -> tuple[Problem, Plan]:
    """One ring, a stage on each, and two that stand by."""
    limits = Limits(slots=4, stages=4, full_replicas=False)
    problem = make_swarm(6, limits=limits, microbatches=8)
    running = make_plan(without(problem, "p4", "p5"), Budget(evaluations=200))
    assert sorted(homes(running).values()) == [(0,), (1,), (2,), (3,)]
    return problem, replace(running, spares=("p4", "p5"))


@pytest.mark.parametrize("holder", ["p4", "p5"])
def test_of_those_who_stand_by_the_one_that_keeps_a_copy_takes_over(ring_of_four, holder) -> None:
    """Though the other one is nearer, or twice as fast."""
    problem, running = ring_of_four
    at = hosts(running)
    [other] = {"p4", "p5"} - {holder}
    fast = next(peer for peer in problem.peers if peer.name == other)
    faster = with_peer(problem, other, forward=2 * fast.forward, backward=2 * fast.backward)
    copies = (Shadow(1, at[1], other), Shadow(2, at[2], holder))
    after = replan(
        replace(running, shadows=copies), without(faster, at[2]), Budget(evaluations=800)
    )
    assert hosts(after) == {**at, 2: holder}


def test_who_keeps_a_copy_of_what_a_ring_still_hosts_is_not_preferred(ring_of_four) -> None:
    problem, running = ring_of_four
    at = hosts(running)
    rest = without(problem, at[2])
    nearest = hosts(replan(running, rest, QUICK))[2]
    [other] = {"p4", "p5"} - {nearest}
    after = replan(replace(running, shadows=(Shadow(1, at[1], other),)), rest, QUICK)
    assert hosts(after)[2] == nearest


def test_a_newcomer_is_not_put_before_those_who_stand_by(ring_of_four) -> None:
    """Both would have to fetch it all; who keeps a copy would not."""
    problem, running = ring_of_four
    at = hosts(running)
    new = with_peer(problem, "p5", forward=1000.0, backward=500.0)
    copied = replace(running, spares=("p4",), shadows=(Shadow(3, at[3], "p4"),))
    after = replan(copied, without(new, at[3]), Budget(evaluations=800))
    assert hosts(after) == {**at, 3: "p4"}
    assert (
        hosts(replan(replace(copied, shadows=()), without(new, at[3]), Budget(evaluations=800)))[3]
        == "p5"
    )


def test_of_two_losses_one_spare_takes_what_it_keeps_and_a_neighbour_the_other(
    ring_of_four,
) -> None:
    problem, running = ring_of_four
    at = hosts(running)
    roomy = with_peer(problem, at[0], memory=1 << 40)
    copied = replace(running, spares=("p4",), shadows=(Shadow(3, at[3], "p4"),))
    after = replan(copied, without(roomy, "p5", at[1], at[3]), QUICK)
    taker = hosts(after)[1]
    assert taker in (at[0], at[2])
    assert hosts(after) == {0: at[0], 1: taker, 2: at[2], 3: "p4"}


def test_a_neighbour_is_as_busy_as_it_would_be_with_what_it_takes_over(ring_of_four) -> None:
    """The origin is the less busy of two, but slow: with one stage more it would be the busier."""
    problem, running = ring_of_four
    at = hosts(running)
    members = (Member(at[0], (0,)), Member(at[1], (1,)), Member(at[3], (2, 3)))
    (ring,) = running.rings
    paths = tuple(
        replace(
            path, hops=tuple(replace(h, peer=at[3]) if h.stages == (2,) else h for h in path.hops)
        )
        for path in ring.paths
    )
    running = replace(running, rings=(replace(ring, members=members, paths=paths),), spares=())
    rest = without(problem, "p4", "p5", at[2], at[1])
    for peer, slowness in ((at[0], 1.6), (at[3], 1.0)):
        rest = with_peer(rest, peer, memory=1 << 40, forward=100 / slowness, backward=50 / slowness)
    after = replan(running, rest, Budget(evaluations=1))
    assert homes(after) == {at[0]: (0,), at[3]: (1, 2, 3)}


def test_without_a_spare_a_neighbour_takes_over_what_it_has_room_for(problem, running) -> None:
    (spare,) = running.spares
    lost = running.rings[0].members[1].peer
    roomy = with_peer(
        without(problem, lost, spare), running.rings[0].members[0].peer, memory=1 << 31
    )
    limits = replace(problem.limits, full_replicas=False)
    after = replan(running, replace(roomy, limits=limits), QUICK)
    assert len(after.rings) == 2
    origin = running.rings[0].origin
    assert set(homes(running)[lost]) <= set(homes(after)[origin]) | {
        stage for peer, own in homes(after).items() if peer != origin for stage in own
    }
    assert lost not in homes(after)


def test_a_ring_that_cannot_be_closed_is_given_up_and_its_work_is_shared_anew(make_swarm) -> None:
    problem = make_swarm(6, microbatches=12)
    running = make_plan(problem, Budget(evaluations=600))
    lost = running.rings[0].members[0].peer
    after = replan(running, without(problem, lost), QUICK)
    assert len(after.rings) == 1
    assert after.rings[0].microbatches == 12
    assert len(after.spares) == 2
    for peer, stages in homes(after).items():
        assert stages == homes(running)[peer]


def test_newcomers_that_can_hold_the_model_are_replicas_and_change_nobody_s_stages(
    problem, running
) -> None:
    size = len(problem.peers) + 1
    latency_NN, bandwidth_NN = np.full((size, size), 0.01), np.full((size, size), 10_000.0)
    latency_NN[:-1, :-1] = problem.network.latency_NN
    big = Peer("new", 300.0, 150.0, memory=1 << 40, site="near", domain="near")
    larger = replace(
        problem, peers=(*problem.peers, big), network=Network(latency_NN, bandwidth_NN)
    )
    after = replan(running, larger, QUICK)
    assert after.role_of("new") is Role.REPLICA
    assert {peer: own for peer, own in homes(after).items() if peer != "new"} == homes(running)
    assert after.text_tokens_s > running.text_tokens_s


def test_a_peer_slower_than_planned_gets_its_ring_less_to_do(problem, running) -> None:
    slow = running.rings[0].members[1].peer
    slower = with_peer(problem, slow, forward=20.0, backward=10.0)
    unchanged = replan(running, slower, Budget(evaluations=1))
    after = replan(running, slower, Budget(evaluations=800))
    assert after.step_s < 0.8 * unchanged.step_s
    if slow in homes(after):
        assert ring_of(after, slow).microbatches < running.rings[0].microbatches


def test_stages_of_another_model_are_planned_from_scratch(problem, running) -> None:
    deeper = replace(problem, model=replace(problem.model, blocks=10))
    after = replan(running, deeper, Budget(evaluations=300))
    assert after.version == running.version + 1
    assert after.stages[-1].stop == 10


def test_who_is_left_may_be_too_few(problem, running) -> None:
    with pytest.raises(ConfigError) as error:
        replan(running, without(problem, *(f"p{i}" for i in range(5))), QUICK)
    assert error.value.code == "SK-PLN-001"


def test_a_skipping_run_keeps_its_stages_though_nobody_stands_by(make_swarm) -> None:
    limits = Limits(slots=4, skip_ratio=1 / 3)
    problem = make_swarm(9, limits=limits)
    four = make_swarm(9, limits=replace(limits, stages=4))
    running = make_plan(four, Budget(evaluations=300))
    assert len(make_plan(problem, QUICK).stages) != len(running.stages) == 4
    for ring in running.rings:
        lost = (ring.members[-1].peer, *running.spares)
        after = replan(running, without(problem, *lost), QUICK)
        assert after.stages == running.stages
        assert len(set(after.visits()[1:])) == 1


def test_a_skipping_run_stays_equal(make_swarm) -> None:
    limits = Limits(slots=4, skip_ratio=1 / 3, stages=4)
    problem = make_swarm(9, limits=limits)
    running = make_plan(problem, Budget(evaluations=300))
    assert len(running.rings) == 3
    lost = running.rings[1].members[2].peer
    after = replan(running, without(problem, lost), QUICK)
    first, *middle = after.visits()
    assert len(set(middle)) == 1
    assert first == sum(ring.microbatches for ring in after.rings)


def test_the_least_busy_neighbour_with_room_takes_over_and_nobody_else_moves(make_swarm) -> None:
    limits = Limits(slots=4, stages=4, full_replicas=False)
    problem = make_swarm(4, limits=limits, microbatches=8)
    running = make_plan(problem, Budget(evaluations=200))
    (ring,) = running.rings
    at = {stage: member.peer for member in ring.members for stage in member.stages}
    roomy = problem
    for stage, speed in ((1, 10.0), (3, 1000.0)):
        roomy = with_peer(roomy, at[stage], memory=1 << 40, forward=speed, backward=speed)
    after = replan(running, without(roomy, at[2]), Budget(evaluations=1))
    taken = {**{at[stage]: (stage,) for stage in (0, 1)}, at[3]: (2, 3)}
    assert homes(after) == taken
    without_origin = replan(running, without(roomy, at[0]), Budget(evaluations=1))
    assert homes(without_origin) == {at[1]: (0, 1), at[2]: (2,), at[3]: (3,)}
    assert without_origin.rings[0].origin == at[1]
