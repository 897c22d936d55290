"""Replaying: the recording of a run that was real gives the same decisions, again and again."""

import json

import pytest
import run_world
from typer.testing import CliRunner

from skerry.node.cli.main import app
from skerry.node.run.record import Recorder, initial_state, start_of
from skerry.node.run.replay import Ending, Step, replay
from skerry.node.run.state import apply
from skerry.pipeline.codecs import payload_limits
from skerry.protocol.errors import ConfigError
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.state import Phase


@pytest.fixture
def recorded(tmp_path):
    """A recording of a few events that led to something."""
    manifest = run_world.manifest_in(tmp_path)
    limits = payload_limits(manifest)
    start = start_of(run_world.OWNER.peer_id, manifest.canonical(), limits, 1.0, 100.0)
    state, path = initial_state(start), tmp_path / "r.jsonl"
    recorder = Recorder(path, start)
    events = [ev.Restored((), (), ()), ev.ComputeReady(()), ev.StateFailed(None), ev.ComputeLost()]
    for number, event in enumerate(events):
        recorder.record(event, 100.0 + number)
        recorder.decided(apply(state, event, 100.0 + number))
    recorder.close()
    return path


def rewrite(path, change) -> None:
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    change(entries)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


class TestRealRun:
    def test_decides_the_same_twice_and_as_it_was_recorded(self, trained) -> None:
        for outcome in trained:
            first, second = list(replay(outcome.recording)), list(replay(outcome.recording))
            assert first == second
            *steps, ending = first
            assert ending == Ending(len(steps), 0, "", ending.version)
            assert len(steps) > 20

    def test_holds_what_the_node_did(self, trained) -> None:
        for outcome in trained:
            steps = [item for item in replay(outcome.recording) if isinstance(item, Step)]
            decided = [action for step in steps for action in step.actions]
            trained_rounds = [a.round for a in decided if isinstance(a, act.Train)]
            assert trained_rounds == list(range(1, run_world.ROUNDS + 1))
            applied = [s.event.state.digest for s in steps if isinstance(s.event, ev.Applied)]
            journal = [line for line in outcome.journal if line["event"] == "applied"]
            assert applied == [line["digest"] for line in journal]
            assert steps[-1].after.phase is Phase.DONE
            times = [step.time for step in steps]
            assert times == sorted(times)
            assert journal[0]["time"] == pytest.approx(
                next(s.time for s in steps if isinstance(s.event, ev.Applied)), abs=5.0
            )

    def test_every_recorded_decision_is_checked(self, trained, tmp_path) -> None:
        """Take the contents of each decision away in turn: each time the replay must notice."""
        path = tmp_path / "r.jsonl"
        text = trained[0].recording.read_text().splitlines(keepends=True)
        decided = [number for number, line in enumerate(text) if line.startswith('{"did"')]
        assert len(decided) > 10
        for number in decided[:: max(1, len(decided) // 8)]:
            entry = json.loads(text[number])
            changed = [*text[:number], json.dumps({**entry, "digest": "0" * 16}) + "\n"]
            path.write_text("".join(changed + text[number + 1 :]))
            *_, ending = replay(path)
            assert ending.mismatches == 1

    def test_command_tells_what_was_decided_and_whom_it_waited_for(self, trained) -> None:
        peer = next(
            step.event.announce.signer
            for step in replay(trained[0].recording)
            if isinstance(step, Step) and isinstance(step.event, ev.AnnounceReceived)
        )
        result = CliRunner().invoke(app, ["logs", "--replay", str(trained[0].recording)])
        assert result.exit_code == 0, result.output
        for part in (
            "-> load the initial state",
            "-> train round 1 upon",
            "-> apply round 3: ",
            "=  training -> encoding",
            f"announcement {''}",
            peer[-6:],
            "waits for ",
        ):
            assert part in result.stdout
        assert result.stdout.splitlines()[-1].endswith("events replayed, all decided as recorded")

    def test_command_prints_json_lines(self, trained) -> None:
        arguments = ["logs", "--format", "json", "--replay", str(trained[1].recording)]
        found = [json.loads(x) for x in CliRunner().invoke(app, arguments).stdout.splitlines()]
        assert found[-1]["event"] == "end"
        assert found[-1]["events"] == len(found) - 1
        actions = [d["action"] for line in found[:-1] for d in line["decisions"]]
        assert actions.count("Apply") == run_world.ROUNDS
        assert any(line["waiting_for"] for line in found[:-1])


class TestSituations:
    def test_say_where_the_node_stood_before_and_after(self, recorded) -> None:
        steps = [item for item in replay(recorded) if isinstance(item, Step)]
        phases = [(step.before.phase, step.after.phase) for step in steps]
        starting, loading = Phase.STARTING, Phase.LOADING
        assert phases == [
            (starting, starting),
            (starting, loading),
            (loading, loading),
            (loading, starting),
        ]
        assert steps[0].before.waiting_for == ("the compute process",)
        assert [step.time - steps[0].time for step in steps] == pytest.approx([0, 1, 2, 3])


class TestMismatch:
    def test_other_decisions_are_reported_and_make_the_command_fail(self, recorded) -> None:
        rewrite(recorded, lambda entries: entries[3].update(did=["Train", "Settle"]))
        steps = [item for item in replay(recorded) if isinstance(item, Step)]
        assert [s.mismatch for s in steps] == ["", "recorded: Train, Settle", "", ""]
        result = CliRunner().invoke(app, ["logs", "--replay", str(recorded)])
        assert result.exit_code == 1
        assert "!! recorded: Train, Settle" in result.stdout
        assert "1 were decided otherwise by skerry" in result.stdout

    def test_same_decisions_with_other_contents_are_reported(self, recorded) -> None:
        rewrite(recorded, lambda entries: entries[3].update(digest="0" * 16))
        assert [s.mismatch for s in replay(recorded) if isinstance(s, Step) and s.mismatch] == [
            "recorded: the same decisions with other contents"
        ]

    def test_decisions_that_are_missing_are_reported_except_after_the_last_event(
        self, recorded
    ) -> None:
        rewrite(recorded, lambda entries: entries.pop())
        assert list(replay(recorded))[-1].mismatches == 0  # it may not have come to that
        rewrite(recorded, lambda entries: entries.pop(3))
        assert [s.mismatch for s in replay(recorded) if isinstance(s, Step) and s.mismatch] == [
            "recorded: nothing"
        ]


class TestFile:
    def test_last_line_cut_short_is_the_end(self, recorded) -> None:
        data = recorded.read_bytes()
        whole = list(replay(recorded))
        for cut in range(1, len(data.splitlines(keepends=True)[-1])):
            recorded.write_bytes(data[:-cut])
            *steps, ending = replay(recorded)
            assert steps == whole[: len(steps)]
            assert ending.mismatches == 0
            assert cut == 1 or ending.reason == "its last line was cut short"

    def test_end_at_the_limit_is_told(self, recorded) -> None:
        rewrite(recorded, lambda entries: entries.append({"ended": "it was full"}))
        *_, ending = replay(recorded)
        assert ending.reason == "it was full"
        result = CliRunner().invoke(app, ["logs", "--replay", str(recorded)])
        assert "the recording ends early: it was full" in result.stdout

    @pytest.mark.parametrize(
        "line",
        [
            "nonsense",
            "[]",
            "{}",
            '{"t": 1, "event": "Nothing", "data": {}}',
            '{"t": 1, "event": "PeerUp", "data": {}}',
            '{"t": 1, "event": "PeerUp", "data": 7}',
            '{"t": "x", "event": "Tick", "data": {}}',
            '{"t": 1, "event": "HeartbeatReceived", "data": {"heartbeat": "AAAA"}}',
            '{"t": 1, "event": "HeartbeatReceived", "data": {"heartbeat": "é"}}',
            "[" * 100_000,
        ],
    )
    def test_damaged_line_is_a_coded_error_that_names_it(self, recorded, line) -> None:
        text = recorded.read_text().splitlines()
        recorded.write_text("\n".join([*text[:2], line, *text[2:]]) + "\n")
        with pytest.raises(ConfigError, match=r"SK-CFG-003: .*r\.jsonl, line 3: not a recorded"):
            list(replay(recorded))

    @pytest.mark.parametrize("text", ["", "{}\n", '{"start": 1}\n', '{"start": {"me": "x"}}\n'])
    def test_file_that_is_no_recording_is_a_coded_error(self, tmp_path, text) -> None:
        (tmp_path / "r.jsonl").write_text(text)
        with pytest.raises(ConfigError, match="SK-CFG-003"):
            list(replay(tmp_path / "r.jsonl"))

    def test_missing_file_is_a_coded_error(self, tmp_path) -> None:
        with pytest.raises(ConfigError, match="SK-CFG-003"):
            list(replay(tmp_path / "r.jsonl"))
