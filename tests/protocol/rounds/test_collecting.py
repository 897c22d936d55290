"""One round: contributions in, the leader's commit, views when a leader fails."""

from dataclasses import replace

import pytest
from simulated_compute import INITIAL
from simulated_node import sign
from small_run import (
    BOB,
    CAROL,
    DAVE,
    FULL,
    GRACE,
    OWNER,
    RULES,
    RUN,
    TRIO,
    Peer,
    announce,
    chain_of,
    child,
    digest,
    genesis,
    heartbeat,
    local,
    member,
    name,
    of,
    shard_states,
)

from skerry.protocol.messages import Signed
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.leader import leader_of, succession
from skerry.protocol.rounds.machine import next_deadline
from skerry.protocol.rounds.state import Phase

LEADER, SECOND, THIRD = succession(RUN, 1, TRIO)


def collecting(me, now: float = 1.0) -> tuple[Peer, object]:
    """Return a peer that has announced in round 1, and the commit it builds on."""
    peer = Peer(me)
    start = peer.in_round()
    [publish] = of(act.PublishAnnounce, peer.train(now))
    assert publish.announce.parent == name(start)
    peer.take(ev.AnnounceReceived(announce(start, me)))
    return peer, start


def others(me):
    return [peer for peer in TRIO if peer != me]


def published(actions):
    return [action.commit for action in of(act.PublishCommit, actions)]


def test_the_owner_starts_the_run_when_enough_members_are_there():
    owner = Peer(OWNER)
    assert not published(owner.boot())
    assert not published(owner.meet(BOB))
    [start] = published(owner.meet(CAROL))
    assert start == genesis().message
    assert not published(owner.meet(DAVE))


def test_nobody_else_starts_a_run():
    peer = Peer(BOB)
    peer.boot()
    assert not published(peer.meet(OWNER, CAROL, DAVE))
    assert peer.s.phase is Phase.WAITING


def test_a_run_takes_no_more_than_its_peers_at_the_start():
    owner = Peer(OWNER, replace(RULES, chain=replace(RULES.chain, max_peers=2), min_peers=2))
    owner.boot()
    [start] = published(owner.meet(DAVE, BOB))
    assert start.roster == (OWNER, DAVE)


def test_training_follows_the_commit_s_cursor_and_the_own_slot():
    peer = Peer(BOB)
    peer.boot()
    [train] = of(act.Train, peer.commits(genesis()))
    assert train == act.Train(1, name(genesis()), 0, 1, 3)


def test_training_ends_with_the_deadline():
    peer = Peer(BOB)
    peer.in_round()
    assert next_deadline(peer.s) == RULES.deadline_max
    assert not peer.take(ev.Tick(), RULES.deadline_max - 0.1)
    assert peer.take(ev.Tick(), RULES.deadline_max) == [act.FinishTraining()]
    assert not peer.take(ev.Tick(), RULES.deadline_max + 1)


def test_the_leader_commits_as_soon_as_all_are_sound():
    peer, start = collecting(LEADER)
    one, two = (announce(start, other) for other in others(LEADER))
    assert not published(peer.announced(one))
    [commit] = published(peer.announced(two))
    assert commit == child(start).message
    assert name(child(start)) in chain_of(start, child(start))


def test_others_do_not_commit():
    peer, start = collecting(SECOND)
    for other in others(SECOND):
        assert not published(peer.announced(announce(start, other)))


def test_the_leader_waits_for_the_living_until_the_deadline():
    peer, start = collecting(LEADER)
    peer.announced(announce(start, SECOND))
    due = RULES.deadline_max + GRACE
    assert not published(peer.take(ev.Tick(), due - 0.1))
    [commit] = published(peer.take(ev.Tick(), due))
    assert [a.signer for a in commit.announces] == sorted([LEADER, SECOND])
    assert commit.roster == TRIO


def test_the_leader_does_not_wait_for_the_dead_and_drops_them():
    peer, start = collecting(LEADER)
    peer.announced(announce(start, SECOND))
    [commit] = published(peer.take(ev.PeerDown(THIRD)))
    assert commit.roster == tuple(sorted([LEADER, SECOND]))


def test_a_corrupt_contribution_is_refused_by_name_and_left_out():
    peer, start = collecting(LEADER)
    assert act.Refuse(SECOND, "corrupt") in peer.announced(announce(start, SECOND), sound=False)
    [commit] = published(peer.announced(announce(start, THIRD)))
    assert [a.signer for a in commit.announces] == sorted([LEADER, THIRD])
    assert SECOND in commit.roster


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"round": 2}, "stale-round"),
        ({"round_tokens": 0}, "tokens"),
        ({"text_tokens": 2 * FULL}, "tokens"),
        ({"shards": ()}, "shards"),
    ],
)
def test_a_malformed_announcement_is_refused_unfetched(changes, reason):
    peer, start = collecting(LEADER)
    actions = peer.take(ev.AnnounceReceived(announce(start, SECOND, **changes)))
    assert actions == [act.Refuse(SECOND, reason)]


def test_an_outsider_s_announcement_is_refused():
    peer, start = collecting(LEADER)
    refusal = act.Refuse(DAVE, "not-in-roster")
    assert peer.take(ev.AnnounceReceived(announce(start, DAVE))) == [refusal]


def test_a_second_contribution_to_one_round_is_refused_a_repetition_is_not():
    peer, start = collecting(LEADER)
    first = announce(start, SECOND)
    assert of(act.Check, peer.take(ev.AnnounceReceived(first))) == [
        act.Check(first, first.message.shards)
    ]
    assert peer.take(ev.AnnounceReceived(first)) == []
    other = announce(start, SECOND, loss=2.0)
    assert peer.take(ev.AnnounceReceived(other)) == [act.Refuse(SECOND, "equivocation")]


def test_an_announcement_of_a_past_round_is_refused():
    peer, start = collecting(SECOND)
    commit = child(start, authors=(LEADER, SECOND))
    peer.commits(commit)
    peer.apply(commit, STATE)
    late = peer.take(ev.AnnounceReceived(announce(start, THIRD)))
    assert late == [act.Refuse(THIRD, "stale-round")]


def test_an_announcement_that_comes_before_its_commit_is_kept():
    peer, start = collecting(SECOND)
    commit = child(start)
    early = announce(commit, THIRD, STATE.digest)
    assert peer.take(ev.AnnounceReceived(early)) == []
    peer.commits(commit)
    assert act.Check(early, early.message.shards) in peer.apply(commit, STATE)


def test_early_announcements_upon_many_unknown_parents_are_not_all_kept():
    peer, start = collecting(SECOND)
    for number in range(100):
        stray = replace(announce(start, THIRD).message, parent=digest(str(number)))
        peer.take(ev.AnnounceReceived(sign(stray, THIRD)))
    assert len(peer.s.early) <= 16


def test_a_contribution_is_checked_again_after_the_compute_process_was_lost():
    peer, start = collecting(LEADER)
    theirs = announce(start, SECOND)
    peer.take(ev.AnnounceReceived(theirs))
    peer.take(ev.ComputeLost())
    assert peer.take(ev.Checked(theirs.hash, "unavailable")) == []
    peer.take(ev.ComputeReady((name(start),)))
    assert act.Check(theirs, theirs.message.shards) in peer.take(ev.StateLoaded(INITIAL))


def test_states_that_differ_from_the_majority_are_left_out_and_named():
    peer, start = collecting(LEADER)
    peer.announced(announce(start, SECOND, digest("wrong")))
    actions = peer.announced(announce(start, THIRD))
    [commit] = published(actions)
    assert act.Refuse(SECOND, "state-digest") in actions
    assert [a.signer for a in commit.announces] == sorted([LEADER, THIRD])


def test_a_leader_that_is_itself_wrong_commits_the_majority_s_state():
    peer, start = collecting(LEADER)
    peer.announced(announce(start, SECOND, digest("right")))
    [commit] = published(peer.announced(announce(start, THIRD, digest("right"))))
    assert commit.state == shard_states(digest("right"))
    assert LEADER not in [a.signer for a in commit.announces]


def test_newcomers_in_step_are_taken_in_with_their_records():
    peer, start = collecting(LEADER)
    peer.meet(DAVE)
    peer.take(heartbeat(DAVE, start))
    for other in others(LEADER):
        actions = peer.announced(announce(start, other))
    [commit] = published(actions)
    assert commit.roster == tuple(sorted([*TRIO, DAVE]))
    assert commit.admissions == (member(DAVE),)


def test_a_newcomer_that_is_not_in_step_has_to_wait():
    peer, start = collecting(LEADER)
    peer.meet(DAVE)
    peer.take(heartbeat(DAVE, None))
    for other in others(LEADER):
        actions = peer.announced(announce(start, other))
    assert published(actions)[0].roster == TRIO


def test_a_silent_leader_is_passed_over_after_the_grace():
    peer, start = collecting(SECOND)
    for other in others(SECOND):
        peer.announced(announce(start, other))
    due = peer.now + GRACE
    assert next_deadline(peer.s) <= due
    assert not published(peer.take(ev.Tick(), due - 0.1))
    [commit] = published(peer.take(ev.Tick(), due))
    assert commit.view == 1
    assert leader_of(RUN, 1, commit.view, TRIO) == SECOND


def test_a_dead_leader_is_passed_over_at_once():
    peer, start = collecting(SECOND)
    peer.announced(announce(start, THIRD))
    [commit] = published(peer.take(ev.PeerDown(LEADER)))
    assert (commit.view, commit.roster) == (1, tuple(sorted([SECOND, THIRD])))


def test_the_only_one_left_goes_on_alone():
    peer, _ = collecting(THIRD)
    peer.take(ev.PeerDown(LEADER))
    [commit] = published(peer.take(ev.PeerDown(SECOND)))
    assert (commit.view, commit.roster) == (2, (THIRD,))


def test_an_announcement_is_repeated_and_told_to_whoever_comes_back():
    peer, start = collecting(SECOND)
    own = announce(start, SECOND).envelope
    again = of(act.Broadcast, peer.take(ev.Tick(), peer.now + GRACE))
    assert again == [act.Broadcast(own, tuple(sorted(others(SECOND))))]
    peer.take(ev.PeerDown(THIRD))
    assert act.Broadcast(own, (THIRD,)) in peer.take(ev.PeerUp(THIRD))


def test_nothing_to_send_does_not_stop_the_leader():
    peer = Peer(LEADER)
    start = peer.in_round()
    for other in others(LEADER):
        peer.announced(announce(start, other))
    peer.take(ev.Trained(name(start)), 1.0)
    nothing = peer.encoded(name(start), shards=(), text_tokens=0, round_tokens=0)
    actions = peer.take(nothing)
    assert not of(act.PublishAnnounce, actions)
    [commit] = published(actions)
    assert [a.signer for a in commit.announces] == others(LEADER)


def test_more_text_tokens_than_the_chain_takes_are_not_claimed():
    peer = Peer(SECOND)
    start = peer.in_round()
    peer.take(ev.Trained(name(start)))
    [publish] = peer.take(peer.encoded(name(start), text_tokens=9 * FULL))
    assert publish.announce.text_tokens == FULL


def test_the_deadline_follows_the_slowest_included_peer():
    peer, start = collecting(SECOND, now=1.0)
    peer.take(ev.Tick(), 1.5)
    peer.announced(announce(start, LEADER))
    peer.commits(child(start, authors=(LEADER, SECOND)))
    assert peer.s.deadline.seconds == RULES.deadline_factor * 1.5


STATE = local("after round 1")


def beginner(me) -> Peer:
    """Return a peer in round 1 that has heard THIRD, but not yet LEADER; both contribute."""
    peer = Peer(me)
    peer.boot()
    peer.meet(THIRD)
    peer.take(ev.MemberLearned(member(LEADER)))
    start = genesis()
    peer.commits(start)
    peer.train(1.0)
    peer.take(ev.AnnounceReceived(announce(start, me)))
    return peer


def test_a_roster_member_not_heard_yet_is_neither_passed_over_nor_left_out():
    peer = beginner(SECOND)
    assert not published(peer.announced(announce(genesis(), THIRD)))
    assert peer.s.leader == LEADER
    assert LEADER in peer.s.expected_roster


def test_a_roster_member_never_heard_counts_as_lost_after_the_grace_period():
    peer = beginner(SECOND)
    peer.announced(announce(genesis(), THIRD))
    due = next_deadline(peer.s)
    assert due is not None
    assert due <= peer.s.round_since + GRACE
    [commit] = published(peer.take(ev.Tick(), peer.s.round_since + GRACE))
    assert commit.view == 1
    assert commit.roster == tuple(sorted((SECOND, THIRD)))


def test_a_roster_member_that_fell_silent_is_not_waited_for():
    peer = beginner(SECOND)
    peer.announced(announce(genesis(), THIRD))
    [commit] = published(peer.take(ev.PeerDown(LEADER)))
    assert commit.roster == tuple(sorted((SECOND, THIRD)))


def test_a_round_in_which_nobody_has_trained_anything_is_trained_again():
    peer = Peer(LEADER)
    start = peer.in_round()
    peer.take(ev.Trained(name(start)), 1.0)
    assert not peer.take(peer.encoded(name(start), text_tokens=0, round_tokens=0, shards=()))
    again = []
    while not again:
        again = of(act.Train, peer.take(ev.Tick(), next_deadline(peer.s)))
    assert [train.parent for train in again] == [name(start)]
    assert peer.s.phase is Phase.TRAINING
    assert of(act.PublishAnnounce, peer.train(peer.now))


def test_a_peer_that_has_trained_nothing_itself_waits_for_those_who_have():
    peer = Peer(BOB)
    start = peer.in_round()
    peer.take(ev.AnnounceReceived(announce(start, CAROL)), 1.0)
    peer.take(ev.Trained(name(start)))
    peer.take(peer.encoded(name(start), text_tokens=0, round_tokens=0, shards=()))
    for _ in range(20):
        assert not of(act.Train, peer.take(ev.Tick(), next_deadline(peer.s)))


class TestNothingTrained:
    """A peer whose stages were passed over, or that came in the middle of the round."""

    def idle_beat(self, peer, start, phase: str = "idle") -> ev.HeartbeatReceived:
        signed = heartbeat(peer, start).heartbeat
        return ev.HeartbeatReceived(Signed(replace(signed.message, phase=phase), signed.envelope))

    def test_it_says_so_and_waits_for_nothing_of_its_own(self):
        peer = Peer(LEADER)
        start = peer.in_round()
        peer.take(ev.Trained(name(start)))
        peer.take(ev.Encoded(name(start), 0, 0, 0.0, ()))
        assert (peer.s.phase, peer.s.told_phase) == (Phase.COLLECTING, Phase.IDLE)
        actions = []
        for author in (SECOND, THIRD):
            actions += peer.announced(announce(start, author))
        [commit] = published(actions)
        assert {a.signer for a in commit.announces} == {SECOND, THIRD}
        assert set(commit.roster) == set(TRIO)

    def test_the_leader_does_not_wait_for_it(self):
        peer, start = collecting(LEADER)
        assert not published(peer.announced(announce(start, SECOND)))
        [commit] = published(peer.take(self.idle_beat(THIRD, start)))
        assert {a.signer for a in commit.announces} == {LEADER, SECOND}
        assert set(commit.roster) == set(TRIO)

    @pytest.mark.parametrize("phase", ["training", "collecting"])
    def test_who_trains_after_all_is_waited_for(self, phase):
        peer, start = collecting(LEADER)
        peer.take(self.idle_beat(THIRD, start))
        peer.take(self.idle_beat(THIRD, start, phase))
        assert not published(peer.announced(announce(start, SECOND)))

    def test_what_it_says_of_another_round_does_not_count(self):
        peer, start = collecting(LEADER)
        peer.take(self.idle_beat(THIRD, child(start)))
        assert not published(peer.announced(announce(start, SECOND)))
