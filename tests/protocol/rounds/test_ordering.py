"""Orders on their way into a commit, and what the machine does once they are in one."""

from dataclasses import replace

import pytest
from simulated_node import sign
from small_run import (
    BOB,
    CAROL,
    CHAIN_RULES,
    DAVE,
    FULL,
    INITIAL,
    OWNER,
    RULES,
    RUN,
    STATES,
    TRIO,
    Peer,
    announce,
    chain_of,
    child,
    genesis,
    heartbeat,
    member,
    name,
    of,
)

from skerry.protocol.codec import MAX_ORDERS
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Order, ReadmitPeer, RemovePeer, SetOuterLr
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.leader import leader_of
from skerry.protocol.rounds.ordering import MAX_PENDING, next_sequence, pending
from skerry.protocol.rounds.state import Phase
from skerry.protocol.rounds.waiting import waiting_for

START = genesis()
LEADER = leader_of(RUN, 1, 0, TRIO)
FOLLOWER = next(peer for peer in TRIO if peer not in (LEADER, OWNER))
STANDBY = replace(RULES, chain=replace(CHAIN_RULES, standby=(CAROL,)))


def order(number: int, change, issuer: PeerId = OWNER):
    return sign(Order(RUN, number, change), issuer)


def heard(peer: Peer, *orders, source: PeerId = DAVE):
    actions = []
    for signed in orders:
        actions += peer.take(ev.OrderReceived(signed, source))
    return actions


def leading(*orders) -> Peer:
    """Return the leader of round 1, its contribution made."""
    peer = Peer(LEADER)
    peer.in_round()
    heard(peer, *orders)
    peer.train(0.5)
    peer.announced(announce(START, LEADER))
    return peer


def published(peer: Peer):
    """Bring in the others' contributions; return the commit that this brings about."""
    actions = []
    for author in (p for p in TRIO if p != peer.me):
        actions += peer.announced(announce(START, author))
    [publish] = of(act.PublishCommit, actions)
    chain_of(START, sign(publish.commit, peer.me))  # valid for everyone
    return publish.commit


class TestOnTheWay:
    def test_whoever_gives_an_order_tells_all(self):
        peer = Peer(OWNER)
        peer.in_round()
        given = order(1, SetOuterLr(0.5))
        assert heard(peer, given, source=OWNER) == [
            act.Broadcast(given.envelope, tuple(p for p in TRIO if p != OWNER))
        ]

    def test_whoever_hears_one_keeps_it_and_tells_the_leader(self):
        peer = Peer(FOLLOWER)
        peer.in_round()
        given = order(1, SetOuterLr(0.5))
        stored, sent = heard(peer, given)
        assert stored == act.StoreOrders((given,))
        assert sent == act.Broadcast(given.envelope, (LEADER,))
        assert heard(peer, given) == []

    def test_the_leader_tells_nobody(self):
        peer = Peer(LEADER)
        peer.in_round()
        given = order(1, SetOuterLr(0.5))
        assert heard(peer, given) == [act.StoreOrders((given,))]

    def test_the_leader_is_reminded_while_there_is_no_commit(self):
        peer = Peer(FOLLOWER)
        peer.in_round()
        given = order(1, SetOuterLr(0.5))
        heard(peer, given)
        peer.train(0.5)
        peer.announced(announce(START, FOLLOWER))
        again = peer.take(ev.Tick(), 3.0)
        assert act.Broadcast(given.envelope, (LEADER,)) in again

    def test_who_comes_is_told(self):
        peer = Peer(FOLLOWER)
        peer.in_round()
        given = order(1, SetOuterLr(0.5))
        heard(peer, given)
        assert act.Broadcast(given.envelope, (DAVE,)) in peer.meet(DAVE)

    @pytest.mark.parametrize(
        ("given", "why"),
        [
            (order(1, SetOuterLr(0.5), BOB), "order-issuer"),
            (order(1, RemovePeer(OWNER, "")), "order-target"),
            (order(MAX_PENDING + 1, SetOuterLr(0.5)), "order-sequence"),
        ],
    )
    def test_what_cannot_hold_is_refused_and_charged_to_who_sent_it(self, given, why):
        peer = Peer(FOLLOWER)
        peer.in_round()
        assert heard(peer, given) == [act.Refuse(DAVE, why)]
        assert not peer.s.orders.get(given.signer)

    def test_an_order_that_has_been_done_is_no_news(self):
        peer = Peer(FOLLOWER)
        peer.in_round()
        given = order(1, SetOuterLr(0.5))
        first = child(START, orders=(given,))
        peer.commits(first)
        peer.apply(first, STATES[1])
        assert heard(peer, given) == [] and pending(peer.s) == []
        assert heard(peer, order(1, SetOuterLr(0.9))) == []
        assert next_sequence(peer.s, OWNER) == 2

    def test_a_gap_is_waited_for(self):
        peer = Peer(FOLLOWER)
        peer.in_round()
        late, early = order(2, SetOuterLr(0.5)), order(1, RemovePeer(DAVE, ""))
        heard(peer, late)
        assert pending(peer.s) == []
        heard(peer, early)
        assert pending(peer.s) == [early, late]

    def test_what_was_kept_on_disk_is_pending_after_a_restart(self):
        peer = Peer(FOLLOWER)
        given = order(1, SetOuterLr(0.5))
        peer.take(ev.Restored((START,), (), (), (given,)))
        peer.boot()
        assert pending(peer.s) == [given]


class TestInACommit:
    def test_the_leader_takes_in_what_is_pending(self):
        first, second = order(1, SetOuterLr(0.5)), order(2, SetOuterLr(0.6))
        assert published(leading(second, first)).orders == (first, second)

    def test_as_many_as_a_commit_holds(self):
        many = [order(n, SetOuterLr(0.5)) for n in range(1, MAX_ORDERS + 3)]
        assert published(leading(*many)).orders == tuple(many[:MAX_ORDERS])

    def test_who_is_removed_is_in_neither_roster_nor_contributions(self):
        out = next(peer for peer in TRIO if peer not in (LEADER, OWNER))
        commit = published(leading(order(1, RemovePeer(out, "slow"))))
        assert out not in commit.roster and len(commit.roster) == 2
        assert out not in {a.signer for a in commit.announces}
        assert commit.weight == 2 * FULL

    def test_a_leader_removes_itself(self):
        assert LEADER != OWNER
        commit = published(leading(order(1, RemovePeer(LEADER, ""))))
        assert LEADER not in commit.roster and commit.orders

    def test_nobody_is_removed_who_is_the_only_one_to_train(self):
        alone = Peer(BOB)
        alone.boot()
        alone.meet(OWNER)
        start = genesis((BOB,), admissions=(member(BOB),))
        alone.commits(start)
        heard(alone, order(1, RemovePeer(BOB, "")))
        alone.train(0.5)
        [publish] = of(act.PublishCommit, alone.announced(announce(start, BOB)))
        assert publish.commit.orders == () and publish.commit.roster == (BOB,)

    def test_the_other_key_s_orders_end_with_its_rights(self):
        peer = Peer(FOLLOWER, STANDBY)
        peer.in_round()
        end = order(1, RemovePeer(CAROL, ""))
        heard(peer, order(1, SetOuterLr(0.5), CAROL), end)
        assert pending(peer.s) == [end]


class TestValidity:
    @pytest.mark.parametrize(
        ("commit", "why"),
        [
            (child(START, orders=(order(2, SetOuterLr(0.5)),)), "order-sequence"),
            (child(START, orders=(order(1, SetOuterLr(0.5), BOB),)), "order-issuer"),
            (child(START, orders=(order(1, RemovePeer(BOB, "")),)), "removed"),
            (genesis(orders=(order(1, SetOuterLr(0.5)),)), "order-sequence"),
        ],
    )
    def test_a_commit_with_orders_that_do_not_hold_is_refused(self, commit, why):
        chain = chain_of(START) if commit.message.round else chain_of()
        with pytest.raises(ProtocolError) as caught:
            chain.add(commit)
        assert caught.value.reason == why and name(commit) not in chain

    def test_an_order_is_in_force_after_its_commit_and_on_its_branch_only(self):
        given = order(1, SetOuterLr(0.5))
        with_it, without = child(START, orders=(given,)), child(START, view=1)
        chain = chain_of(START, with_it, without)
        assert chain.settings(name(START)).outer_lr is None
        assert chain.settings(name(with_it)).outer_lr == 0.5
        assert chain.settings(name(without)).outer_lr is None
        with pytest.raises(ProtocolError):
            chain.add(child(with_it, state=STATES[1].digest, orders=(given,)))


class TestInForce:
    def test_alpha_changes_with_the_round_after_the_commit(self):
        peer = Peer(FOLLOWER)
        peer.in_round()
        first = child(START, orders=(order(1, SetOuterLr(0.5)),))
        second = child(first, state=STATES[1].digest)
        third = child(second, state=STATES[2].digest, orders=(order(2, SetOuterLr(None)),))
        fourth = child(third, state=STATES[3].digest)
        found = []
        for number, commit in enumerate((first, second, third, fourth), 1):
            peer.commits(commit)
            [apply] = of(act.Apply, peer.take(ev.Gathered(name(commit), True)))
            found.append(apply.outer_lr)
            peer.take(ev.Applied(name(commit), STATES[number], ()))
        assert found == [None, 0.5, 0.5, None]

    def test_a_removed_peer_says_why_and_stops(self):
        peer = Peer(FOLLOWER)
        peer.in_round()
        roster = tuple(p for p in TRIO if p != FOLLOWER)
        out = order(1, RemovePeer(FOLLOWER, "too slow"))
        actions = peer.commits(child(START, roster, roster=roster, orders=(out,)))
        # What it trained so far is kept: it may be let in again.
        assert of(act.Encode, actions) == [act.Encode(name(START), send=False)]
        [note] = of(act.Note, actions)
        assert note.warning and note.text.endswith("has removed this peer from it: too slow")
        assert peer.s.phase is peer.s.told_phase is Phase.REMOVED
        assert peer.s.removal is not None and not of(act.Gather, actions)
        assert waiting_for(peer.s) == ("the owner to let this peer in again",)
        assert peer.take(ev.AnnounceReceived(announce(START, OWNER))) == []
        peer.take(ev.Paused())
        assert peer.s.told_phase is Phase.REMOVED

    def test_a_removed_peer_stays_out_over_a_restart_and_follows_nothing(self):
        roster = tuple(p for p in TRIO if p != FOLLOWER)
        out = child(START, roster, roster=roster, orders=(order(1, RemovePeer(FOLLOWER, "")),))
        peer = Peer(FOLLOWER)
        peer.take(ev.Restored((START, out), (), (INITIAL,)))
        actions = peer.take(ev.ComputeReady(()))
        assert peer.s.phase is Phase.REMOVED and not of(act.LoadState, actions)
        more = child(out, roster, STATES[1].digest)
        assert not of(act.Note, peer.commits(more)) and peer.s.phase is Phase.REMOVED

    def test_it_moves_on_when_it_is_let_in_again(self):
        roster = tuple(p for p in TRIO if p != FOLLOWER)
        out = child(START, roster, roster=roster, orders=(order(1, RemovePeer(FOLLOWER, "")),))
        back = child(out, roster, STATES[1].digest, orders=(order(2, ReadmitPeer(FOLLOWER)),))
        peer = Peer(FOLLOWER)
        peer.in_round()
        peer.commits(out)
        peer.commits(back)
        assert peer.s.phase is not Phase.REMOVED and peer.s.removal is None
        assert peer.s.goal == name(back) and peer.s.queue == [name(out), name(back)]

    def test_others_neither_wait_for_a_removed_peer_nor_take_it_in(self):
        peer = Peer(LEADER)
        peer.in_round()
        out = next(p for p in TRIO if p not in (LEADER, OWNER))
        roster = tuple(p for p in TRIO if p != out)
        commit = child(START, roster, roster=roster, orders=(order(1, RemovePeer(out, "")),))
        peer.commits(commit)
        peer.apply(commit, STATES[1])
        peer.take(heartbeat(out, commit))
        assert out in peer.s.alive and out not in peer.s.active
        assert out not in peer.s.others and out not in peer.s.expected_roster
