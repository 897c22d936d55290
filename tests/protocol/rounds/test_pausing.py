"""A paused peer: trains nothing, follows all, is waited for by nobody, and comes back."""

from dataclasses import replace

import pytest
from simulated_compute import INITIAL
from simulated_node import sign
from small_run import (
    BOB,
    CAROL,
    GRACE,
    OWNER,
    RULES,
    RUN,
    STATES,
    TRIO,
    Peer,
    announce,
    child,
    genesis,
    heartbeat,
    name,
    of,
)

from skerry.protocol.messages import Signed
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.leader import succession
from skerry.protocol.rounds.machine import next_deadline
from skerry.protocol.rounds.state import Phase
from skerry.protocol.rounds.waiting import waiting_for

LEADER, SECOND, THIRD = succession(RUN, 1, TRIO)


def beat(peer, head, phase: str) -> ev.HeartbeatReceived:
    """Return a heartbeat that names a phase."""
    signed = heartbeat(peer, head).heartbeat
    return ev.HeartbeatReceived(Signed(replace(signed.message, phase=phase), signed.envelope))


def collecting(me) -> tuple[Peer, object]:
    peer = Peer(me)
    start = peer.in_round()
    peer.train(1.0)
    peer.take(ev.AnnounceReceived(announce(start, me)))
    return peer, start


class TestOwnPause:
    def test_training_ends_and_its_progress_waits_for_the_end_of_the_pause(self):
        peer = Peer(BOB)
        start = peer.in_round()
        assert peer.take(ev.Paused()) == [act.FinishTraining()]
        assert peer.s.phase is Phase.PAUSED
        assert peer.take(ev.Paused()) == []
        assert peer.take(ev.Trained(name(start))) == []
        assert next_deadline(peer.s) is None
        assert peer.take(ev.Resumed(), 100.0) == [act.Encode(name(start), True)]
        assert peer.s.round_since == 100.0

    def test_a_short_pause_waits_for_the_inner_step_in_progress(self):
        peer = Peer(BOB)
        start = peer.in_round()
        peer.take(ev.Paused())
        assert peer.take(ev.Resumed()) == []
        assert peer.take(ev.Trained(name(start))) == [act.Encode(name(start), True)]

    def test_a_commit_meanwhile_is_applied_and_the_progress_kept_as_error_feedback(self):
        peer = Peer(BOB)
        start = peer.in_round()
        peer.take(ev.Paused())
        peer.take(ev.Trained(name(start)))
        commit = child(start, authors=(OWNER, CAROL), roster=tuple(sorted((OWNER, CAROL))))
        assert of(act.Gather, peer.commits(commit))
        actions = peer.take(ev.Gathered(name(commit), True))
        assert act.Encode(name(start), False) in actions
        actions = peer.take(ev.Applied(name(commit), STATES[1], ()))
        assert not of(act.Train, actions)
        assert (peer.s.at, peer.s.phase) == (name(commit), Phase.PAUSED)
        assert peer.take(ev.Resumed()) == [act.Present()]
        assert peer.s.phase is Phase.OBSERVING

    def test_others_hear_of_it_also_while_it_follows(self):
        peer = Peer(BOB)
        start = peer.in_round()
        peer.take(ev.Paused())
        peer.commits(child(start, authors=(OWNER, CAROL)))
        assert (peer.s.phase, peer.s.told_phase) == (Phase.FETCHING, Phase.PAUSED)

    def test_an_announced_contribution_stays_and_is_sent_again_after_the_pause(self):
        peer, _ = collecting(SECOND)
        assert peer.take(ev.Paused()) == []
        assert next_deadline(peer.s) is None
        own = peer.s.own.message
        assert act.PublishAnnounce(own) in peer.take(ev.Resumed())
        assert peer.s.phase is Phase.COLLECTING

    def test_a_contribution_encoded_during_the_pause_is_announced_after_it(self):
        peer = Peer(BOB)
        start = peer.in_round()
        peer.take(ev.Trained(name(start)))
        assert peer.s.phase is Phase.ENCODING
        peer.take(ev.Paused())
        assert peer.take(peer.encoded(name(start))) == []
        assert of(act.PublishAnnounce, peer.take(ev.Resumed()))

    def test_a_paused_leader_commits_nothing_until_it_goes_on(self):
        peer, start = collecting(LEADER)
        peer.take(ev.Paused())
        for other in (SECOND, THIRD):
            assert not of(act.PublishCommit, peer.announced(announce(start, other)))
        [publish] = of(act.PublishCommit, peer.take(ev.Resumed()))
        assert publish.commit.roster == TRIO

    def test_pause_before_the_compute_process_is_up_holds_when_it_is(self):
        peer = Peer(BOB)
        peer.take(ev.Paused())
        peer.boot()
        peer.meet(OWNER, CAROL)
        assert peer.s.phase is Phase.PAUSED
        assert not of(act.Train, peer.commits(genesis()))
        [train] = of(act.Train, peer.take(ev.Resumed()))
        assert train.parent == name(genesis())

    def test_pause_survives_the_compute_process(self):
        peer = Peer(BOB)
        peer.in_round()
        peer.take(ev.Paused())
        peer.take(ev.ComputeLost())
        peer.take(ev.ComputeReady(()))
        assert not of(act.Train, peer.take(ev.StateLoaded(INITIAL)))
        assert of(act.Train, peer.take(ev.Resumed()))

    def test_a_paused_owner_starts_no_run_until_it_goes_on(self):
        owner = Peer(OWNER)
        owner.take(ev.Paused())
        owner.boot()
        assert not of(act.PublishCommit, owner.meet(BOB, CAROL))
        assert of(act.PublishCommit, owner.take(ev.Resumed()))

    def test_a_finished_run_stays_finished(self):
        peer = Peer(BOB, replace(RULES, rounds=1))
        start = peer.in_round()
        commit = child(start)
        peer.commits(commit)
        peer.take(ev.Paused())
        peer.apply(commit, STATES[1])
        assert (peer.s.phase, peer.s.told_phase) == (Phase.DONE, Phase.DONE)
        assert peer.take(ev.Resumed()) == []


class TestAnothersPause:
    def test_the_leader_waits_no_longer_and_leaves_it_out_of_the_roster(self):
        peer, start = collecting(LEADER)
        peer.announced(announce(start, SECOND))
        assert waiting_for(peer.s) == (THIRD,)
        [publish] = of(act.PublishCommit, peer.take(beat(THIRD, start, "paused")))
        assert publish.commit.roster == tuple(sorted([LEADER, SECOND]))
        assert THIRD in peer.s.alive

    def test_what_it_announced_before_still_counts(self):
        peer, start = collecting(LEADER)
        peer.announced(announce(start, THIRD))
        peer.take(beat(THIRD, start, "paused"))
        [publish] = of(act.PublishCommit, peer.announced(announce(start, SECOND)))
        assert [a.signer for a in publish.commit.announces] == list(TRIO)
        assert publish.commit.roster == tuple(sorted([LEADER, SECOND]))

    def test_a_paused_leader_is_passed_over_at_once(self):
        peer, start = collecting(SECOND)
        peer.announced(announce(start, THIRD))
        [publish] = of(act.PublishCommit, peer.take(beat(LEADER, start, "paused")))
        assert (publish.commit.view, publish.commit.roster) == (1, tuple(sorted([SECOND, THIRD])))

    def test_one_that_goes_on_is_taken_in_like_a_joiner(self):
        peer, start = collecting(LEADER)
        peer.take(beat(THIRD, start, "paused"))
        [publish] = of(act.PublishCommit, peer.announced(announce(start, SECOND)))
        commit = sign(publish.commit, LEADER)
        peer.commits(commit, source=LEADER)
        peer.apply(commit, STATES[1])
        assert THIRD not in peer.s.roster
        peer.take(beat(THIRD, commit, "paused"))
        assert peer.s.leader in (LEADER, SECOND)
        again = Peer(peer.s.leader)  # whoever leads round 2
        again.in_round()
        again.commits(commit)
        again.apply(commit, STATES[1])
        again.train(2.0)
        again.take(ev.AnnounceReceived(announce(commit, again.me, STATES[1].digest)))
        again.take(beat(THIRD, commit, "paused"))
        again.take(beat(THIRD, commit, "observing"))
        other = next(p for p in (LEADER, SECOND) if p != again.me)
        contribution = announce(commit, other, STATES[1].digest)
        [publish] = of(act.PublishCommit, again.announced(contribution))
        assert publish.commit.roster == TRIO
        assert [m.signer for m in publish.commit.admissions] == [THIRD]

    def test_a_run_does_not_begin_with_it(self):
        owner = Peer(OWNER)
        owner.boot()
        owner.meet(BOB)
        owner.take(beat(BOB, None, "paused"))
        assert not of(act.PublishCommit, owner.meet(CAROL))
        assert waiting_for(owner.s) == ("1 more peer",)
        assert of(act.PublishCommit, owner.take(beat(BOB, None, "waiting")))

    def test_a_death_ends_its_pause(self):
        peer, start = collecting(LEADER)
        peer.take(beat(THIRD, start, "paused"))
        peer.take(ev.PeerDown(THIRD))
        assert peer.s.resting == set()

    @pytest.mark.parametrize("paused", [True, False])
    def test_observers_go_on_when_all_of_the_roster_is_paused(self, paused):
        start = genesis(roster=(OWNER,))
        peer = Peer(BOB)
        peer.boot()
        peer.meet(OWNER)
        peer.commits(start)
        peer.take(beat(OWNER, start, "paused" if paused else "training"))
        due = RULES.deadline_max + 4 * GRACE
        published = of(act.PublishCommit, peer.take(ev.Tick(), due))
        assert [p.commit.roster for p in published] == ([(BOB,)] if paused else [])
