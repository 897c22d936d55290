"""Moving to the winning chain, and what becomes of own contributions on the way."""

from dataclasses import replace

import pytest
from simulated_node import sign
from small_run import (
    BOB,
    CAROL,
    DAVE,
    GRACE,
    OWNER,
    RULES,
    STATES,
    TRIO,
    Peer,
    announce,
    child,
    digest,
    genesis,
    heartbeat,
    local,
    member,
    name,
    of,
    payload,
    shard_states,
)

from skerry.protocol.compute import Verdict
from skerry.protocol.layout import state_digest
from skerry.protocol.messages import Judgement, Offer, RoleOffer
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds import following, holding
from skerry.protocol.rounds.machine import next_deadline
from skerry.protocol.rounds.state import Phase

START = genesis()


def long_chain(rounds: int, start=START):
    """Return the commits of rounds 1 to ``rounds``, whose states are STATES."""
    commits = [start]
    for number in range(rounds):
        commits.append(child(commits[-1], state=STATES[number].digest))
    return commits[1:]


def announced(peer: Peer) -> None:
    """Train and announce upon the present commit."""
    at = peer.s.chain[peer.s.at]
    peer.train(1.0)
    assert peer.s.loaded is not None
    peer.take(ev.AnnounceReceived(announce(at, peer.me, peer.s.loaded)))


def verdicts(actions):
    return [v for action in of(act.Settle, actions) for v in action.verdicts]


def trainee() -> Peer:
    peer = Peer(BOB)
    peer.in_round()
    return peer


def test_a_fresh_node_starts_from_the_seed():
    peer = Peer(BOB)
    assert peer.take(ev.ComputeReady(())) == [act.LoadState(None, None, ())]
    peer.take(ev.StateLoaded(STATES[0]))
    assert peer.s.phase is Phase.WAITING


def test_a_commit_is_fetched_applied_stored_and_the_next_round_begun():
    peer = trainee()
    announced(peer)
    commit = child(START)
    actions = peer.commits(commit)
    assert of(act.StoreCommits, actions) == [act.StoreCommits((commit,))]
    [gather] = of(act.Gather, actions)
    assert [c.author for c in gather.contributions] == list(TRIO)
    [apply] = peer.take(ev.Gathered(name(commit), True))
    assert apply == act.Apply(name(commit), 1, gather.contributions)
    actions = peer.take(ev.Applied(name(commit), STATES[1], (Judgement(CAROL, 0, "corrupt"),)))
    assert act.Refuse(CAROL, "corrupt") in actions
    assert verdicts(actions) == [Verdict(name(START), True)]
    assert of(act.StoreStates, actions) == [act.StoreStates((STATES[0], STATES[1]))]
    assert of(act.Train, actions) == [act.Train(2, name(commit), 9, 1, 3)]


def test_a_contribution_that_was_left_out_is_put_back():
    peer = trainee()
    announced(peer)
    commit = child(START, authors=(OWNER,))
    peer.commits(commit)
    assert verdicts(peer.apply(commit, STATES[1])) == [Verdict(name(START), False)]


def test_a_commit_during_training_keeps_the_progress():
    peer = trainee()
    commit = child(START, authors=(OWNER, CAROL))
    peer.commits(commit)
    actions = peer.take(ev.Gathered(name(commit), True))
    assert actions[:2] == [act.FinishTraining(), act.Encode(name(START), False)]
    assert of(act.Apply, actions)
    assert peer.take(ev.Trained(name(START))) == []


def test_a_contribution_encoded_too_late_is_put_back_with_the_commit():
    peer = trainee()
    peer.take(ev.Trained(name(START)), 1.0)
    commit = child(START, authors=(OWNER, CAROL))
    peer.commits(commit)
    peer.take(ev.Gathered(name(commit), True))
    assert peer.take(peer.encoded(name(START))) == []
    actions = peer.take(ev.Applied(name(commit), STATES[1], ()))
    assert verdicts(actions) == [Verdict(name(START), False)]
    [retain] = of(act.Retain, actions)
    assert payload(f"{BOB} upon {name(START)}").address in retain.addresses


def test_nothing_is_removed_while_a_contribution_is_known_to_the_compute_process_alone():
    peer = Peer(BOB)
    peer.take(ev.Restored((START, child(START)), (), (STATES[0],)))
    peer.take(ev.ComputeReady((name(START),)))
    peer.take(ev.StateLoaded(STATES[0]))
    actions = peer.apply(child(START), STATES[1])
    assert verdicts(actions) == [Verdict(name(START), True)]
    assert not of(act.Retain, actions)


def test_a_commit_that_was_never_written_does_not_keep_a_node_from_starting():
    commits = long_chain(3)
    peer = Peer(BOB)
    peer.take(ev.Restored((START, commits[0], commits[2]), (), ()))
    assert name(commits[0]) in peer.s.chain
    assert name(commits[2]) not in peer.s.chain
    peer.commits(*commits)
    assert name(commits[2]) in peer.s.chain


def test_stored_commits_go_on_from_one_that_the_disk_has_lost_once_it_is_fetched():
    commits = long_chain(6)
    peer = Peer(BOB)
    peer.take(ev.Restored((START, commits[0], *commits[2:]), (), ()))
    assert peer.s.chain.best(set()) == name(commits[0])
    actions = peer.commits(*commits[:2])
    assert peer.s.chain.best(set()) == name(commits[5])
    assert of(act.StoreCommits, actions) == [act.StoreCommits((commits[1],))]
    assert not peer.s.strays
    again = Peer(BOB)  # where it was added to the end of the file
    again.take(ev.Restored((START, commits[0], *commits[2:], commits[1]), (), ()))
    assert again.s.chain.best(set()) == name(commits[5])
    assert not again.s.strays


def test_what_is_kept_are_recent_states_and_payloads():
    peer = trainee()
    commits = long_chain(6)
    for number, commit in enumerate(commits, start=1):
        peer.commits(commit)
        actions = peer.apply(commit, STATES[number])
    [retain] = of(act.Retain, actions)
    states = {shard.address for state in STATES[4:7] for shard in state.shards}
    recent = {
        shard.address
        for commit in commits[2:]
        for a in commit.message.announces
        for shard in a.message.shards
    }
    assert retain.addresses == states | recent
    assert of(act.StoreStates, actions) == [act.StoreStates(tuple(STATES[4:7]))]


def test_the_other_chain_wins_by_weight_and_verdicts_turn():
    peer = trainee()
    announced(peer)
    light = child(START, authors=(BOB,), view=1)
    peer.commits(light)
    assert verdicts(peer.apply(light, STATES[1])) == [Verdict(name(START), True)]
    heavy = child(START, authors=(OWNER, CAROL))
    actions = peer.commits(heavy)
    left = [act.FinishTraining(), act.Encode(name(light), False)]
    assert actions[1:] == [*left, act.LoadState(STATES[0].digest, STATES[0], ())]
    peer.take(ev.StateLoaded(STATES[0]))
    assert verdicts(peer.apply(heavy, STATES[2])) == [Verdict(name(START), False)]
    # And back: the first chain grows.
    more = child(light, state=STATES[1].digest)
    peer.commits(more)
    peer.take(ev.StateLoaded(STATES[1]))
    assert verdicts(peer.apply(more, STATES[3])) == [Verdict(name(START), True)]


def test_a_sibling_with_the_same_contributions_needs_no_update():
    peer = trainee()
    announced(peer)
    worse, better = sorted((child(START, view=v) for v in (0, 1)), key=name, reverse=True)
    peer.commits(worse)
    peer.apply(worse, STATES[1])
    actions = peer.commits(better)
    assert not of(act.Apply, actions) and not of(act.LoadState, actions)
    assert of(act.Encode, actions) == [act.Encode(name(worse), False)]
    assert of(act.Train, actions)[0].parent == name(better)


def test_only_the_newest_digests_are_remembered(monkeypatch):
    monkeypatch.setattr(following, "KEPT_DIGESTS", 2)
    monkeypatch.setattr(holding, "KEPT_DIGESTS", 2)
    peer = trainee()
    commits = long_chain(6)
    for number, commit in enumerate(commits, start=1):
        peer.commits(commit)
        peer.apply(commit, STATES[number])
    newest = [STATES[5].digest, STATES[6].digest]
    assert list(peer.s.digests.values()) == list(peer.s.outcomes.values()) == newest


def test_a_peer_that_fell_behind_a_little_replays():
    peer = trainee()
    commits = long_chain(3)
    actions = peer.commits(*commits)
    assert of(act.Gather, actions)[0].commit == name(commits[0])
    for number, commit in enumerate(commits, start=1):
        actions = peer.apply(commit, STATES[number])
    assert of(act.Train, actions)[0].round == 4


def test_a_peer_that_fell_behind_far_takes_the_newest_agreed_state():
    peer = trainee()
    commits = long_chain(6)
    peer.take(heartbeat(CAROL, commits[5]))
    [load] = of(act.LoadState, peer.commits(*commits))
    assert load == act.LoadState(
        STATES[5].digest, None, (CAROL, OWNER), shard_states(STATES[5].digest)
    )
    [gather] = of(act.Gather, peer.take(ev.StateLoaded(STATES[5])))
    assert gather.commit == name(commits[5])


def begun_before(*states: int) -> Peer:
    """Return a peer that was killed while it downloaded these states."""
    begun = [x.address for i in states for x in shard_states(STATES[i].digest)]
    peer = Peer(BOB)
    peer.take(ev.Restored((START, *long_chain(6)), (), (), (), tuple(begun)))
    return peer


def test_a_download_that_was_cut_short_goes_on_though_there_is_a_newer_state():
    peer = begun_before(4)
    [load] = of(act.LoadState, peer.take(ev.ComputeReady(())))
    assert load.digest == STATES[4].digest
    [gather] = of(act.Gather, peer.take(ev.StateLoaded(STATES[4])))
    assert gather.commit == name(long_chain(6)[4])


def test_what_nobody_has_any_more_gives_way_to_the_newest_state():
    peer = begun_before(4)
    peer.take(ev.ComputeReady(()))
    loaded = []
    for _ in range(3):
        peer.take(ev.StateFailed(peer.s.loading))
        assert peer.s.retry_at is not None
        [load] = of(act.LoadState, peer.take(ev.Tick(), peer.s.retry_at))
        loaded.append(load.digest)
        peer.meet(OWNER)  # until then nobody was there to be asked
    assert loaded == [STATES[4].digest, STATES[5].digest, STATES[5].digest]


def test_of_states_too_old_to_replay_from_nothing_is_used():
    [load] = of(act.LoadState, begun_before(0).take(ev.ComputeReady(())))
    assert load.digest == STATES[5].digest


def test_commits_that_come_while_moving_lengthen_the_way():
    peer = trainee()
    one, two = long_chain(2)
    peer.commits(one)
    assert not of(act.Gather, peer.commits(two))
    assert of(act.Gather, peer.apply(one, STATES[1]))[0].commit == name(two)


def test_a_wrong_own_state_is_healed_by_replay_and_said_loudly():
    peer = trainee()
    one, two = long_chain(2)
    peer.commits(one)
    wrong = local("wrong")
    peer.apply(one, wrong)
    actions = peer.commits(two)
    [note] = of(act.Note, actions)
    assert note.warning and "before round 2: healing" in note.text
    assert isinstance(note, act.Diverged) and note.round == 2 and note.mine != note.agreed
    assert of(act.LoadState, actions) == [act.LoadState(STATES[0].digest, STATES[0], ())]
    peer.take(ev.StateLoaded(STATES[0]))
    assert of(act.Gather, peer.apply(one, STATES[1]))[0].commit == name(two)
    assert wrong not in peer.s.states.values()


def test_an_update_that_goes_wrong_on_the_way_takes_the_others_state():
    peer = trainee()
    one, two = long_chain(2)
    peer.commits(one, two)
    actions = peer.apply(one, local("wrong"))
    assert [note.warning for note in of(act.Note, actions)] == [True]
    [load] = of(act.LoadState, actions)
    assert load == act.LoadState(
        STATES[1].digest, None, (OWNER, CAROL), shard_states(STATES[1].digest)
    )
    assert of(act.Gather, peer.take(ev.StateLoaded(STATES[1])))[0].commit == name(two)


def test_a_state_damaged_on_this_disk_gives_way_to_the_one_before():
    peer = trainee()
    commits = long_chain(3)
    peer.commits(*commits)
    for number in (1, 2):
        peer.apply(commits[number - 1], STATES[number])
    peer.take(ev.ComputeLost())
    [load] = of(act.LoadState, peer.take(ev.ComputeReady(())))
    assert load.local == STATES[2]
    actions = peer.take(ev.StateFailed(STATES[2].digest))
    assert "is damaged on this disk" in of(act.Note, actions)[0].text
    assert of(act.LoadState, actions) == [act.LoadState(STATES[1].digest, STATES[1], ())]
    assert STATES[2].digest not in peer.s.states
    actions = peer.take(ev.StateFailed(STATES[1].digest))
    assert of(act.LoadState, actions) == [act.LoadState(STATES[0].digest, STATES[0], ())]
    peer.take(ev.StateLoaded(STATES[0]))
    for number in (1, 2, 3):
        peer.apply(commits[number - 1], STATES[number])
    assert (peer.s.at, peer.s.phase) == (name(commits[2]), Phase.TRAINING)


def test_a_state_that_nobody_has_gives_way_to_a_newer_one():
    peer = trainee()
    commits = long_chain(3)
    peer.commits(*commits)
    wanted = []
    for _ in range(4):
        if peer.s.phase is Phase.FETCHING:
            peer.apply(commits[0], local("wrong"))
        else:
            peer.take(ev.StateFailed(peer.s.loading))
            [*_, load] = of(act.LoadState, peer.take(ev.Tick(), peer.s.retry_at))
            wanted.append(load.digest)
            if load.local is not None:
                peer.take(ev.StateLoaded(STATES[0]))
    assert STATES[2].digest in wanted


def test_a_commit_upon_a_state_that_nobody_has_any_more_is_dropped():
    # A diverged peer committed alone upon its wrong state, and was lost with it.
    peer = trainee()
    one = long_chain(1)[0]
    lost = child(one, authors=(OWNER,), state=digest("lost"))
    peer.commits(one, lost)
    notes: list[act.Note] = []
    for _ in range(10):
        if peer.s.phase is Phase.FETCHING:
            notes += of(act.Note, peer.apply(one, STATES[1]))
        elif peer.s.loading == digest("lost"):
            notes += of(act.Note, peer.take(ev.StateFailed(digest("lost"))))
            if peer.s.retry_at is not None:
                peer.take(ev.Tick(), peer.s.retry_at)
        elif peer.s.phase is Phase.LOADING:
            peer.take(ev.StateLoaded(STATES[0]))
    assert notes[-1].text == "nobody has the state before round 2: doing without"
    assert (peer.s.at, peer.s.phase) == (name(one), Phase.TRAINING)
    # Until somebody shows that it is there after all.
    peer.take(heartbeat(CAROL, lost))
    assert peer.s.goal == name(lost)


def test_a_joiner_without_any_state_drops_a_head_that_cannot_be_had():
    peer = Peer(DAVE)
    peer.take(ev.ComputeReady(()))
    commits = long_chain(5)
    peer.commits(START, *commits)
    peer.take(ev.ComputeLost())
    peer.take(ev.ComputeReady(()))
    peer.meet(CAROL)
    for _ in range(3):
        peer.take(ev.StateFailed(peer.s.loading))
        peer.take(ev.Tick(), peer.s.retry_at)
    actions = peer.take(ev.StateFailed(peer.s.loading))
    assert "doing without" in of(act.Note, actions)[0].text
    assert of(act.LoadState, actions)[0].digest == STATES[3].digest


def test_missing_payloads_are_asked_for_again_while_somebody_has_applied_them():
    peer = trainee()
    commit = child(START, authors=(OWNER, CAROL))
    peer.commits(commit)
    peer.take(heartbeat(CAROL, commit))
    assert peer.take(ev.Gathered(name(commit), False), 3.0) == []
    assert next_deadline(peer.s) == 3.0 + GRACE / 2
    [gather] = of(act.Gather, peer.take(ev.Tick(), 3.0 + GRACE / 2))
    assert gather.holders == (CAROL, OWNER)


def test_a_commit_whose_payloads_nobody_has_is_dropped_until_somebody_does():
    peer = trainee()
    commit = child(START, authors=(OWNER, CAROL))
    peer.commits(commit)
    actions = peer.take(ev.Gathered(name(commit), False))
    assert "doing without" in of(act.Note, actions)[0].text
    # The inner steps had gone on all the while.
    assert (peer.s.phase, peer.s.view) == (Phase.TRAINING, 1)
    assert of(act.Encode, peer.take(ev.Trained(name(START)))) == [act.Encode(name(START), True)]
    [gather] = of(act.Gather, peer.take(heartbeat(CAROL, commit)))
    assert gather.commit == name(commit)


def test_who_hosts_nothing_does_not_show_that_payloads_exist():
    peer = trainee()
    commit = child(START, authors=(OWNER, CAROL))
    stands_by = replace(member(DAVE).message, offer=Offer(RoleOffer.STAGE))
    peer.take(ev.MemberLearned(sign(stands_by, DAVE)))
    peer.take(ev.PeerUp(DAVE))
    peer.commits(commit)
    peer.take(heartbeat(DAVE, commit))
    actions = peer.take(ev.Gathered(name(commit), False))
    assert "doing without" in of(act.Note, actions)[0].text
    assert not of(act.Gather, peer.take(heartbeat(DAVE, commit)))
    assert of(act.Gather, peer.take(heartbeat(CAROL, commit)))


def test_a_contribution_encoded_meanwhile_is_announced_when_the_commit_is_dropped():
    peer = trainee()
    peer.take(ev.Trained(name(START)), 1.0)
    commit = child(START, authors=(OWNER, CAROL))
    peer.commits(commit)
    peer.take(peer.encoded(name(START)))
    actions = peer.take(ev.Gathered(name(commit), False))
    assert [a.announce.parent for a in of(act.PublishAnnounce, actions)] == [name(START)]


def test_a_contribution_still_being_encoded_when_the_commit_is_dropped_is_announced_later():
    peer = trainee()
    peer.take(ev.Trained(name(START)), 1.0)
    commit = child(START, authors=(OWNER, CAROL))
    peer.commits(commit)
    peer.take(ev.Gathered(name(commit), False))
    assert peer.s.phase is Phase.ENCODING
    assert of(act.PublishAnnounce, peer.take(peer.encoded(name(START))))


def test_a_restarted_node_goes_on_where_it_was():
    before = trainee()
    announced(before)
    own = announce(START, BOB)
    peer = Peer(BOB)
    peer.take(ev.Restored((START,), (own,), (STATES[0],)))
    [load] = peer.take(ev.ComputeReady((name(START),)))
    assert load == act.LoadState(STATES[0].digest, STATES[0], ())
    actions = peer.take(ev.StateLoaded(STATES[0]))
    # The same contribution again, not another one to the same round.
    assert of(act.PublishAnnounce, actions) == [act.PublishAnnounce(own.message)]
    assert not of(act.Train, actions)


def test_where_the_chain_ends_the_state_kept_of_that_time_is_used():
    # A damaged disk has lost the commits that said which state that was, and whatever followed.
    commits = long_chain(6)
    kept = tuple(replace(STATES[n], after=name(commits[n - 1])) for n in (4, 5, 6))
    peer = Peer(BOB)
    peer.take(ev.Restored((START, *commits[:5]), (), kept))
    [load] = peer.take(ev.ComputeReady(()))
    assert load.local == STATES[4]  # agreed upon by commit 5, which can be applied and judged
    peer = Peer(BOB)
    peer.take(ev.Restored((START, *commits[:4]), (), kept))
    [load] = peer.take(ev.ComputeReady(()))
    assert load == act.LoadState(STATES[4].digest, STATES[4], ())
    peer.take(ev.StateLoaded(STATES[4]))
    assert (peer.s.at, peer.s.phase) == (name(commits[3]), Phase.TRAINING)
    [load] = of(act.LoadState, peer.commits(*commits[4:]))  # which others still have
    assert load.local == STATES[5]
    peer.take(ev.StateLoaded(STATES[5]))
    peer.apply(commits[5], STATES[6])
    assert peer.s.at == name(commits[5])


def test_a_kept_state_that_a_later_commit_contradicts_is_not_used():
    commits = long_chain(4)
    wrong = replace(local("wrong"), after=name(commits[2]))
    peer = Peer(BOB)
    peer.take(ev.Restored((START, *commits), (), (wrong,)))
    actions = peer.take(ev.ComputeReady(()))
    assert of(act.LoadState, actions)[0].digest != wrong.digest


def test_of_other_shards_no_kept_state_is_used():
    commits = long_chain(5)
    shards = (replace(STATES[5].shards[0], shard="another"),)
    other = replace(STATES[5], shards=shards, after=name(commits[4]))
    peer = Peer(BOB)
    peer.take(ev.Restored((START, *commits), (), (other,)))
    assert of(act.LoadState, peer.take(ev.ComputeReady(())))[0].local is None


def test_a_lost_compute_process_starts_again_from_the_newest_state():
    peer = trainee()
    one = long_chain(1)[0]
    peer.commits(one)
    peer.apply(one, STATES[1])
    [note] = peer.take(ev.ComputeLost())
    assert note.warning and peer.s.phase is Phase.STARTING
    assert peer.take(ev.Trained(name(one))) == []
    [load] = of(act.LoadState, peer.take(ev.ComputeReady((name(START),))))
    assert load.local == STATES[1]
    actions = peer.take(ev.StateLoaded(STATES[1]))
    assert verdicts(actions) == [Verdict(name(START), True)]
    assert of(act.Train, actions)[0].parent == name(one)


@pytest.mark.parametrize(
    "event",
    [
        ev.Gathered(digest("x"), True),
        ev.Applied(digest("x"), STATES[1], ()),
        ev.StateLoaded(STATES[1]),
        ev.StateFailed(STATES[1].digest),
        ev.Trained(digest("x")),
        ev.Checked("nothing", ""),
    ],
)
def test_answers_to_what_was_not_asked_change_nothing(event):
    peer = trainee()
    announced(peer)
    before = (peer.s.at, peer.s.phase, peer.s.loaded)
    assert peer.take(event) == []
    assert (peer.s.at, peer.s.phase, peer.s.loaded) == before


def test_a_late_state_after_the_retry_is_not_taken_for_another():
    peer = trainee()
    commit = child(START, authors=(OWNER, CAROL))
    peer.commits(commit)
    assert peer.take(ev.Gathered(digest("other"), False)) == []
    assert peer.s.phase is Phase.FETCHING


def test_a_state_asked_for_before_the_compute_process_was_lost_is_not_taken():
    peer = trainee()
    commits = long_chain(6)
    peer.commits(*commits)
    assert peer.s.phase is Phase.LOADING
    assert peer.take(ev.StateLoaded(STATES[2])) == []
    assert peer.take(ev.StateFailed(STATES[2].digest)) == []
    assert of(act.Gather, peer.take(ev.StateLoaded(STATES[5])))


def test_a_better_head_is_asked_for_first_its_end_then_all_of_it():
    peer = trainee()
    commits = long_chain(2)
    assert peer.take(heartbeat(CAROL, commits[1]), 1.0) == [act.AskChain(CAROL, 0)]
    assert peer.take(heartbeat(CAROL, commits[1]), 1.1) == []
    assert peer.take(heartbeat(DAVE, None), 1.2) == []
    assert peer.commits(commits[1]) == []
    peer.commits(*commits)
    assert peer.s.goal == name(commits[1])


def test_a_forged_commit_is_refused_by_name():
    peer = trainee()
    actions = peer.commits(child(START, weight=10**6))
    assert actions == [act.Refuse(CAROL, "weight")]


def test_the_last_commit_ends_the_run():
    peer = trainee()
    commits = long_chain(6)
    for number, commit in enumerate(commits, start=1):
        peer.commits(commit)
        actions = peer.apply(commit, STATES[number])
    assert peer.s.phase is Phase.DONE
    assert act.Evaluate(6) in actions and not of(act.Train, actions)


def test_settling_reaches_back_to_the_oldest_contribution():
    peer = Peer(BOB)
    own = announce(START, BOB)
    light = child(START, authors=(BOB,), view=1)
    commits = [child(START, authors=(OWNER, CAROL))]
    for number in range(1, 6):
        commits.append(child(commits[-1], state=STATES[number].digest))
    peer.take(ev.Restored((START, light), (own,), (STATES[0],)))
    peer.take(ev.ComputeReady((name(START),)))
    peer.meet(OWNER, CAROL)
    peer.commits(*commits)
    peer.take(ev.StateLoaded(STATES[0]))
    # It was away for longer than contributions are usually remembered.
    while peer.s.phase is not Phase.DONE:
        if peer.s.phase is Phase.LOADING:
            number = next(n for n, st in enumerate(STATES) if st.digest == peer_wants(peer))
            actions = peer.take(ev.StateLoaded(STATES[number]))
        else:
            commit = peer.s.chain[peer.s.queue[0]]
            actions = peer.apply(commit, STATES[commit.message.round])
    assert verdicts(actions) == [Verdict(name(START), False)]


def peer_wants(peer: Peer):
    assert peer.s.goal is not None
    return state_digest(peer.s.chain[peer.s.queue[0]].message.state)


@pytest.mark.parametrize("late", [False, True])
def test_a_round_that_began_late_here_does_not_say_how_long_rounds_take(late):
    peer = Peer()
    peer.boot()
    peer.meet(OWNER, CAROL)
    peer.s.rehosting = late
    start = genesis()
    peer.commits(start)
    for other in (OWNER, CAROL):
        peer.announced(announce(start, other))
    peer.commits(child(start))
    assert peer.s.deadline.seconds == (RULES.deadline_max if late else RULES.deadline_min)
