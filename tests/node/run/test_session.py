"""A session from start to end: real compute processes, members over a network in memory."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
import run_world
from own_processes import children

from skerry.node.run.record import old_recording
from skerry.node.run.status import run_status
from skerry.node.run.store import RunStore
from skerry.protocol import compute as cp
from skerry.protocol.errors import ComputeError, ConfigError
from skerry.protocol.rounds import commits
from skerry.protocol.rounds.state import Phase


@asynccontextmanager
async def running(member):
    """Let a member take part in the run."""
    await member.session.start()
    task = asyncio.create_task(member.session.run(()))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class TestTwoMembers:
    def test_train_all_rounds_to_the_same_state(self, trained) -> None:
        digests = [
            [line["digest"] for line in outcome.journal if line["event"] == "applied"]
            for outcome in trained
        ]
        assert digests[0] == digests[1]
        assert len(set(digests[0])) == run_world.ROUNDS

    def test_measure_the_loss_when_the_manifest_says(self, trained) -> None:
        for outcome in trained:
            rounds = [line["round"] for line in outcome.journal if line["event"] == "validated"]
            assert rounds == [0, 2, 3]

    def test_leave_chain_and_states_that_can_be_read(self, trained) -> None:
        stores = [RunStore(outcome.home) for outcome in trained]
        chains = [[c.hash for c in store.chain.load()] for store in stores]
        assert chains[0] == chains[1]
        assert len(chains[0]) == run_world.ROUNDS + 1
        last = [store.load_states()[-1].digest for store in stores]
        applied = [line for line in trained[0].journal if line["event"] == "applied"]
        assert last == [applied[-1]["digest"]] * 2
        assert [len(store.load_own()) for store in stores] == [run_world.ROUNDS] * 2
        assert [len(store.load_members()) for store in stores] == [1, 1]


async def test_killed_compute_process_is_restarted_and_healed(world) -> None:
    member = await world.member()
    async with running(member):
        await member.follow_until("applied", round=1)
        (killed,) = children()
        killed.kill()
        ended = await member.follow_until("warning")
        assert "compute process ended" in ended["text"]
        with pytest.raises(ComputeError, match="SK-CMP-001"):
            await member.session.ask(lambda n: cp.Evaluate(request=n))
        await member.follow_until("validated", round=run_world.ROUNDS)
        assert killed not in children()
        reply = await member.session.ask(lambda n: cp.Evaluate(request=n))
        assert reply.loss == pytest.approx(member.context.facts.val_loss)
    assert [line["round"] for line in member.lines("applied")] == [1, 2, 3]
    assert not killed.is_running()


async def test_restart_goes_on_where_it_was_and_keeps_the_recording_before(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(commits, "DECODED", 1)  # so that older ones come from the chain's file
    async with run_world.World(tmp_path) as world:
        member = await world.member()
        async with running(member):
            await member.follow_until("trained", round=2)
        before = member.context.state.rounds
        first = member.recording.read_bytes()
    async with run_world.World(tmp_path) as world:
        member = await world.member()
        async with running(member):
            await member.follow_until("validated", round=run_world.ROUNDS)
        # The newest update may be done once more; that must give the same parameters.
        applied = {(line["round"], line["digest"]) for line in member.lines("applied")}
        assert sorted(number for number, _ in applied) == [1, 2, 3]
        assert before.at in member.context.state.rounds.chain
    assert old_recording(member.recording).read_bytes() == first
    assert member.recording.read_bytes() != first


async def test_restart_in_a_finished_run_is_done_and_shows_what_it_showed(tmp_path) -> None:
    async with run_world.World(tmp_path) as world:
        member = await world.member()
        async with running(member):
            await member.follow_until("validated", round=run_world.ROUNDS)
            member.context.facts.sent_bytes["payload"] += 5  # as if another had asked for one
        before = run_status(member.context, 0.0)
    (member.folder / "events.jsonl").unlink()
    async with run_world.World(tmp_path) as world:
        member = await world.member()
        async with running(member):
            await member.follow_until("phase", phase="done")
            after = run_status(member.context, 0.0)
    assert [line["phase"] for line in member.lines("phase")][-1] == "done"
    assert {"observing", "waiting", "training"}.isdisjoint(
        line["phase"] for line in member.lines("phase")
    )
    assert before.finished and after.finished
    assert before.val_loss != before.val_loss_start
    for name in ("val_loss", "val_loss_start", "loss", "payload_bytes_sent", "state_digest"):
        assert getattr(after, name) == getattr(before, name) != 0
    assert after.round.round == run_world.ROUNDS


async def test_pause_holds_over_a_restart_and_resuming_trains_on(tmp_path) -> None:
    async with run_world.World(tmp_path) as world:
        member = await world.member()
        async with running(member):
            await member.follow_until("phase", phase="training", round=2)
            await member.session.pause(True)
            assert member.context.state.rounds.phase is Phase.PAUSED
        (member.folder / "events.jsonl").unlink()
    async with run_world.World(tmp_path) as world:
        member = await world.member()
        async with running(member):
            await member.follow_until("phase", phase="paused")
            reply = await member.session.ask(lambda n: cp.Evaluate(request=n))  # still answers
            assert reply.loss > 0
            assert member.lines("phase")[-1]["phase"] == "paused"
            await member.session.pause(False)
            await member.follow_until("validated", round=run_world.ROUNDS)


async def test_run_that_cannot_start_says_why_and_leaves_no_process(world, tmp_path) -> None:
    member = await world.member()
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(ConfigError, match="SK-DAT-001"):
        await member.session.start()
    await member.session.close()
    assert children() == {}


async def test_session_that_started_but_never_ran_ends_its_process(world) -> None:
    member = await world.member()
    await member.session.start()
    (process,) = children()
    await member.session.close()
    assert not process.is_running()


async def test_user_is_told_while_there_is_no_compute_process(world) -> None:
    member = await world.member()
    with pytest.raises(ComputeError, match="SK-CMP-001"):
        await member.session.ask(lambda n: cp.Evaluate(request=n))


async def test_recording_that_ends_is_said_once_and_the_run_goes_on(world, monkeypatch) -> None:
    member = await world.member()
    monkeypatch.setattr(member.session._recorder, "_max_bytes", 4000)
    async with running(member):
        await member.follow_until("validated", round=run_world.ROUNDS)
    told = [line["text"] for line in member.lines("warning")]
    assert told == ["events are no longer recorded: it has reached its limit of 4000 bytes"]
    assert member.recording.stat().st_size < 4100
