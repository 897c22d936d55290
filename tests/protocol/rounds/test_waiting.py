"""Every wait names whom it waits for."""

import pytest
from simulated_node import sign
from small_run import BOB, CAROL, OWNER, RUN, TRIO, Peer, announce, child, genesis, name

from skerry.protocol.messages import MemberRecord, Offer, RoleOffer
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.leader import succession
from skerry.protocol.rounds.state import Phase
from skerry.protocol.rounds.waiting import waiting_for

LEADER, SECOND, THIRD = succession(RUN, 1, TRIO)


def test_a_starting_node_waits_for_its_compute_process():
    assert waiting_for(Peer(BOB).s) == ("the compute process",)


def test_loading_waits_for_whoever_may_have_the_state():
    peer = Peer(BOB)
    peer.take(ev.ComputeReady(()))
    assert peer.s.phase is Phase.LOADING
    assert waiting_for(peer.s) == ("a peer that has the state",)
    peer.meet(CAROL)
    assert waiting_for(peer.s) == (CAROL,)


def test_before_the_run_members_are_missing_then_the_owner():
    peer = Peer(BOB)
    peer.boot()
    assert waiting_for(peer.s) == ("2 more peers",)
    peer.meet(OWNER)
    assert waiting_for(peer.s) == ("1 more peer",)
    peer.meet(CAROL)
    assert waiting_for(peer.s) == (f"the owner {OWNER} to start the run",)


def test_the_owner_with_all_members_waits_for_nobody():
    owner = Peer(OWNER)
    owner.boot()
    owner.meet(BOB, CAROL)
    assert waiting_for(owner.s) == ()


def test_the_owner_waits_for_a_plan_where_one_is_needed():
    owner = Peer(OWNER)
    owner.boot()
    owner.meet(BOB)
    stage = MemberRecord(RUN, (), None, 1, "test", Offer(RoleOffer.STAGE))
    owner.take(ev.MemberLearned(sign(stage, CAROL)))
    owner.take(ev.PeerUp(CAROL))
    assert waiting_for(owner.s) == ("a plan of who hosts what",)
    owner.take(ev.Planned(owner.s.plan_asked, None))
    assert owner.s.published_view == 0 and waiting_for(owner.s) == ()


def test_training_waits_for_nobody():
    peer = Peer(BOB)
    peer.in_round()
    assert peer.s.phase is Phase.TRAINING
    assert waiting_for(peer.s) == ()


@pytest.mark.parametrize("me", TRIO)
def test_collecting_waits_for_the_missing_then_for_the_leader(me):
    peer = Peer(me)
    start = peer.in_round()
    peer.train(1.0)
    peer.take(ev.AnnounceReceived(announce(start, me)))
    one, two = (other for other in TRIO if other != me)
    assert waiting_for(peer.s) == (one, two)
    peer.announced(announce(start, one))
    assert waiting_for(peer.s) == (two,)
    peer.announced(announce(start, two))
    assert waiting_for(peer.s) == (() if me == LEADER else (LEADER,))


def test_an_observer_waits_for_the_leader():
    peer = Peer(BOB)
    peer.boot()
    peer.meet(OWNER)
    peer.commits(genesis(roster=(OWNER,)))
    assert peer.s.phase is Phase.OBSERVING
    assert waiting_for(peer.s) == (OWNER,)


def test_fetching_waits_for_the_peers_that_have_the_payloads():
    peer = Peer(BOB)
    start = peer.in_round()
    peer.commits(child(start))
    assert peer.s.phase is Phase.FETCHING
    assert waiting_for(peer.s) == tuple(sorted([OWNER, CAROL]))
    assert peer.s.goal == name(child(start))
