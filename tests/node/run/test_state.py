"""The pure core: what the failure detector says reaches the round machine first, and in order."""

import event_strategies
import pytest
import run_world

from skerry.node.run.record import initial_state, start_of
from skerry.node.run.state import LEAVING, Network, Unreachable, apply, next_deadline
from skerry.pipeline.codecs import payload_limits
from skerry.protocol.codec import sign_message
from skerry.protocol.messages import Heartbeat
from skerry.protocol.rounds import events as ev

GAP_S = 1.0
OTHER, THIRD = run_world.signer_of(2), run_world.signer_of(3)


@pytest.fixture
def state(tmp_path):
    manifest = run_world.manifest_in(tmp_path, members=3)
    me = run_world.OWNER.peer_id
    limits = payload_limits(manifest)
    return initial_state(start_of(me, manifest.canonical(), limits, GAP_S, 0.0))


def heartbeat(state, signer=OTHER, phase="training") -> ev.HeartbeatReceived:
    run_id, at = state.rounds.rules.chain.run_id, state.rounds.at
    beat = Heartbeat(run_id, at, 0, 0, phase, 0, 0, 0.0, 0.0)
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
    assert next_deadline(state, due) is None


def test_any_event_brings_out_that_a_peer_fell_silent(state) -> None:
    apply(state, heartbeat(state), 0.0)
    apply(state, heartbeat(state, THIRD), 5.0)
    assert state.rounds.alive == {THIRD.peer_id}


def test_failed_requests_shorten_the_patience_down_to_two_heartbeats(state) -> None:
    apply(state, heartbeat(state), 0.0)
    for _ in range(5):
        assert apply(state, Unreachable(OTHER.peer_id), 0.5) == []
    assert next_deadline(state, 0.5) == 2 * GAP_S
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
