"""Plans for the peers of a run: who offers what becomes who hosts what."""

from collections import Counter
from dataclasses import replace
from itertools import combinations
from math import inf

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.pipeline.capacity import needed_bytes
from skerry.pipeline.planning import maker
from skerry.pipeline.planning.maker import plan_of
from skerry.pipeline.planning.request import MeasuredLink, Request
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import Manifest, parse_run_file
from skerry.protocol.messages import Offer, RoleOffer
from skerry.protocol.rings.codec import decode_plan, encode_plan
from skerry.protocol.rings.plan import Shadow
from skerry.protocol.rounds.candidates import Candidate
from skerry.protocol.rounds.hosting import Hosts
from skerry.protocol.rounds.slowness import SPREAD
from skerry.protocol.signing import Signer
from skerry.recovery.swaps import learned_roles

PEERS = [Signer(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32)).peer_id for i in range(1, 7)]
MANIFEST = parse_run_file("model.layers = 4", PEERS[0])
SHARDS = tuple(spec.name for spec in layout_of(MANIFEST.model))
WHOLE = needed_bytes(MANIFEST)
REPLICA = Offer(RoleOffer.REPLICA, WHOLE)
STAGE = Offer(RoleOffer.STAGE, 4 * WHOLE)
SMALL = Offer(RoleOffer.AUTO, WHOLE // 2)


def asked(*offers: Offer, running=None, manifest=MANIFEST) -> Request:
    found = [Candidate(peer, offer) for peer, offer in zip(PEERS, offers, strict=False)]
    before = encode_plan(running).hex() if running else ""
    request = Request(manifest.canonical().decode(), tuple(found), before)
    assert Request.from_json(request.to_json()) == request
    return request


def hosts_of(plan) -> Hosts:
    assert plan is not None
    return Hosts(SHARDS).following(plan)


def test_those_who_offer_a_stage_share_the_model_beside_a_replica():
    hosts = hosts_of(plan_of(asked(REPLICA, STAGE, STAGE, SMALL)))
    assert [hosts.names(peer) for peer in PEERS[:4]] == [False, True, True, True]
    assert not any(hosts.is_whole(peer) for peer in PEERS[1:4])
    hosted = [shard for peer in PEERS[1:4] for shard in hosts.shards_of(peer)]
    assert sorted(hosted) == sorted(SHARDS)
    assert len(hosts.readers(PEERS[1:4])) == 1


@pytest.mark.parametrize("offers", [(REPLICA,), (REPLICA, REPLICA), (REPLICA, STAGE)])
def test_no_plan_where_nobody_can_share(offers):
    assert plan_of(asked(*offers)) is None


def test_a_plan_that_runs_keeps_its_stages_when_a_peer_leaves():
    before = plan_of(asked(REPLICA, STAGE, STAGE, STAGE))
    assert before is not None
    after = plan_of(asked(REPLICA, STAGE, STAGE, running=before))
    assert after is not None
    assert after.stages == before.stages
    assert hosts_of(after).ringed == frozenset(PEERS[1:3])


def test_the_run_s_skip_ratio_is_planned_for():
    ring = manifest_with("model.layers = 4\nring.skip_ratio = 0.33")
    plan = plan_of(asked(REPLICA, STAGE, STAGE, STAGE, manifest=ring))
    assert plan is not None
    routes = [path.hops for found in plan.rings for path in found.paths for _ in range(path.quota)]
    visits = Counter(stage for route in routes for hop in route for stage in hop.stages)
    assert visits[0] == len(routes), "the first stage is never skipped"
    assert sum(visits.values()) < len(routes) * len(plan.stages)
    middle = [visits[stage] for stage in range(1, len(plan.stages))]
    assert max(middle) - min(middle) <= 1


@pytest.mark.parametrize("layers", [4, 8])
def test_the_run_s_swap_ratio_is_planned_for_by_those_who_are_left_too(layers):
    """There are enough stages to swap, though fewer of them would be faster."""
    ring = manifest_with(f"model.layers = {layers}\nring.swap_ratio = 0.5")
    plan = plan_of(asked(REPLICA, STAGE, STAGE, STAGE, manifest=ring))
    assert plan is not None
    after = plan_of(asked(REPLICA, STAGE, STAGE, running=plan, manifest=ring))
    assert after is not None
    for found in (plan, after):
        orders = {
            tuple(stage for hop in path.hops for stage in hop.stages): path.quota
            for ring in found.rings
            for path in ring.paths
        }
        assert orders.pop(tuple(range(len(plan.stages)))) == 4
        [(turned, quota)] = orders.items()
        assert (sorted(turned), quota) == (list(range(len(plan.stages))), 4)
        with_blocks = [i for i, stage in enumerate(plan.stages) if len(stage.shards) != 2 or i]
        ends = {*with_blocks[:2], *with_blocks[-2:]}
        assert set(learned_roles(orders)) == ends
        assert len(ends) == 4


def test_a_peer_that_is_slower_than_planned_gives_way_to_one_that_stands_by():
    """And a plan says on what speeds it counts; who was never measured is like the middle one."""
    before = plan_of(asked(REPLICA, STAGE, STAGE, STAGE))
    assert before is not None
    [ring] = before.rings
    [spare] = {*PEERS[1:4]} - {member.peer for member in ring.members}
    assert before.spares == (spare,)
    assert len({member.rate for member in ring.members}) == 1
    slow = ring.members[1].peer
    rates = {member.peer: 1000.0 for member in ring.members} | {slow: 100.0}
    request = asked(REPLICA, STAGE, STAGE, STAGE, running=before)
    told = (replace(one, rate=rates.get(one.peer, 0.0)) for one in request.candidates)
    after = plan_of(replace(request, candidates=tuple(told)))
    assert after is not None
    assert (after.stages, after.spares) == (before.stages, (slow,))
    assert {member.rate for member in after.rings[0].members} == {1000.0}


def test_who_can_host_everything_keeps_nobody_else_from_training():
    """Left to itself a peer with room for the model offers any role, and is one by itself."""
    able = replace(REPLICA, role=RoleOffer.AUTO)
    plan = plan_of(asked(REPLICA, able, STAGE, STAGE, STAGE))
    assert plan is not None
    assert hosts_of(plan).ringed < set(PEERS[2:5])
    assert {*hosts_of(plan).ringed, *plan.spares} == set(PEERS[2:5])


def test_the_first_plan_knows_how_fast_each_computes_a_block():
    """Of three that offer a stage two suffice; whoever is slow stands by."""
    for slow in range(3):
        stages = [replace(STAGE, forward=9e4, backward=3e4) for _ in range(3)]
        stages[slow] = replace(STAGE, forward=9e3, backward=3e3)
        plan = plan_of(asked(REPLICA, *stages))
        assert plan is not None
        assert plan.spares == (PEERS[1 + slow],)
        assert {member.rate for member in plan.rings[0].members} == {9e4}


def test_a_bare_block_s_speed_counts_for_what_is_left_of_the_others_in_a_ring():
    quick = replace(STAGE, forward=9e4, backward=3e4)
    before = plan_of(asked(REPLICA, quick, quick))
    assert before is not None
    request = asked(REPLICA, quick, quick, replace(quick, forward=18e4), running=before)
    rates = {member.peer: 1000.0 for member in before.rings[0].members}
    told = (replace(one, rate=rates.get(one.peer, 0.0)) for one in request.candidates)
    after = plan_of(replace(request, candidates=tuple(told)))
    assert after is not None
    found = {m.peer: m.rate for ring in after.rings for m in ring.members}
    assert found[PEERS[3]] == pytest.approx(2000.0)
    assert {found.get(peer, 1000.0) for peer in PEERS[1:3]} == {1000.0}


def test_a_speed_beyond_all_measure_is_not_believed():
    usual = replace(STAGE, forward=9e4, backward=3e4)
    for forward, backward in [(1e15, 1e15), (1e15, 1e-6), (9e4, 1e15), (1e-6, 1e15), (1e-6, 1e-6)]:
        boast = replace(STAGE, forward=forward, backward=backward)
        plan = plan_of(asked(REPLICA, usual, usual, boast))
        assert plan is not None
        rates = {member.peer: member.rate for ring in plan.rings for member in ring.members}
        most = SPREAD * 9e4
        believed = min(max(forward, 9e4 / SPREAD), most)
        assert rates.get(PEERS[3], believed) == pytest.approx(believed)
        assert decode_plan(encode_plan(plan)) == plan, "the others take it"
    entry = maker._entry(PEERS[3], STAGE, maker._Speed(9e4, 1e15), maker._Speed(9e4, 3e4))
    assert entry.backward == pytest.approx(SPREAD * 3e4)


def test_an_offer_that_its_ring_belies_makes_no_newcomer_fast():
    """Neither one that says next to nothing nor one that says all."""
    quick = replace(STAGE, forward=9e4, backward=3e4)
    for forward in (1e-6, 1e15):
        liar = Candidate(PEERS[1], replace(quick, forward=forward), rate=1000.0)
        honest = Candidate(PEERS[2], quick, rate=1000.0)
        newcomer = Candidate(PEERS[3], quick)
        entries = {entry.name: entry for entry in maker._entries([liar, honest, newcomer])}
        share = 1000 / 9e4 if forward == 1e-6 else 1e-4
        assert entries[PEERS[3]].forward == pytest.approx(max(9e4 * share, 1000 / SPREAD))


def test_a_copy_is_kept_where_it_does_not_fail_with_its_source():
    """Who stands by shares a line with the source, the origin does not."""
    request = asked(REPLICA, STAGE, STAGE, STAGE)
    plan = plan_of(request)
    assert plan is not None
    [spare], [ring] = plan.spares, plan.rings
    origin, body = (member.peer for member in ring.members)
    assert {shadow.holder for shadow in plan.shadows if shadow.source == body} == {spare}
    plan = plan_of(replace(request, domains={spare: "a", body: "a", origin: "b"}))
    assert plan is not None
    assert {shadow.holder for shadow in plan.shadows if shadow.source == body} == {origin}


def test_what_a_ring_has_lost_goes_to_the_one_who_keeps_a_copy_of_it():
    """Both who stand by have room; the copy is of one of two stages."""
    before = plan_of(asked(REPLICA, STAGE, STAGE, STAGE))
    assert before is not None
    [ring] = before.rings
    origin, body = (member.peer for member in ring.members)
    spares = (*before.spares, PEERS[4])
    for holder in spares:
        copied = replace(before, spares=spares, shadows=(Shadow(2, body, holder),))
        request = asked(REPLICA, STAGE, STAGE, STAGE, STAGE, running=copied)
        left = tuple(one for one in request.candidates if one.peer != body)
        after = plan_of(replace(request, candidates=left))
        assert after is not None
        assert hosts_of(after).ringed == {origin, holder}


def test_peers_with_a_fast_link_between_them_form_the_ring():
    """Of three that are alike, two of which suffice; links that nobody has measured are usual."""
    for near in combinations(PEERS[1:4], 2):
        links = [MeasuredLink(*pair, 1.0, 20e3) for pair in combinations(PEERS[:4], 2)]
        fast = MeasuredLink(*near, 0.001, 0.0)
        measured = [fast if {link.a, link.b} == set(near) else link for link in links]
        request = replace(asked(REPLICA, STAGE, STAGE, STAGE), links=tuple(measured))
        assert Request.from_json(request.to_json()) == request
        assert hosts_of(plan_of(request)).ringed == set(near)


def test_a_line_carries_as_much_as_the_fastest_link_over_it():
    """So that what a peer sends to two others at once is not counted twice as fast."""
    a, b, c = PEERS[1:4]
    links = (MeasuredLink(a, b, 0.01, 1e6), MeasuredLink(a, c, 0.01, 3e6))
    request = replace(asked(STAGE, STAGE, STAGE, STAGE), links=links)
    problem = maker._problem(MANIFEST, list(request.candidates), WHOLE, request)
    assert [peer.upload for peer in problem.peers] == [inf, 3e6, 1e6, 3e6]
    partly = replace(request, links=(*links, MeasuredLink(a, PEERS[0], 0.01, 0.0)))
    problem = maker._problem(MANIFEST, list(request.candidates), WHOLE, partly)
    assert [peer.upload for peer in problem.peers] == [inf, inf, 1e6, 3e6]


def manifest_with(changes: str) -> Manifest:
    return parse_run_file(f"inner.batch_size = 8\n{changes}", PEERS[0])
