"""Carrying out actions: what is asked of the compute process, kept, sent, fetched; what follows.

Other members are real doors over a network in memory; only the compute process is pretended,
since its answers are what a test chooses.
"""

import asyncio
import errno
import os
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import event_strategies
import pytest
import run_world

from skerry.node.net.call_deadlines import Bounds
from skerry.node.net.fetch import Fetcher
from skerry.node.run import chain_file, loading, talking
from skerry.node.run.effects import Effects
from skerry.node.run.state import Unreachable
from skerry.protocol import compute as cp
from skerry.protocol.codec import open_envelope, sign_message
from skerry.protocol.errors import ComputeError, StateError
from skerry.protocol.ids import Address, CommitHash, PeerId
from skerry.protocol.layout import layout_of
from skerry.protocol.messages import (
    Announce,
    Commit,
    Finding,
    Judgement,
    ShardPayload,
    ShardState,
)
from skerry.protocol.moments import GiveMoments, Moments, MomentsGiven, ShardMoments
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev

PARENT = CommitHash("1" * 64)
DIGEST = "2" * 64
SHARDS = (ShardPayload("embed", Address("3" * 64), 17),)


def state_at(addresses: list[Address]) -> ev.LocalState:
    """Return a state whose shards lie there."""
    return ev.LocalState(DIGEST, tuple(ShardPayload("embed", one, 1) for one in addresses))


class Compute:
    """Stands for a ComputeProcess: keeps what it is asked, answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[cp.Request] = []
        self.futures: list[asyncio.Future] = []
        self.told: list[cp.Request] = []
        self.was_asked, self.killed = asyncio.Event(), asyncio.Event()

    def submit(self, build):
        future = asyncio.get_running_loop().create_future()
        self.asked.append(build(len(self.asked) + 1))
        self.futures.append(future)
        self.was_asked.set()
        return future

    def tell(self, request) -> None:
        self.told.append(request)

    async def kill(self) -> None:
        self.killed.set()

    def answer(self, kind, **fields) -> None:
        """Answer the newest request."""
        self.futures[-1].set_result(kind(request=len(self.asked), **fields))

    def fail(self, error) -> None:
        self.futures[-1].set_exception(error)


class Edge:
    """The effects of one member, with a pretended compute process."""

    def __init__(self, member, group) -> None:
        self.member, self.context = member, member.context
        context = self.context
        self.hosted: list[cp.Hosting | None] = []
        fetcher = Fetcher(
            context.client, context.blobs, context.run_id, context.refuse, Bounds(5.0, 5.0)
        )
        self.effects = Effects(context, member.session.peers, fetcher, group, self.hosted.append)
        self.compute = self.effects.compute = Compute()

    def do(self, *actions) -> None:
        for action in actions:
            self.effects.execute(action)

    async def written(self) -> None:
        """Wait until the disk has done what was asked so far."""
        await self.effects.disk._begin(lambda: None)

    def only(self, event: str) -> dict:
        (line,) = self.member.lines(event)
        return {key: value for key, value in line.items() if key not in ("time", "event")}


@asynccontextmanager
async def edge_of(member):
    group = asyncio.TaskGroup()
    async with group:
        edge = Edge(member, group)
        try:
            yield edge
            await edge.effects.disk.close()
        finally:
            for task in list(group._tasks):
                task.cancel()


@pytest.fixture
async def edge(world):
    async with edge_of(await world.member()) as edge:
        yield edge


@pytest.fixture
async def other(world, edge):
    """A second member; both have admitted each other."""
    other = await world.member(2)
    edge.member.knows(other)
    other.knows(edge.member)
    await edge.context.transport.connect(other.peer_id, ())
    await other.context.transport.connect(edge.member.peer_id, ())
    edge.member.session.peers._greeted.add(other.peer_id)
    edge.context.state.rounds.alive = {other.peer_id}
    return other


def payloads(member) -> tuple[ShardPayload, ...]:
    """Put something into a member's blob store for each shard of the model."""
    found = []
    for number, spec in enumerate(layout_of(member.context.manifest.model)):
        data = bytes([number]) * 50
        found.append(ShardPayload(spec.name, member.context.blobs.put(data), len(data)))
    return tuple(found)


def named(state) -> tuple[ShardState, ...]:
    return tuple(ShardState(shard.shard, shard.address) for shard in state.shards)


def announce(member, shards=SHARDS, loss=1.5) -> Announce:
    return Announce(member.context.run_id, 1, PARENT, (), 64, 32, loss, shards)


class TestCompute:
    async def test_requests_are_sent_in_the_order_of_the_actions(self, edge) -> None:
        contributions = (cp.Contribution("p", 32, SHARDS),)
        verdicts = (cp.Verdict(PARENT, True),)
        edge.do(
            act.LoadState(None, None, ()),
            act.LoadState(DIGEST, ev.LocalState(DIGEST, SHARDS), ()),
            act.Train(3, PARENT, 40, 1, 2),
            act.Encode(PARENT, send=True),
            act.Apply(CommitHash("4" * 64), 3, contributions, 0.7),
            act.Settle(verdicts),
            act.Evaluate(3),
        )
        steps = edge.context.manifest.inner.steps
        assert edge.compute.asked == [
            cp.Begin(request=1, shards=None),
            cp.Begin(request=2, shards=SHARDS),
            cp.Train(
                request=3, round=3, parent=PARENT, cursor=40, slot=1, num_slots=2, steps=steps
            ),
            cp.Encode(request=4, parent=PARENT, send=True),
            cp.Apply(request=5, round=3, contributions=contributions, outer_lr=0.7),
            cp.Settle(request=6, verdicts=verdicts),
            cp.Evaluate(request=7),
        ]

    async def test_finish_names_the_training_that_runs(self, edge) -> None:
        edge.do(act.LoadState(None, None, ()), act.Train(1, PARENT, 0, 0, 1))
        edge.do(act.Evaluate(0), act.FinishTraining())
        assert edge.compute.told == [cp.Finish(request=2)]

    async def test_loaded_state_is_an_event(self, edge) -> None:
        edge.do(act.LoadState(None, None, ()))
        edge.compute.answer(cp.Ready, digest=DIGEST, shards=SHARDS)
        loaded = await edge.member.event(ev.StateLoaded)
        assert loaded == ev.StateLoaded(ev.LocalState(DIGEST, SHARDS))
        assert edge.context.facts.compute == "ready"

    async def test_training_is_an_event_and_a_line(self, edge) -> None:
        edge.do(act.Train(3, PARENT, 0, 0, 1))
        assert (edge.context.facts.compute, edge.context.facts.step) == ("training", 0)
        edge.compute.answer(cp.Trained, steps=2, round_tokens=128, loss=2.34567)
        assert await edge.member.event(ev.Trained) == ev.Trained(PARENT)
        assert edge.only("trained") == {"round": 3, "steps": 2, "loss": 2.3457}

    async def test_encoded_contribution_can_be_asked_for(self, edge) -> None:
        edge.do(act.Encode(PARENT, send=True))
        fields = {"parent": PARENT, "text_tokens": 64, "round_tokens": 32, "loss": 1.5}
        edge.compute.answer(cp.Encoded, **fields, shards=SHARDS, norms=(0.5,))
        encoded = await edge.member.event(ev.Encoded)
        assert encoded == ev.Encoded(PARENT, 64, 32, 1.5, SHARDS, norms=(0.5,))
        assert edge.context.served == {SHARDS[0].address: (SHARDS[0], False)}

    async def test_applied_update_is_an_event_with_those_who_were_rejected(self, edge) -> None:
        edge.context.facts.warning = "something of before"
        edge.do(act.Apply(CommitHash("4" * 64), 3, ()))
        assert edge.context.facts.compute == "applying"
        judgements = (Judgement(PeerId("p"), 0, "size"),)
        edge.compute.answer(cp.Applied, digest=DIGEST, shards=SHARDS, judgements=judgements)
        applied = await edge.member.event(ev.Applied)
        state = ev.LocalState(DIGEST, SHARDS)
        assert applied == ev.Applied(CommitHash("4" * 64), state, judgements)
        assert edge.only("applied") == {"round": 3, "digest": DIGEST, "contributions": 0}
        assert (edge.context.facts.compute, edge.context.facts.warning) == ("ready", "")

    async def test_contribution_that_was_tried_is_an_event(self, edge) -> None:
        contribution = cp.Contribution(PeerId("p"), 32, SHARDS)
        edge.do(act.Try(CommitHash("4" * 64), 3, contribution, 0.5))
        edge.compute.answer(cp.Tried, gain=-0.25)
        tried = await edge.member.event(ev.Tried)
        assert tried == ev.Tried(CommitHash("4" * 64), PeerId("p"), -0.25)
        assert edge.only("tried") == {"round": 3, "peer": "p", "gain": -0.25}

    async def test_validation_loss_is_measured(self, edge) -> None:
        edge.do(act.Evaluate(5))
        edge.compute.answer(cp.Evaluated, loss=4.25)
        await edge.member.follow_until("validated", round=5, loss=4.25)
        assert edge.context.facts.validated_round == 5
        await edge.written()
        assert edge.context.store.load_facts().val_loss == 4.25

    async def test_figures_are_kept_after_each_round(self, edge) -> None:
        edge.context.facts.sent_bytes["payload"] = 7
        edge.do(act.Apply(CommitHash("4" * 64), 3, ()))
        edge.compute.answer(cp.Applied, digest=DIGEST, shards=SHARDS, judgements=())
        await edge.member.event(ev.Applied)
        await edge.written()
        assert edge.context.store.load_facts().sent_bytes == {"payload": 7}

    async def test_validation_loss_that_fails_is_said_and_no_more(self, edge) -> None:
        edge.do(act.Evaluate(5))
        edge.compute.fail(ComputeError("SK-CMP-002", "no"))
        line = await edge.member.follow_until("warning")
        assert "no validation loss" in line["text"]
        assert not edge.compute.killed.is_set()

    async def test_other_failure_ends_the_process_and_says_why(self, edge) -> None:
        edge.do(act.Apply(CommitHash("4" * 64), 3, ()))
        edge.compute.fail(ComputeError("SK-CMP-002", "it does not add up"))
        await edge.compute.killed.wait()
        failed = edge.only("compute-failed")
        assert failed["error"] == "SK-CMP-002: it does not add up"
        assert failed["fix"]
        assert edge.context.facts.warning == failed["error"]

    async def test_failure_of_a_process_that_is_gone_is_no_news(self, edge) -> None:
        edge.do(act.Train(1, PARENT, 0, 0, 1))
        before, edge.effects.compute = edge.compute, None
        before.fail(ComputeError("SK-CMP-001", "it ended"))
        await edge.written()
        assert not before.killed.is_set()
        assert edge.member.lines("compute-failed") == []

    async def test_nothing_is_asked_while_there_is_no_process(self, edge) -> None:
        edge.effects.compute = None
        edge.do(act.Train(1, PARENT, 0, 0, 1), act.FinishTraining(), act.Evaluate(1))
        assert edge.compute.asked == edge.compute.told == []


class TestDisk:
    async def test_commits_and_states_are_kept_in_order(self, edge) -> None:
        commits = event_strategies.signed(Commit)
        states = tuple(ev.LocalState(c * 64, SHARDS) for c in "ab")
        edge.do(act.StoreCommits((commits[0],)), act.StoreCommits(tuple(commits[1:3])))
        edge.do(act.StoreStates(states[:1]), act.StoreStates(states))
        await edge.written()
        assert edge.context.store.chain.load() == tuple(commits[:3])
        assert edge.context.store.load_states() == states
        assert edge.context.served == {SHARDS[0].address: (SHARDS[0], True)}

    async def test_blobs_go_at_once_and_what_comes_after_stays(self, edge) -> None:
        blobs = edge.context.blobs
        kept, dropped = blobs.put(b"kept"), blobs.put(b"dropped")
        edge.context.served = {a: (SHARDS[0], False) for a in (kept, dropped)}
        edge.do(act.Retain(frozenset([kept])))
        assert [blobs.size(kept), blobs.size(dropped)] == [4, None]
        assert set(edge.context.served) == {kept}
        blobs.put(b"dropped")  # decided later, so it must survive whatever the thread still does
        await edge.written()
        assert blobs.read(dropped) == b"dropped"
        assert len(list((edge.member.folder / "run" / "blobs").iterdir())) == 2

    async def test_full_disk_is_said_and_the_run_goes_on(self, edge, monkeypatch) -> None:
        def no_space(number: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_space)
        edge.do(act.StoreStates(()))
        line = await edge.member.follow_until("disk")
        assert "SK-DSK-001" in line["error"] == edge.context.facts.warning
        monkeypatch.undo()
        edge.do(act.StoreStates((ev.LocalState(DIGEST, SHARDS),)))
        await edge.written()
        assert len(edge.context.store.load_states()) == 1

    async def test_commits_that_a_full_disk_refused_are_written_before_later_ones(
        self, edge, monkeypatch
    ) -> None:
        def no_space(*_: object) -> int:
            raise StateError("SK-DSK-001", "no space left")

        first, second, third, *_ = event_strategies.signed(Commit)
        monkeypatch.setattr(chain_file, "append", no_space)
        edge.do(act.StoreCommits((first,)), act.StoreCommits((second,)))
        await edge.member.follow_until("disk")
        await edge.written()
        monkeypatch.undo()
        edge.do(act.StoreCommits((third,)))
        await edge.written()
        assert edge.context.store.chain.load() == (first, second, third)

    async def test_commits_that_a_full_disk_refused_are_written_in_the_end(
        self, world, monkeypatch
    ) -> None:
        def no_space(*_: object) -> int:
            raise StateError("SK-DSK-001", "no space left")

        member = await world.member()
        commit, *_ = event_strategies.signed(Commit)
        async with edge_of(member) as edge:
            monkeypatch.setattr(chain_file, "append", no_space)
            edge.do(act.StoreCommits((commit,)))
            await edge.written()
            monkeypatch.undo()
        assert member.context.store.chain.load() == (commit,)

    async def test_a_state_that_somebody_is_getting_stays(self, edge) -> None:
        blobs = edge.context.blobs
        old = [blobs.put(bytes([number])) for number in range(2)]
        edge.do(act.StoreStates((state_at(old),)), act.Retain(frozenset(old)))
        edge.context.leases.asked(old[0], time.monotonic())
        new = [blobs.put(b"new")]
        edge.do(act.StoreStates((state_at(new),)), act.Retain(frozenset(new)))
        assert [blobs.size(address) for address in (*old, *new)] == [1, 1, 3]
        assert set(edge.context.served) == {*old, *new}

    async def test_what_was_decided_is_written_even_if_the_run_ends(self, world) -> None:
        member = await world.member()
        commits = {commit.hash: commit for commit in event_strategies.signed(Commit)}.values()
        async with edge_of(member) as edge:
            for commit in commits:
                edge.do(act.StoreCommits((commit,)))
        assert member.context.store.chain.load() == tuple(commits)

    async def test_event_loop_goes_on_while_the_disk_is_slow(self, edge, monkeypatch) -> None:
        slow, reached = asyncio.Event(), asyncio.Event()
        loop, real = asyncio.get_running_loop(), os.fsync

        def fsync(number: int) -> None:
            loop.call_soon_threadsafe(reached.set)
            asyncio.run_coroutine_threadsafe(slow.wait(), loop).result()
            real(number)

        monkeypatch.setattr(os, "fsync", fsync)
        edge.do(act.StoreStates(()), act.PublishAnnounce(announce(edge.member)))
        await reached.wait()  # the loop runs, or this would never come
        assert edge.context.events.empty()
        slow.set()
        await edge.member.event(ev.AnnounceReceived)


class TestTalk:
    async def test_announcement_is_durable_before_anyone_hears_of_it(self, edge, other) -> None:
        edge.do(act.PublishAnnounce(announce(edge.member, loss=0.1)))
        own = (await edge.member.event(ev.AnnounceReceived)).announce
        assert edge.context.store.load_own() == (own,)
        assert own.signer == edge.member.peer_id
        assert (await other.event(ev.AnnounceReceived)).announce == own
        # What we decide upon is what the others read: 0.1 is rounded on the wire.
        assert own == open_envelope(own.envelope)

    async def test_announcement_that_does_not_fit_on_the_disk_is_sent_later(
        self, edge, other, monkeypatch
    ) -> None:
        monkeypatch.setattr(talking, "DISK_RETRY_SECONDS", 0.05)
        failures = iter([True, True, False])
        real = os.fsync

        def fsync(number: int) -> None:
            if next(failures, False):  # later ones are of the folder
                raise OSError(errno.ENOSPC, "No space left on device")
            real(number)

        monkeypatch.setattr(os, "fsync", fsync)
        edge.context.state.rounds.at = PARENT
        edge.do(act.PublishAnnounce(announce(edge.member)))
        own = (await edge.member.event(ev.AnnounceReceived)).announce
        assert len(edge.member.lines("disk")) == 2
        monkeypatch.undo()
        assert edge.context.store.load_own() == (own,)

    async def test_announcement_that_no_longer_matters_is_not_sent(self, edge, monkeypatch) -> None:
        monkeypatch.setattr(talking, "DISK_RETRY_SECONDS", 0.01)
        attempts = []

        def no_space(number: int) -> None:
            attempts.append(number)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_space)
        edge.do(act.PublishAnnounce(announce(edge.member)))  # not upon where the node stands
        await edge.member.follow_until("disk")
        await asyncio.gather(*[t for t in edge.effects._group._tasks if t is not None])
        assert len(attempts) == 1
        assert edge.context.events.empty()

    async def test_commit_comes_back_signed_and_goes_to_the_others(self, edge, other) -> None:
        (commit, *_) = event_strategies.signed(Commit)
        run_id = edge.context.run_id
        edge.do(act.PublishCommit(replace(commit.message, run_id=run_id)))
        received = await edge.member.event(ev.CommitsReceived)
        assert received.source == edge.member.peer_id
        (signed,) = received.commits
        assert signed.signer == edge.member.peer_id
        assert (await other.event(ev.CommitsReceived)).commits == (signed,)
        assert edge.only("commit") == {"round": 0, "view": 0, "contributions": 0}

    async def test_finding_comes_back_signed_and_goes_to_the_others(self, edge, other) -> None:
        finding = Finding(edge.context.run_id, CommitHash("4" * 64), other.peer_id, -0.1)
        edge.do(act.PublishFinding(finding))
        mine = (await edge.member.event(ev.FindingReceived)).finding
        assert mine.signer == edge.member.peer_id
        assert mine.message.gain == pytest.approx(-0.1)
        assert (await other.event(ev.FindingReceived)).finding == mine

    async def test_broadcast_goes_to_those_named(self, edge, other) -> None:
        signed = sign_message(edge.context.signer, announce(edge.member))
        edge.do(act.Broadcast(signed.envelope, (other.peer_id,)))
        assert (await other.event(ev.AnnounceReceived)).announce == signed

    async def test_chain_that_is_asked_for_is_an_event(self, edge, other) -> None:
        edge.do(act.AskChain(other.peer_id, 0))
        received = await edge.member.event(ev.CommitsReceived)
        assert received == ev.CommitsReceived((), other.peer_id)

    async def test_peer_that_is_away_is_reported(self, edge, world) -> None:
        away = run_world.signer_of(3).peer_id
        edge.do(act.AskChain(away, 0))
        assert await edge.member.event(Unreachable) == Unreachable(away)

    async def test_peer_that_refuses_is_counted(self, edge, other) -> None:
        other.context.state.rounds.members.clear()
        edge.do(act.AskChain(other.peer_id, 0))
        await edge.member.follow_until("refused", peer=other.peer_id)
        assert sum(edge.context.facts.refused.values()) == 1

    async def test_refusals_notes_and_warnings_are_written_down(self, edge) -> None:
        edge.do(act.Refuse("p", "stale-round"), act.Note(False, "a note"))
        assert edge.context.facts.warning == ""
        edge.do(act.Note(True, "a warning"))
        assert edge.context.facts.refused == {"stale-round": 1}
        assert edge.only("refused") == {"peer": "p", "reason": "stale-round", "detail": ""}
        assert edge.only("note") == {"text": "a note"}
        assert edge.only("warning") == {"text": "a warning"}
        assert edge.context.facts.warning == "a warning"


class TestCheck:
    async def test_contribution_is_fetched_decoded_and_offered(self, edge, other) -> None:
        shards = payloads(other)
        signed = sign_message(other.context.signer, announce(other, shards))
        edge.do(act.Check(signed, signed.message.shards))
        await edge.compute.was_asked.wait()
        (request,) = edge.compute.asked
        assert request == cp.Validate(request=1, author=other.peer_id, shards=shards)
        assert all(edge.context.blobs.size(s.address) == s.size for s in shards)
        edge.compute.answer(cp.Validated, author=other.peer_id, reason="indices")
        assert await edge.member.event(ev.Checked) == ev.Checked(signed.hash, "indices")
        assert set(edge.context.served) == {shard.address for shard in shards}

    async def test_payload_that_nobody_has_is_unavailable(self, edge, other) -> None:
        shards = tuple(replace(s, address=Address("e" * 64)) for s in payloads(other))
        signed = sign_message(other.context.signer, announce(other, shards))
        edge.do(act.Check(signed, signed.message.shards))
        assert await edge.member.event(ev.Checked) == ev.Checked(signed.hash, "unavailable")
        assert edge.compute.asked == []

    async def test_payload_that_is_announced_too_large_is_not_fetched(self, edge, other) -> None:
        first, *rest = payloads(other)
        signed = sign_message(
            other.context.signer, announce(other, (replace(first, size=10**9), *rest))
        )
        edge.do(act.Check(signed, signed.message.shards))
        assert await edge.member.event(ev.Checked) == ev.Checked(signed.hash, "size")
        assert edge.context.blobs.size(first.address) is None

    async def test_without_a_compute_process_it_cannot_be_checked_now(self, edge, other) -> None:
        edge.effects.compute = None
        signed = sign_message(other.context.signer, announce(other, payloads(other)))
        edge.do(act.Check(signed, signed.message.shards))
        assert await edge.member.event(ev.Checked) == ev.Checked(signed.hash, "unavailable")


class TestGather:
    def gather(self, *contributions, holders=()) -> act.Gather:
        return act.Gather(CommitHash("4" * 64), contributions, holders)

    async def test_payloads_come_from_the_author_or_any_holder(self, edge, other) -> None:
        shards = payloads(other)
        away = run_world.signer_of(3).peer_id
        contribution = cp.Contribution(away, 32, shards)
        edge.do(self.gather(contribution, holders=(edge.member.peer_id, other.peer_id)))
        gathered = await edge.member.event(ev.Gathered)
        assert gathered == ev.Gathered(CommitHash("4" * 64), complete=True)
        assert all(edge.context.blobs.size(s.address) == s.size for s in shards)

    @pytest.mark.parametrize("alive", [True, False])
    async def test_an_author_that_is_not_live_is_asked_last(self, edge, alive) -> None:
        asked: list[tuple[PeerId, ...]] = []

        async def note(shards, holders) -> str:
            asked.append(holders)
            return ""

        edge.effects._payloads.fetch = note
        author, live = PeerId("author"), (PeerId("x"), PeerId("y"))
        everyone = (*live, author) if alive else live
        edge.do(self.gather(cp.Contribution(author, 32, ()), holders=everyone))
        await edge.member.event(ev.Gathered)
        (holders,) = asked
        assert holders[0 if alive else -1] == author

    async def test_nothing_to_gather_is_complete(self, edge) -> None:
        edge.do(self.gather())
        assert (await edge.member.event(ev.Gathered)).complete

    async def test_payload_that_is_missing_leaves_it_incomplete(self, edge, other) -> None:
        shards = tuple(replace(s, address=Address("e" * 64)) for s in payloads(other))
        edge.do(self.gather(cp.Contribution(other.peer_id, 32, shards)))
        assert not (await edge.member.event(ev.Gathered)).complete

    async def test_peer_that_hangs_is_given_up_after_the_grace(self, edge, other) -> None:
        async def hang(wanted) -> None:
            await asyncio.Event().wait()

        edge.effects._payloads._fetcher.fetch_all = hang
        section = edge.context.manifest.round.model_copy(update={"grace": 0.1})
        edge.context.manifest = edge.context.manifest.model_copy(update={"round": section})
        edge.do(self.gather(cp.Contribution(other.peer_id, 32, payloads(other))))
        assert not (await edge.member.event(ev.Gathered)).complete


class TestDownload:
    async def test_state_is_fetched_and_loaded(self, edge, other) -> None:
        state = other.put_state()
        edge.do(act.LoadState(state.digest, None, (other.peer_id,), named(state)))
        downloaded = await edge.member.follow_until("state-downloaded", digest=state.digest)
        await edge.compute.was_asked.wait()
        assert edge.compute.asked == [cp.Begin(request=1, shards=state.shards)]
        size = sum(shard.size for shard in state.shards)
        assert edge.context.facts.received_bytes["state"] == size
        assert other.context.facts.sent_bytes["state"] == size
        assert downloaded["sources"] == {other.peer_id: size}
        edge.compute.answer(cp.Ready, digest=state.digest, shards=state.shards)
        lacking = await edge.member.follow_until("moments")
        assert (lacking["taken"], lacking["source"], lacking["givers"]) == (False, "none", [])

    async def test_moments_that_a_source_offers_come_with_the_state(self, edge, other) -> None:
        state = other.put_state()
        given = tuple(
            ShardMoments(ShardPayload(s.shard, other.context.blobs.put(data), s.size), 7)
            for s in state.shards
            for data in [b"m" * s.size]
        )

        async def give_moments() -> Moments:
            return given

        other.context.give_moments = give_moments
        load = act.LoadState(state.digest, None, (other.peer_id,), named(state))
        edge.do(load)
        await edge.compute.was_asked.wait()
        assert edge.compute.asked == [cp.Begin(request=1, shards=state.shards, moments=given)]
        assert all(edge.context.blobs.size(one.payload.address) for one in given)
        ready = {"digest": state.digest, "shards": state.shards, "has_moments": True}
        edge.compute.answer(cp.Ready, **ready)
        taken = await edge.member.follow_until("moments")
        assert (taken["taken"], taken["source"]) == (True, "peers")
        assert taken["givers"] == [other.peer_id]
        edge.compute.was_asked.clear()
        edge.do(load)  # now it has its own: it heals with these
        await edge.compute.was_asked.wait()
        assert edge.compute.asked[1:] == [cp.Begin(request=2, shards=state.shards)]

    async def test_who_has_them_from_its_disk_asks_nobody_while_they_are_near(
        self, edge, other
    ) -> None:
        asked = 0

        async def give_moments() -> Moments:
            nonlocal asked
            asked += 1
            return ()

        other.context.give_moments = give_moments
        own, state = edge.member.put_state(), other.put_state()
        edge.do(act.LoadState(own.digest, own, ()))
        await edge.compute.was_asked.wait()
        ready = {"digest": own.digest, "shards": own.shards, "has_moments": True}
        edge.compute.answer(cp.Ready, **ready, is_restored=True)
        taken = await edge.member.follow_until("moments")
        assert (taken["taken"], taken["source"], taken["givers"]) == (True, "own disk", [])
        download = act.LoadState(state.digest, None, (other.peer_id,), named(state))
        edge.compute.was_asked.clear()
        edge.do(download)
        await edge.compute.was_asked.wait()
        assert asked == 0
        process, number = edge.effects._loading._seasoned
        far = number - edge.context.manifest.round.replay - 1
        edge.effects._loading._seasoned = (process, far)
        edge.compute.was_asked.clear()
        edge.do(download)
        await edge.compute.was_asked.wait()
        assert asked == 1

    async def test_moments_of_another_size_are_not_fetched(self, edge, other) -> None:
        state = other.put_state()
        huge = ShardPayload(state.shards[0].shard, Address("e" * 64), 2**40)

        async def give_moments() -> Moments:
            return (ShardMoments(huge, 7),)

        other.context.give_moments = give_moments
        edge.do(act.LoadState(state.digest, None, (other.peer_id,), named(state)))
        await edge.compute.was_asked.wait()
        assert edge.compute.asked == [cp.Begin(request=1, shards=state.shards)]

    async def test_moments_that_do_not_come_keep_nobody_from_training(
        self, edge, other, monkeypatch
    ) -> None:
        state, asked = other.put_state(), asyncio.Event()

        async def give_moments() -> Moments:
            asked.set()
            return await asyncio.Future()

        other.context.give_moments = give_moments
        monkeypatch.setattr(loading, "_MOMENTS_S", 0.5)
        edge.do(act.LoadState(state.digest, None, (other.peer_id,), named(state)))
        await asked.wait()
        await edge.compute.was_asked.wait()
        assert edge.compute.asked == [cp.Begin(request=1, shards=state.shards)]

    async def test_moments_are_written_once_a_round_and_kept_for_who_asked(self, edge) -> None:
        first = asyncio.create_task(edge.context.give_moments())
        second = asyncio.create_task(edge.context.give_moments())
        await edge.compute.was_asked.wait()
        assert edge.compute.asked == [GiveMoments(request=1)]
        address = edge.context.blobs.put(b"moments")
        given = (ShardMoments(ShardPayload("embed", address, 7), 3),)
        edge.compute.answer(MomentsGiven, moments=given)
        assert await first == await second == given
        assert len(edge.compute.asked) == 1
        rounds = edge.context.state.rounds
        kept = edge.context.given.addresses
        assert kept(rounds.round + 2) == {address}
        edge.do(act.StoreStates(()), act.Retain(frozenset()))
        assert edge.context.blobs.size(address) == 7
        assert kept(rounds.round + 3) == frozenset()

    async def test_next_holder_is_asked_when_one_is_away_and_one_has_nothing(
        self, edge, world, other
    ) -> None:
        away, empty = run_world.signer_of(9).peer_id, await world.member(3)
        empty.knows(edge.member)
        await edge.context.transport.connect(empty.peer_id, ())
        state = other.put_state()
        holders = (away, empty.peer_id, other.peer_id)
        edge.do(act.LoadState(state.digest, None, holders, named(state)))
        await edge.member.follow_until("state-downloaded", digest=state.digest)
        assert other.context.facts.sent_bytes["state"] == sum(s.size for s in state.shards)

    async def test_only_the_shards_that_are_missing_are_fetched(self, edge, other) -> None:
        state = other.put_state()
        kept = edge.member.put_state().shards[:2]
        edge.context.blobs.set_aside(frozenset(shard.address for shard in kept))
        wanted = named(state)[1:]
        edge.do(act.LoadState(state.digest, None, (other.peer_id,), wanted))
        await edge.member.follow_until("state-downloaded", digest=state.digest)
        await edge.compute.was_asked.wait()
        assert edge.compute.asked == [cp.Begin(request=1, shards=state.shards[1:])]
        size = sum(shard.size for shard in state.shards[2:])
        assert edge.context.facts.received_bytes["state"] == size

    async def test_state_that_nobody_has_fails(self, edge, other) -> None:
        nowhere = (ShardState("embed", Address("e" * 64)),)
        edge.do(act.LoadState("e" * 64, None, (other.peer_id,), nowhere))
        assert await edge.member.event(ev.StateFailed) == ev.StateFailed("e" * 64)
        assert edge.compute.asked == []

    async def test_what_an_ended_process_waited_for_does_not_fail_its_successor(
        self, edge, other
    ) -> None:
        nowhere = (ShardState("embed", Address("e" * 64)),)
        edge.do(act.LoadState("e" * 64, None, (other.peer_id,), nowhere))
        await asyncio.sleep(0)  # the download has begun
        edge.effects.compute = None  # the process has ended, and its successor is not up yet
        edge.do(act.LoadState("f" * 64, None, (other.peer_id,), nowhere))
        assert await edge.member.event(ev.StateFailed) == ev.StateFailed("f" * 64)

    async def test_state_damaged_on_this_disk_fails_and_not_the_process(self, edge) -> None:
        state = edge.member.put_state()
        edge.do(act.LoadState(state.digest, state, ()))
        await edge.compute.was_asked.wait()
        edge.compute.fail(StateError("SK-DSK-002", "blob eeee was damaged on disk"))
        assert await edge.member.event(ev.StateFailed) == ev.StateFailed(state.digest)
        assert not edge.compute.killed.is_set()

    async def test_full_disk_at_the_begin_ends_the_process(self, edge) -> None:
        state = edge.member.put_state()
        edge.do(act.LoadState(state.digest, state, ()))
        await edge.compute.was_asked.wait()
        edge.compute.fail(StateError("SK-DSK-001", "no space"))
        await edge.compute.killed.wait()

    async def test_state_is_not_put_under_a_process_that_came_later(self, edge, other) -> None:
        state = other.put_state()
        edge.do(act.LoadState(state.digest, None, (other.peer_id,), named(state)))
        await asyncio.sleep(0)
        later = edge.effects.compute = Compute()
        await edge.member.follow_until("state-downloaded", digest=state.digest)
        assert edge.compute.asked == later.asked == []
