"""The recording: every event comes back equal, decisions are told apart, and it never raises."""

import json
import typing
from dataclasses import replace

import event_strategies
import pytest
import run_world
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.node.run import record
from skerry.node.run.record import Recorder, decisions, initial_state, old_recording, read_event
from skerry.node.run.state import NodeEvent
from skerry.pipeline.codecs import payload_limits
from skerry.protocol.errors import ConfigError, ProtocolError
from skerry.protocol.messages import Heartbeat
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev

EVENTS = typing.get_args(NodeEvent)
ACTIONS = typing.get_args(act.Action)


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_event_comes_back_equal(kind) -> None:
    @settings(max_examples=30, deadline=None)
    @given(event_strategies.any_of(kind), st.floats(0, 1e9))
    def check(event, now) -> None:
        entry = json.loads(record._line(record._event_entry(event, now)))
        assert read_event(entry) == event
        assert entry["t"] == now

    check()


@pytest.mark.parametrize("kind", ACTIONS, ids=lambda kind: kind.__name__)
def test_every_action_has_a_digest_of_all_it_holds(kind) -> None:
    @settings(max_examples=30, deadline=None)
    @given(event_strategies.any_of(kind), event_strategies.any_of(kind))
    def check(one, other) -> None:
        assert decisions([one])["did"] == [kind.__name__]
        assert (decisions([one]) == decisions([other])) == (one == other)
        assert decisions([one]) == decisions([replace(one)])

    check()


def test_order_of_decisions_counts() -> None:
    one, other = act.Refuse("a", "x"), act.Refuse("b", "x")
    assert decisions([one, other]) != decisions([other, one])


def test_forged_signature_is_not_taken_from_a_recording() -> None:
    heartbeat = event_strategies.signed(Heartbeat)[0]
    forged = replace(heartbeat, envelope=replace(heartbeat.envelope, signature=bytes(64)))
    entry = record._event_entry(ev.HeartbeatReceived(forged), 0.0)
    with pytest.raises(ProtocolError):
        read_event(entry)


class TestRecorder:
    def test_writes_events_with_what_they_led_to(self, tmp_path) -> None:
        recorder = Recorder(tmp_path / "r.jsonl", {"me": "x"})
        recorder.record(ev.Tick(), 1.5)
        recorder.decided([act.FinishTraining()])
        recorder.record(ev.PeerUp("p"), 2.5)
        recorder.decided([])
        recorder.close()
        assert lines(tmp_path / "r.jsonl") == [
            {"start": {"me": "x"}},
            {"t": 1.5, "event": "Tick", "data": {}},
            decisions([act.FinishTraining()]),
            {"t": 2.5, "event": "PeerUp", "data": {"peer": "p"}},
        ]
        assert recorder.ended == ""

    def test_keeps_one_recording_before(self, tmp_path) -> None:
        path = tmp_path / "r.jsonl"
        for number in range(3):
            Recorder(path, number).close()
        assert lines(path) == [{"start": 2}]
        assert lines(old_recording(path)) == [{"start": 1}]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["r.jsonl", "r.old.jsonl"]

    def test_ends_at_its_limit_and_says_so_in_the_file(self, tmp_path) -> None:
        path = tmp_path / "r.jsonl"
        recorder = Recorder(path, {}, max_bytes=200)
        for number in range(50):
            recorder.record(ev.Tick(), float(number))
        recorder.close()
        found = lines(path)
        assert found[-1] == {"ended": "it has reached its limit of 200 bytes"}
        times = [entry["t"] for entry in found[1:-1]]
        assert times == [float(number) for number in range(len(times))]
        whole = path.stat().st_size - len('{"ended":"it has reached its limit of 200 bytes"}\n')
        assert 200 - len('{"t":9.0,"event":"Tick","data":{}}\n') < whole <= 200
        assert recorder.ended

    def test_full_disk_ends_it_without_raising(self, tmp_path) -> None:
        path = tmp_path / "r.jsonl"
        recorder = Recorder(path, {})
        recorder._thread.submit(lambda: (path.unlink(), path.symlink_to("/dev/full"))).result()
        recorder.record(ev.Tick(), 0.0)
        recorder.record(ev.Tick(), 1.0)
        recorder.close()
        assert "No space left" in recorder.ended

    def test_folder_that_is_missing_ends_it_without_raising(self, tmp_path) -> None:
        recorder = Recorder(tmp_path / "no" / "r.jsonl", {})
        recorder.record(ev.Tick(), 0.0)
        recorder.close()
        assert "No such file" in recorder.ended


def test_start_brings_back_the_state_that_a_node_starts_from(tmp_path) -> None:
    manifest = run_world.manifest_in(tmp_path)
    me, limits = run_world.OWNER.peer_id, payload_limits(manifest)
    start = record.start_of(me, manifest.canonical(), limits, 0.5, 7.0)
    state = initial_state(json.loads(json.dumps(start)))
    assert state.rounds.me == me
    assert state.rounds.rules.chain.payload_limits == limits
    assert state.rounds.rules.chain.run_id == manifest.run_id
    assert state.rounds.phase_since == 7.0
    with pytest.raises(ConfigError):
        initial_state({**start, "manifest": start["manifest"] + " "})
