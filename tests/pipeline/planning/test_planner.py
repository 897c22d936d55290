"""Plans that anyone can check: everything hosted, nothing twice, within memory and limits."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline.planning.draft import needed_bytes
from skerry.pipeline.planning.plan import Plan, Role, skipped
from skerry.pipeline.planning.planner import Budget, depth_candidates, make_plan, stage_cuts
from skerry.pipeline.planning.problem import UNLIMITED, Limits, Problem
from skerry.protocol.errors import ConfigError

QUICK = Budget(evaluations=60)
ROOM_FOR_FOUR = 150_000_000


def check(plan: Plan, problem: Problem) -> None:
    """Everything that must hold of any plan."""
    peers = {peer.name: peer for peer in problem.peers}
    hosting = [member.peer for ring in plan.rings for member in ring.members]
    assert sorted([*hosting, *plan.spares]) == sorted(peers)  # each once
    assert plan.stages[0].start == 0
    assert plan.stages[-1].stop == problem.model.blocks
    for before, after in zip(plan.stages, plan.stages[1:], strict=False):
        assert before.stop == after.start < after.stop
    for ring in plan.rings:
        for place, member in enumerate(ring.members):
            assert (0 in member.stages) == (place == 0)
            needed = needed_bytes(problem, plan.blocks_of(member.stages), place == 0)
            assert needed <= peers[member.peer].memory
            if problem.limits.max_blocks:
                assert plan.blocks_of(member.stages) <= problem.limits.max_blocks
        assert 1 <= ring.in_flight <= problem.limits.slots
        assert ring.step_s > 0
        length = len(plan.stages) - skipped(len(plan.stages), problem.limits.skip_ratio)
        for path in ring.paths:
            assert path.microbatches > 0
            assert path.hops[0].peer == ring.origin
            visited = [stage for hop in path.hops for stage in hop.stages]
            assert len(set(visited)) == len(visited) == length
            assert 0 in visited
            for hop in path.hops:
                (member,) = (one for one in ring.members if one.peer == hop.peer)
                assert set(hop.stages) <= set(member.stages)
    first, *middle = plan.visits()
    assert first == sum(ring.microbatches for ring in plan.rings)
    assert len(set(middle)) <= 1


@st.composite
def problems(draw, make_swarm):
    peers = draw(st.integers(4, 9))
    speeds = tuple(draw(st.sampled_from([0.5, 1.0, 3.0])) for _ in range(peers))
    problem = make_swarm(
        peers,
        speeds=speeds,
        limits=Limits(
            slots=draw(st.integers(1, 4)),
            skip_ratio=draw(st.sampled_from([0.0, 1 / 3])),
            swap_ratio=draw(st.sampled_from([0.0, 0.5])),
            stages=draw(st.sampled_from([0, 4])),
            full_replicas=draw(st.booleans()),
        ),
        microbatches=draw(st.sampled_from([0, 20])),
    )
    memories = [draw(st.sampled_from([ROOM_FOR_FOUR, 2**30])) for _ in range(peers)]
    sized = tuple(
        replace(peer, memory=memory) for peer, memory in zip(problem.peers, memories, strict=True)
    )
    return replace(problem, peers=sized)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_every_plan_is_one_that_can_be_carried_out(make_swarm, data) -> None:
    problem = data.draw(problems(make_swarm))
    try:
        plan = make_plan(problem, QUICK)
    except ConfigError as error:
        assert error.code == "SK-PLN-001"
    else:
        check(plan, problem)


def test_the_same_seed_gives_the_same_plan(make_swarm) -> None:
    problem = make_swarm(8)
    assert make_plan(problem, QUICK) == make_plan(problem, QUICK)


def test_a_peer_with_room_for_everything_is_a_full_replica_if_that_is_allowed(make_swarm) -> None:
    problem = make_swarm(5)
    big = replace(problem.peers[2], memory=UNLIMITED)
    problem = replace(problem, peers=(*problem.peers[:2], big, *problem.peers[3:]))
    plan = make_plan(problem, QUICK, version=7)
    assert plan.version == 7
    assert plan.role_of("p2") is Role.REPLICA
    assert plan.role_of("p0") is Role.STAGE
    limits = replace(problem.limits, full_replicas=False)
    plan = make_plan(replace(problem, limits=limits), QUICK)
    assert plan.role_of("p2") is not Role.REPLICA


def test_a_faster_ring_does_more_microbatches(make_swarm) -> None:
    speeds = (4.0, 4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0)
    plan = make_plan(make_swarm(8, speeds=speeds, microbatches=20), Budget(evaluations=600))
    assert len(plan.rings) == 2
    fast, slow = sorted(plan.rings, key=lambda ring: -ring.microbatches)
    assert {member.peer for member in fast.members} == {"p0", "p1", "p2", "p3"}
    assert fast.microbatches > 2 * slow.microbatches
    assert plan.step_s == max(fast.step_s, slow.step_s)
    assert plan.text_tokens_s == pytest.approx(20 * 100 / plan.step_s)


def test_annealing_is_told_of(make_swarm) -> None:
    signs: list[float] = []
    make_plan(make_swarm(6), Budget(evaluations=600, watch=signs.append))
    assert signs == sorted(signs)
    assert 0 <= signs[0] < signs[-1] <= 1


def test_too_little_memory_is_explained(make_swarm) -> None:
    with pytest.raises(
        ConfigError, match=r"takes about .* GiB in one piece; 6 peers have"
    ) as error:
        make_plan(make_swarm(memory=10_000_000))
    assert error.value.code == "SK-PLN-001"
    with pytest.raises(ConfigError, match="unlimited memory"):
        make_plan(make_swarm(1, memory=UNLIMITED, limits=Limits(max_blocks=2)))


def test_depths_begin_with_the_fewest_stages_that_most_peers_can_hold(make_swarm) -> None:
    assert depth_candidates(make_swarm())[0] == 2  # four blocks each, without the ends
    assert depth_candidates(make_swarm(memory=UNLIMITED))[0] == 1
    assert depth_candidates(make_swarm(limits=Limits(max_blocks=2)))[0] == 4
    assert depth_candidates(make_swarm(limits=Limits(stages=3))) == [3]
    assert depth_candidates(make_swarm(memory=1)) == [8]


def test_the_origin_s_stage_is_smaller_by_what_the_head_takes(make_swarm) -> None:
    problem = make_swarm()
    sizes = [cut.stop - cut.start for cut in stage_cuts(problem, 4)]
    assert sizes[0] <= min(sizes[1:])
    heavy = replace(problem, model=replace(problem.model, head_units=30.0))
    assert stage_cuts(heavy, 3)[0].stop == 0  # nothing but the ends
