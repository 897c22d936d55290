"""The pure core: what the failure detector says reaches the round machine first, and in order."""

import event_strategies
import pytest
import run_world

from skerry.node.run.record import initial_state, start_of
from skerry.node.run.state import LEAVING, Closed, Network, Unreachable, apply, next_deadline
from skerry.pipeline.codecs import payload_limits
from skerry.protocol.codec import sign_message
from skerry.protocol.messages import Heartbeat, MemberRecord
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds import membership
from skerry.recovery.standing import Sign, Standing

GAP_S = 1.0
OTHER, THIRD = run_world.signer_of(2), run_world.signer_of(3)


@pytest.fixture
def state(tmp_path):
    manifest = run_world.manifest_in(tmp_path, members=3)
    me = run_world.OWNER.peer_id
    limits = payload_limits(manifest)
    return initial_state(start_of(me, manifest.canonical(), limits, GAP_S, 0.0))


def heartbeat(state, signer=OTHER, phase="training", doubts=()) -> ev.HeartbeatReceived:
    run_id, at = state.rounds.rules.chain.run_id, state.rounds.at
    beat = Heartbeat(run_id, at, 0, 0, phase, 0, 0, 0.0, 0.0, doubts=doubts)
    return ev.HeartbeatReceived(sign_message(signer, beat))


def test_heartbeat_makes_a_peer_alive(state) -> None:
    apply(state, heartbeat(state), 1.0)
    assert state.rounds.alive == {OTHER.peer_id}
    assert state.rounds.positions[OTHER.peer_id].round == 0


def test_silence_makes_it_dead_at_the_deadline_and_not_before(state) -> None:
    apply(state, heartbeat(state), 1.0)
    due = next_deadline(state, 1.0)
    assert due == 1.0 + 4 * GAP_S
    apply(state, ev.Tick(), due - 0.001)
    assert state.rounds.alive == {OTHER.peer_id}
    apply(state, ev.Tick(), due)
    assert state.rounds.alive == set()
    assert next_deadline(state, due) == due + 5 * GAP_S  # as a suspect it is given up then


def test_any_event_brings_out_that_a_peer_fell_silent(state) -> None:
    apply(state, heartbeat(state), 0.0)
    apply(state, heartbeat(state, THIRD), 5.0)
    assert state.rounds.alive == {THIRD.peer_id}


def test_failed_requests_shorten_the_patience_down_to_two_heartbeats(state) -> None:
    apply(state, heartbeat(state), 0.0)
    for _ in range(5):
        assert apply(state, Unreachable(OTHER.peer_id), 0.5) == []
    assert next_deadline(state, 0.5) == 2 * GAP_S
    assert state.rounds.suspects == set()
    apply(state, Unreachable(OTHER.peer_id), 2.0)
    assert state.rounds.alive == set()


def test_failed_request_to_a_peer_that_was_never_heard_is_nothing(state) -> None:
    assert apply(state, Unreachable(OTHER.peer_id), 1.0) == []
    assert next_deadline(state, 1.0) is None


def test_goodbye_counts_at_once_and_the_peer_is_forgotten(state) -> None:
    apply(state, heartbeat(state), 0.0)
    apply(state, heartbeat(state, phase=LEAVING), 0.5)
    assert state.rounds.alive == set()
    assert next_deadline(state, 0.5) is None
    apply(state, heartbeat(state), 1.0)  # it may come back
    assert state.rounds.alive == {OTHER.peer_id}


def test_deadline_is_the_earlier_one_of_machine_and_detector(state) -> None:
    apply(state, ev.ComputeReady(()), 0.0)
    apply(state, ev.StateFailed(None), 0.0)
    retry = next_deadline(state, 0.0)
    assert retry == state.rounds.retry_at
    apply(state, heartbeat(state), 0.1)
    assert next_deadline(state, 0.1) == min(retry, 0.1 + 4 * GAP_S)


def test_members_and_machine_events_pass_through(state) -> None:
    record = event_strategies.signed(event_strategies.MemberRecord)[0]
    apply(state, ev.MemberLearned(record), 0.0)
    assert state.rounds.members == {record.signer: record}


def test_own_outage_makes_nobody_dead(state) -> None:
    apply(state, heartbeat(state), 0.0)
    apply(state, Network(up=False), 1.0)
    apply(state, Unreachable(OTHER.peer_id), 1.5)
    apply(state, ev.Tick(), 100.0)
    assert state.rounds.alive == {OTHER.peer_id}
    apply(state, Network(up=True), 100.0)
    assert state.rounds.alive == {OTHER.peer_id}
    apply(state, ev.Tick(), next_deadline(state, 100.0))
    assert state.rounds.alive == set()


def test_a_silent_peer_is_suspect_then_dead_then_evicted(state) -> None:
    apply(state, heartbeat(state), 0.0)
    apply(state, ev.Tick(), 4.0)
    assert state.rounds.suspects == state.rounds.lost == {OTHER.peer_id}
    [turn] = state.turns
    assert (turn.after, [one.sign for one in turn.evidence]) == (Standing.SUSPECT, [Sign.SILENT])
    apply(state, ev.Tick(), 8.9)
    assert (state.rounds.suspects, state.turns) == ({OTHER.peer_id}, ())
    assert act.GiveUp(OTHER.peer_id) in apply(state, ev.Tick(), 9.0)
    assert (state.rounds.suspects, state.rounds.lost) == (set(), {OTHER.peer_id})
    state.rounds.slowness.hear(OTHER.peer_id, 10.0)
    apply(state, ev.Tick(), 129.0)
    assert [turn.after for turn in state.turns] == [Standing.EVICTED]
    assert state.rounds.slowness.told == {}
    apply(state, heartbeat(state), 130.0)
    assert [turn.after for turn in state.turns] == [Standing.ALIVE]
    assert state.rounds.alive == {OTHER.peer_id}


def test_a_broken_connection_is_told_at_once_and_believed_sooner_if_others_see_it(state) -> None:
    apply(state, heartbeat(state), 0.0)
    apply(state, heartbeat(state, THIRD), 0.0)
    assert apply(state, Closed(OTHER.peer_id), 0.5) == [act.Present()]
    assert apply(state, Closed(OTHER.peer_id), 0.5) == []
    assert state.register.doubts(state.rounds.me) == (OTHER.peer_id,)
    assert state.rounds.alive == {OTHER.peer_id, THIRD.peer_id}  # it may be the stream alone
    apply(state, heartbeat(state, THIRD, doubts=(OTHER.peer_id,)), 0.6)
    apply(state, ev.Tick(), 0.5 + 2 * GAP_S)
    assert state.register.standing(OTHER.peer_id) is Standing.DEAD
    assert (state.rounds.alive, state.rounds.suspects) == ({THIRD.peer_id}, set())
    apply(state, heartbeat(state), 3.0)
    assert state.rounds.alive == {OTHER.peer_id, THIRD.peer_id}


def test_what_another_says_alone_speaks_against_nobody(state) -> None:
    apply(state, heartbeat(state), 0.0)
    apply(state, heartbeat(state, THIRD, doubts=(OTHER.peer_id, state.rounds.me)), 0.1)
    assert state.turns == ()
    assert state.register.standing(OTHER.peer_id) is Standing.ALIVE
    assert state.register.standing(state.rounds.me) is None


def test_own_outage_gives_up_nobody_and_takes_no_evidence(state) -> None:
    apply(state, heartbeat(state), 0.0)
    apply(state, Closed(OTHER.peer_id), 0.5)
    apply(state, Network(up=False), 1.0)
    assert apply(state, Closed(OTHER.peer_id), 1.5) == []
    apply(state, ev.Tick(), 100.0)
    assert next_deadline(state, 100.0) is None
    assert state.register.standing(OTHER.peer_id) is Standing.SUSPECT
    apply(state, Network(up=True), 100.0)
    apply(state, ev.Tick(), 104.9)
    assert state.register.standing(OTHER.peer_id) is Standing.SUSPECT


def test_nothing_is_kept_of_who_made_room_for_another(state, monkeypatch) -> None:
    monkeypatch.setattr(membership, "MAX_MEMBERS", 1)
    run_id = state.rounds.rules.chain.run_id

    def record(signer) -> ev.MemberLearned:
        message = MemberRecord(run_id, ("/ip4/127.0.0.1/tcp/1",), None, 1, "test")
        return ev.MemberLearned(sign_message(signer, message))

    apply(state, record(OTHER), 0.0)
    apply(state, heartbeat(state), 0.0)
    apply(state, record(THIRD), 1.0)
    assert state.rounds.members.keys() == {OTHER.peer_id}, "it is here"
    for now in (10.0, 100.0, 1000.0):
        apply(state, ev.Tick(), now)
    assert state.register.standing(OTHER.peer_id) is Standing.EVICTED
    apply(state, record(THIRD), 1000.0)
    assert state.rounds.members.keys() == {THIRD.peer_id}
    assert state.register.standing(OTHER.peer_id) is None
    assert OTHER.peer_id not in state.rounds.lost
