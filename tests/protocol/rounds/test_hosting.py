"""Who hosts what under a plan, and which plans are none."""

from dataclasses import replace

import pytest
from simulated_compute import SHARDS
from simulated_planner import plan_of, ring

from skerry.protocol.compute import HostedStage, Hosting
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.rings.plan import Hop, Member, Path, Plan, Stage
from skerry.protocol.rounds.hosting import NOTHING, Hosts, plan_version
from skerry.protocol.rounds.leader import MAX_VIEW, leader_of, succession

A, B, C, D, E = (PeerId(name) for name in "abcde")
UNPLANNED = Hosts(SHARDS)


def planned(*rings: list[PeerId], spares: tuple[PeerId, ...] = ()) -> Hosts:
    return UNPLANNED.following(plan_of(list(rings), list(spares)))


def refused(plan: Plan) -> bool:
    with pytest.raises(ProtocolError) as caught:
        UNPLANNED.following(plan)
    return caught.value.reason == "plan"


def test_without_a_plan_everybody_hosts_everything():
    assert UNPLANNED.shards_of(A) == SHARDS
    assert UNPLANNED.is_whole(A) and UNPLANNED.reads_text(A) and not UNPLANNED.names(A)
    assert UNPLANNED.hosting_of(A) is None
    assert UNPLANNED.partial == UNPLANNED.ringed == frozenset()


def test_a_ring_shares_the_model_and_only_its_origin_reads_text():
    hosts = planned([A, B, C], spares=(D,))
    parts = [hosts.shards_of(peer) for peer in (A, B, C)]
    assert sorted(shard for part in parts for shard in part) == sorted(SHARDS)
    assert [hosts.reads_text(peer) for peer in (A, B, C, D, E)] == [True, False, False, False, True]
    assert hosts.readers((E, C, B, A)) == [E, A]
    assert hosts.shards_of(D) == () and hosts.hosting_of(D) == NOTHING
    assert hosts.partial == {A, B, C, D}
    assert hosts.ringed == {A, B, C}
    assert hosts.hosting_of(B) == Hosting((HostedStage(1, (SHARDS[1],)),), 2)


def test_several_stages_of_a_peer_are_hosted_in_layout_order():
    hosts = planned([A, B])
    assert hosts.shards_of(A) == (SHARDS[0], SHARDS[1], SHARDS[3])


def test_a_ring_of_one_hosts_the_whole_model():
    plan = plan_of([[A, B]], [])
    alone = replace(
        ring([C, D]),
        members=(Member(C, (0, 1, 2), 3),),
        paths=(Path((Hop(0, (0, 1, 2)),), 1),),
    )
    hosts = UNPLANNED.following(replace(plan, rings=(*plan.rings, alone)))
    assert hosts.is_whole(C) and hosts.hosting_of(C) is None
    assert C in hosts.ringed and C not in hosts.partial


def test_a_new_plan_takes_the_place_of_the_old_one():
    hosts = planned([A, B, C]).following(plan_of([[B, D]], []))
    assert hosts.is_whole(A)
    assert hosts.ringed == {B, D}


@pytest.mark.parametrize(
    "stages",
    [
        (("embed", "head"), ("block.0",)),
        (("embed", "head"), ("block.1",), ("block.0",)),
        (("embed",), ("block.0",), ("block.1", "head")),
        (("block.0",), ("embed", "head"), ("block.1",)),
        (("head", "embed"), ("block.0",), ("block.1",)),
        (("embed", "head"), ("block.0",), ("block.1", "block.2")),
    ],
    ids=["too few", "order", "head apart", "ends in the middle", "ends swapped", "too many"],
)
def test_stages_that_are_not_the_model_s_are_refused(stages):
    plan = plan_of([[A, B, C]], [])
    assert refused(replace(plan, stages=tuple(Stage(shards) for shards in stages)))


def test_a_ring_without_a_stage_and_one_with_two_origins_are_refused():
    whole = ring([A, B])
    lacking = replace(
        whole, members=(Member(A, (0,), 2), Member(B, (1,), 2)), paths=(Path((Hop(0, (0,)),), 1),)
    )
    assert refused(replace(plan_of([[A, B]], []), rings=(lacking,)))
    double = replace(whole, members=(whole.members[0], Member(B, (0, 2), 2)))
    assert refused(replace(plan_of([[A, B]], []), rings=(double,)))


def test_no_two_commits_hold_plans_of_the_same_version():
    versions = [plan_version(r, v) for r in range(3) for v in (0, 1, MAX_VIEW)]
    assert versions == sorted(set(versions))


def test_who_hosts_a_part_leads_last():
    run, roster = RunId("ab" * 32), (A, B, C, D, E)
    for number in range(20):
        order = succession(run, number, roster, frozenset((B, D)))
        assert set(order[:3]) == {A, C, E}
        assert leader_of(run, number, 3, roster, frozenset((B, D))) == order[3]
