"""The status reply: a function of the run's context, made by hand here."""

import copy
import time

import pytest
import run_world

from skerry.node.run.facts import Seen
from skerry.node.run.peers import member_record
from skerry.node.run.state import apply
from skerry.node.run.status import run_status
from skerry.protocol.codec import sign_message
from skerry.protocol.ids import CommitHash
from skerry.protocol.messages import Commit, Heartbeat, Signed
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.state import Phase
from skerry.protocol.token import make_invite

OTHER = run_world.signer_of(2)
STRANGER = run_world.signer_of(3)


@pytest.fixture
async def context(world):
    """A node that waits for its compute process, alone."""
    context = (await world.member()).context
    apply(context.state, ev.MemberLearned(run_world.record_of(run_world.OWNER, world.manifest)), 0)
    return context


def begin(context, *signers) -> Signed[Commit]:
    """Put the run's first commit onto the chain, with these peers in the roster."""
    records = {s.peer_id: run_world.record_of(s, context.manifest) for s in signers}
    roster = tuple(sorted([context.me, *records]))
    commit = Commit(
        run_id=context.run_id,
        round=0,
        view=0,
        parent=CommitHash(context.run_id),
        state=run_world.made_up_state(context.manifest),
        announces=(),
        roster=roster,
        admissions=tuple(records[peer] for peer in sorted(records)),
        cursor=0,
        weight=0,
    )
    signed = sign_message(run_world.OWNER, commit)
    rounds = context.state.rounds
    rounds.chain.add(signed)
    rounds.at = CommitHash(signed.hash)
    rounds.digests[rounds.at] = "d" * 64
    rounds.members.update(records)
    return signed


def test_who_has_no_place_says_what_it_waits_for(context) -> None:
    """Its round is others', and it hosts nothing yet."""
    begin(context, OTHER)
    rounds = context.state.rounds
    rounds.phase, rounds.hosted, rounds.whole = Phase.OBSERVING, (), False
    status = run_status(context, 0.0)
    text = "a plan that gives this peer something to host: those here make no ring with it yet"
    assert list(status.round.waiting_for) == [text]


def test_before_anything_it_waits_for_the_compute_process(context) -> None:
    status = run_status(context, 0.0)
    assert status.run_id == context.run_id
    assert status.name == "small"
    assert (status.round.round, status.round.rounds, status.round.phase) == (0, 3, "starting")
    assert list(status.round.waiting_for) == ["the compute process"]
    assert (status.state_digest, status.digest_round, status.text_tokens) == ("", 0, 0)
    assert status.head == context.run_id
    assert not status.finished
    (me,) = status.peers
    assert (me.peer_id, me.self, me.alive, me.in_roster) == (context.me, True, True, False)
    assert list(me.addresses) == list(context.transport.addresses)


def test_names_the_round_its_leader_and_whom_it_waits_for(context) -> None:
    commit = begin(context, OTHER)
    rounds = context.state.rounds
    rounds.phase, rounds.phase_since, rounds.alive = Phase.COLLECTING, 10.0, {OTHER.peer_id}
    rounds.view = 4
    status = run_status(context, 12.5)
    assert status.round.phase == "collecting"
    assert (status.round.round, status.round.view, status.round.phase_seconds) == (1, 4, 2.5)
    assert list(status.round.waiting_for) == [OTHER.peer_id]
    assert status.round.leader == rounds.leader != ""
    assert (status.head, status.state_digest) == (commit.hash, "d" * 64)
    assert [peer.in_roster for peer in status.peers] == [True, True]


def test_clock_that_is_behind_gives_no_negative_time(context) -> None:
    context.state.rounds.phase_since = 10.0
    assert run_status(context, 9.0).round.phase_seconds == 0.0


def test_peers_are_this_one_first_then_all_that_are_known(context) -> None:
    begin(context, OTHER)
    context.state.rounds.alive = {STRANGER.peer_id}
    peers = run_status(context, 0.0).peers
    others = sorted([OTHER.peer_id, STRANGER.peer_id])
    assert [peer.peer_id for peer in peers] == [context.me, *others]
    by_id = {peer.peer_id: peer for peer in peers}
    assert (by_id[OTHER.peer_id].alive, by_id[OTHER.peer_id].in_roster) == (False, True)
    assert (by_id[STRANGER.peer_id].alive, by_id[STRANGER.peer_id].in_roster) == (True, False)
    assert list(by_id[OTHER.peer_id].addresses) == ["/memory/x"]
    assert by_id[OTHER.peer_id].phase == ""


def test_each_peer_has_the_right_by_which_it_is_there(context) -> None:
    invite = make_invite(OTHER, context.run_id, 99, b"n" * 16, max_uses=2)
    member = member_record(OTHER, context.run_id, (), invite)
    context.state.rounds.members = {OTHER.peer_id: member}
    me, other = run_status(context, 0.0).peers
    assert not me.HasField("admission")  # no record of it is known
    right = other.admission
    assert (right.right, right.invite, right.inviter) == ("invite", "6e" * 16, OTHER.peer_id)
    assert (right.expires_at, right.max_uses, right.uses, right.refusal) == (99, 2, 1, "")


def test_last_heartbeat_says_what_a_peer_does(context) -> None:
    begin(context, OTHER)
    beat = Heartbeat(context.run_id, CommitHash("1" * 64), 7, 0, "training", 3, 30, 8.5, 2.25)
    context.facts.seen[OTHER.peer_id] = Seen(beat, time.monotonic() - 5.0)
    (peer,) = [p for p in run_status(context, 0.0).peers if p.peer_id == OTHER.peer_id]
    assert (peer.phase, peer.head_round, peer.step, peer.steps) == ("training", 7, 3, 30)
    assert (peer.tokens_per_second, peer.loss) == (8.5, 2.25)
    assert peer.seen_seconds_ago >= 5.0


def test_pause_is_shown_whatever_the_node_follows_meanwhile(context) -> None:
    context.facts.tokens_per_second = 9.0
    apply(context.state, ev.Paused(), 0.0)
    status = run_status(context, 0.0)
    assert (status.round.phase, status.peers[0].phase) == ("paused", "paused")
    assert status.peers[0].tokens_per_second == 0.0


def test_measurements_are_passed_on(context) -> None:
    facts = context.facts
    facts.params, facts.unigram_entropy = 1234, 3.5
    facts.loss, facts.step, facts.steps, facts.tokens_per_second = 2.5, 1, 2, 9.0
    facts.validated(0, 5.5)
    facts.sent_bytes.update(payload=10, control=3)
    facts.received_bytes.update(state=4)
    facts.ring_sent.update(forward=6, control=1)
    facts.ring_text_tokens = 32
    facts.dense_bytes = 99
    facts.refused.update({"size": 2, "hash": 1})
    status = run_status(context, 0.0)
    assert (status.params, status.unigram_entropy, status.loss) == (1234, 3.5, 2.5)
    assert (status.val_loss, status.val_loss_start) == (5.5, 5.5)
    assert (status.payload_bytes_sent, status.dense_bytes) == (10, 99)
    assert dict(status.sent_bytes) == {"payload": 10, "control": 3}
    assert dict(status.received_bytes) == {"state": 4}
    assert dict(status.ring_sent_bytes) == {"forward": 6, "control": 1}
    assert status.ring_text_tokens == 32
    assert (status.refused, dict(status.refused_by_reason)) == (3, {"size": 2, "hash": 1})
    assert (status.peers[0].step, status.peers[0].steps) == (1, 2)


def test_finished_only_when_the_last_round_is_measured_too(context, monkeypatch) -> None:
    begin(context)
    rounds = context.state.rounds
    monkeypatch.setattr(type(rounds), "finished", True)
    status = run_status(context, 0.0)
    assert not status.finished
    assert status.round.round == 0  # the last one that was trained, not one after it
    context.facts.validated(0, 4.0)
    assert run_status(context, 0.0).finished


def test_asking_changes_nothing(context) -> None:
    begin(context, OTHER)
    before = copy.deepcopy(context.facts)
    assert run_status(context, 1.0) == run_status(context, 1.0)
    assert context.facts == before
    assert context.events.empty()
