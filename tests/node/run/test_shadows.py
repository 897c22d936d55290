"""Stale copies of stages: from the host that the plan names to its holder, and back to a healer.

Doors, stores, streams and encoders are those of daemons; the network between them is in memory.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_world import OWNER, PATIENCE_S, Member, World, made_up_state, record_of

from skerry.node.net.rpc_errors import translate
from skerry.node.run.disk import DiskWriter
from skerry.node.run.payloads import Payloads
from skerry.node.run.shadow_finding import ShadowFinder
from skerry.node.run.shadow_sending import ShadowSender
from skerry.node.run.shadow_store import ShadowStore
from skerry.pipeline.shards import flatten_shard, from_bytes, initial_shard, to_bytes
from skerry.pipeline.stage_exchange import StageExchange
from skerry.proto import peer_pb2 as pb
from skerry.protocol import compute as cp
from skerry.protocol.blobs import PartialBlob
from skerry.protocol.chunk_tree import CHUNK_BYTES
from skerry.protocol.codec import envelope_to_pb, sign_message
from skerry.protocol.errors import ComputeError, PeerUnavailable
from skerry.protocol.ids import Address, CommitHash, content_hash
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import RecoverySection
from skerry.protocol.messages import Commit, ShadowCopy, ShardPayload, SignedShadow
from skerry.protocol.quota import FALSE_STATE
from skerry.protocol.rings import plan as wire
from skerry.protocol.shadows import BUSY, EARLY, NO_BASE, UNPLANNED, part_limit
from skerry.protocol.transport import SHADOW_PROTOCOL
from skerry.recovery.rebuild_request import Request, StaleCopy
from skerry.recovery.rebuilder import made
from skerry.recovery.shadow_survey import HeldShadow

BLOCK = "block.0"
STEPS = 4
"""Inner steps of a round; a copy is due after half of them."""


class Source:
    """The host of the only block: its compute process, asked in this one."""

    def __init__(self, member: Member, plan: wire.Plan) -> None:
        self.member, self.plan = member, plan
        context = member.context
        hosting = context.state.rounds.hosts.hosting_of(context.me)
        assert hosting is not None
        self.engine = StageExchange(
            context.manifest, context.blobs, context.store.own_shadows.parent, context.me, hosting
        )
        [self.spec] = [x for x in layout_of(context.manifest.model) if x.name == BLOCK]
        self.sender = ShadowSender(context, self._ask)
        self.asked: list[cp.Request] = []

    async def idle(self) -> None:
        """Wait until everything that is due has been sent, or been given up."""
        sending = self.sender._sending
        assert sending is not None
        async with asyncio.timeout(PATIENCE_S):
            await sending

    async def _ask(self, build: Callable[[int], cp.Request]) -> cp.Reply:
        request = build(len(self.asked))
        self.asked.append(request)
        return self.engine.shade(request)  # type: ignore[arg-type]

    def begin_round(self, number: int, shift: float) -> torch.Tensor:
        """Begin a round at the initial parameters plus something, and send what is due."""
        manifest = self.member.context.manifest
        values_N = initial_shard(manifest.seed, self.spec, manifest.model.layers) + shift
        data = to_bytes(values_N)
        shard = ShardPayload(BLOCK, self.member.context.blobs.put(data), len(data))
        self.engine.begin(cp.Begin(request=0, shards=(shard,)))
        parent = self.member.context.state.rounds.at
        self.engine.open(cp.Open(request=0, round=number, parent=parent))
        self.sender.begin_round(self.plan, number)
        return values_N

    def train(self, number: int, step: int) -> torch.Tensor:
        """Let inner steps of the round change the parameters, and send what is due."""
        model = self.engine._host.model
        with torch.no_grad():
            for parameter in model.shard_tensors(self.spec):
                parameter[..., 0] += 0.25
        self.sender.stepped(number, step)
        return flatten_shard(model, self.spec)


class Swarm:
    """An origin that heals, the host of a block, and who keeps a copy of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *members: Member) -> None:
        healer, source, holder = members
        self.healer, self.source_member, self.holder = healer, source, holder
        for one in members:
            one.knows(*(other for other in members if other is not one))
        self.plan = _plan(healer, source, holder)
        for one in members:
            _stand_at(one, members, self.plan)
        self.source = Source(source, self.plan)
        self.changed = asyncio.Event()
        self._observe(monkeypatch)

    @property
    def kept(self) -> ShadowStore:
        return self.holder.context.store.shadows

    async def has(self, number: int, step: int = 0) -> ShadowCopy:
        """Wait until the holder has the copy of a round, or of a step of it."""
        while True:
            self.changed.clear()
            copy = self.kept.copies.get(BLOCK)
            if copy and (copy.message.round, copy.message.step) >= (number, step):
                return copy.message
            async with asyncio.timeout(PATIENCE_S):
                await self.changed.wait()

    async def begun(self) -> ShadowCopy:
        """Have the first round begin; return the copy of its start, after which nothing is sent."""
        self.source.begin_round(1, shift=0.0)
        start = await self.has(1)
        await self.source.idle()
        return start

    def _observe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let ``changed`` be set whenever something is kept, which a thread does."""
        keep, loop = self.kept.keep, asyncio.get_running_loop()

        def kept(copy: SignedShadow, last: PartialBlob, oldest: int) -> None:
            keep(copy, last, oldest)
            loop.call_soon_threadsafe(self.changed.set)

        monkeypatch.setattr(self.kept, "keep", kept)


def _plan(origin: Member, body: Member, spare: Member) -> wire.Plan:
    members = (wire.Member(origin.peer_id, (0,), 4), wire.Member(body.peer_id, (1,), 4))
    path = wire.Path((wire.Hop(0, (0,)), wire.Hop(1, (1,))), 2)
    return wire.Plan(
        version=0,
        microbatch_tokens=32,
        stages=(wire.Stage(("embed", "head")), wire.Stage((BLOCK,))),
        rings=(wire.Ring(members, (path,), 2),),
        spares=(spare.peer_id,),
        shadows=(wire.Shadow(1, body.peer_id, spare.peer_id),),
    )


def _stand_at(member: Member, members: tuple[Member, ...], plan: wire.Plan) -> None:
    """Let a member stand at a first commit that holds the plan."""
    rounds = member.context.state.rounds
    roster = tuple(sorted(one.peer_id for one in members[:2]))
    signers = {one.peer_id: one.context.signer for one in members}
    commit = Commit(
        run_id=member.context.run_id,
        round=0,
        view=0,
        parent=CommitHash(member.context.run_id),
        state=made_up_state(member.context.manifest),
        announces=(),
        roster=roster,
        admissions=tuple(
            record_of(signers[peer], member.context.manifest)
            for peer in roster
            if peer != OWNER.peer_id
        ),
        cursor=0,
        weight=0,
        plan=plan,
    )
    signed = sign_message(OWNER, commit)
    rounds.chain.add(signed)
    rounds.at = CommitHash(signed.hash)
    rounds.alive.update(one.peer_id for one in members)


@pytest.fixture
async def swarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Swarm]:
    async with World(tmp_path) as world:
        inner = world.manifest.inner.model_copy(update={"steps": STEPS})
        recovery = RecoverySection(shadow_every=STEPS // 2)
        world.manifest = world.manifest.model_copy(update={"inner": inner, "recovery": recovery})
        members = [await world.member(number) for number in (1, 2, 3)]
        for one in members:
            for other in (other for other in members if other is not one):
                await one.context.transport.connect(other.peer_id, ())
        made_up = Swarm(monkeypatch, *members)
        yield made_up
        await made_up.source.sender.close()


async def test_copies_go_out_as_differences_and_come_back_in_bf16(swarm: Swarm) -> None:
    swarm.source.begin_round(1, shift=0.0)
    first = await swarm.has(1)
    assert len(first.parts) == 1
    note = await swarm.source_member.follow_until("note")
    assert note["text"].endswith(f"keeps a copy of block.0 ({first.parts[0].size} bytes)")
    values_N = swarm.source.begin_round(2, shift=0.0)
    second = await swarm.has(2)
    assert second.parts[:1] == first.parts, "nothing is sent twice"
    assert second.parts[1].size < first.parts[0].size / 4, "nothing has changed in between"
    reopened = ShadowStore(swarm.kept.blobs.folder)
    assert reopened.copies == swarm.kept.copies, "it is there after a restart, too"
    assert torch.equal(await _healed(swarm), values_N.bfloat16().float())


async def test_within_a_round_its_steps_follow_in_the_place_of_those_before(swarm: Swarm) -> None:
    start = await swarm.begun()
    half_N = swarm.source.train(1, STEPS // 2)
    half = await swarm.has(1, STEPS // 2)
    assert (half.parts[:-1], half.at_start) == (start.parts, start)
    assert torch.equal(await _healed(swarm), half_N.bfloat16().float())
    await swarm.source.idle()
    all_N = swarm.source.train(1, STEPS)
    whole = await swarm.has(1, STEPS)
    assert whole.at_start == start and whole.parts[-1] != half.parts[-1]
    assert torch.equal(await _healed(swarm), all_N.bfloat16().float())
    assert not swarm.kept.blobs.path(half.parts[-1].address).exists()
    await swarm.source.idle()
    next_N = swarm.source.begin_round(2, shift=0.0)
    after = await swarm.has(2)
    assert (after.parts[:-1], after.step) == (start.parts, 0)
    assert torch.equal(await _healed(swarm), next_N.bfloat16().float())


async def test_steps_of_a_round_that_has_ended_or_diverged_are_not_copied(swarm: Swarm) -> None:
    source, start = swarm.source, await swarm.begun()
    source.train(0, STEPS)  # of an older round
    source.engine.begin(cp.Begin(request=0, shards=None))
    source.engine.open(
        cp.Open(request=0, round=2, parent=swarm.source_member.context.state.rounds.at)
    )
    source.train(1, STEPS)
    await source.idle()
    source.begin_round(2, shift=0.0)
    second = await swarm.has(2)
    await source.idle()
    with torch.no_grad():
        source.engine._host.model.shard_tensors(source.spec)[0].fill_(float("nan"))
    source.train(2, STEPS)
    await source.idle()
    assert swarm.kept.copies[BLOCK].message == second
    assert start.parts == second.parts[:-1]
    assert len(source.asked) == 4


async def test_where_the_holder_is_gone_few_copies_are_encoded_and_none_is_kept(
    swarm: Swarm,
) -> None:
    source, _ = swarm.source, await swarm.begun()
    files = set(swarm.source_member.context.store.own_shadows.iterdir())
    await swarm.holder.server.close()
    await swarm.holder.context.transport.close()
    for step in range(1, STEPS + 1):
        source.train(1, step)
        await source.idle()
    assert len(source.asked) == 1 + 2, "one in each half of the round"
    left = set(swarm.source_member.context.store.own_shadows.iterdir())
    assert left <= files, "what could not be sent is not kept"


async def test_after_a_restart_of_the_source_its_start_is_taken_in_the_same_round(
    swarm: Swarm,
) -> None:
    source, _ = swarm.source, await swarm.begun()
    source.train(1, STEPS)
    await swarm.has(1, STEPS)
    await source.idle()
    source.sender = ShadowSender(swarm.source_member.context, source._ask)
    source.begin_round(1, shift=0.0)
    await source.idle()
    assert swarm.kept.copies[BLOCK].message.step == 0
    await source.sender.close()


async def test_a_holder_that_lost_its_copy_gets_a_whole_one(swarm: Swarm) -> None:
    swarm.source.begin_round(1, shift=0.0)
    first = await swarm.has(1)
    swarm.kept.blobs.path(first.parts[0].address).unlink()
    values_N = swarm.source.begin_round(2, shift=0.5)
    assert len((await swarm.has(2)).parts) == 1
    assert torch.equal(await _healed(swarm), values_N.bfloat16().float())


async def test_what_is_not_due_is_not_even_encoded(swarm: Swarm) -> None:
    swarm.source.begin_round(1, shift=0.0)
    await swarm.has(1)
    await swarm.source_member.follow_until("note")
    swarm.source.sender.begin_round(swarm.plan, 1)
    swarm.source.begin_round(2, shift=0.0)
    await swarm.has(2)
    assert len(swarm.source.asked) == 2


async def _keeps_rubbish(swarm: Swarm, usual: ShadowCopy, data: bytes) -> None:
    """Have the holder keep something under the source's signature that is no copy."""
    part = ShardPayload(BLOCK, Address(content_hash(data)), len(data))
    last = swarm.kept.blobs.partial(part.address, part.size)
    last.append(data)
    copy = replace(usual, round=1, parts=(part,))
    signed = sign_message(swarm.source_member.context.signer, copy)
    await asyncio.to_thread(swarm.kept.keep, signed, last, 0)  # type: ignore[arg-type]


async def test_a_copy_that_is_none_is_not_used_a_second_time(swarm: Swarm, tmp_path: Path) -> None:
    finder = _finder(swarm)
    swarm.source.begin_round(1, shift=0.0)
    await _keeps_rubbish(swarm, await swarm.has(1), b"rubbish")
    [held] = await finder.find(swarm.healer.context.state.rounds.at, [BLOCK])
    assert await finder.fetch(held)
    assert made(_request(swarm, held)).unusable == (BLOCK,)
    finder.give_up(held)
    assert await finder.find(swarm.healer.context.state.rounds.at, [BLOCK]) == ()


async def test_bytes_that_a_holder_does_not_give_are_asked_for_a_few_times(swarm: Swarm) -> None:
    finder, at = _finder(swarm), swarm.healer.context.state.rounds.at
    swarm.source.begin_round(1, shift=0.0)
    copy = await swarm.has(1)
    [held] = await finder.find(at, [BLOCK])
    path = swarm.kept.blobs.path(copy.parts[0].address)
    elsewhere = path.rename(path.with_suffix(".away"))
    for _ in range(2):
        with pytest.raises(PeerUnavailable):
            await finder.fetch(held)
        assert await finder.find(at, [BLOCK]) == (held,)
    assert not await finder.fetch(held)
    assert await finder.find(at, [BLOCK]) == ()
    finder.forgive()
    elsewhere.rename(path)
    [held] = await finder.find(at, [BLOCK])
    assert await finder.fetch(held)


async def test_a_holder_that_is_only_doubted_is_waited_for(swarm: Swarm) -> None:
    """What it keeps may be all that is left."""
    finder, rounds = _finder(swarm), swarm.healer.context.state.rounds
    swarm.source.begin_round(1, shift=0.0)
    await swarm.has(1)
    rounds.alive.discard(swarm.holder.peer_id)
    rounds.suspects.add(swarm.holder.peer_id)
    with pytest.raises(PeerUnavailable, match="may come back"):
        await finder.find(rounds.at, [BLOCK])
    rounds.suspects.clear()
    assert await finder.find(rounds.at, [BLOCK]) == ()


async def test_a_signer_of_rubbish_is_named_and_its_holder_soon_asked_no_more(
    swarm: Swarm,
) -> None:
    finder, context = _finder(swarm), swarm.healer.context
    swarm.source.begin_round(1, shift=0.0)
    whole = await swarm.has(1)
    for number in range(3):  # each under another record
        await _keeps_rubbish(swarm, whole, b"rubbish %d" % number)
        [held] = await finder.find(context.state.rounds.at, [BLOCK])
        finder.condemn(held)
    assert context.facts.refused[FALSE_STATE] == 3
    assert await finder.find(context.state.rounds.at, [BLOCK]) == ()


async def test_a_holder_that_does_not_answer_is_asked_again_but_not_for_ever(swarm: Swarm) -> None:
    finder, at = _finder(swarm), swarm.healer.context.state.rounds.at
    await swarm.holder.server.close()
    await swarm.holder.context.transport.close()
    for _ in range(2):
        with pytest.raises(PeerUnavailable):
            await finder.find(at, [BLOCK])
    assert await finder.find(at, [BLOCK]) == ()


def _copy(swarm: Swarm, data: bytes, **changes: object) -> ShadowCopy:
    part = ShardPayload(BLOCK, Address(content_hash(data)), len(data))
    usual = ShadowCopy(swarm.healer.context.run_id, BLOCK, 1, (part,))
    return replace(usual, **changes)  # type: ignore[arg-type]


async def _push(sender: Member, holder: Member, copy: ShadowCopy, *pieces: bytes) -> str:
    signed = sign_message(sender.context.signer, copy)
    chunks = [pb.ShadowChunk(copy=envelope_to_pb(signed.envelope))]
    chunks += [pb.ShadowChunk(data=piece) for piece in pieces]
    with translate(holder.peer_id):
        stub = sender.context.client.stub(holder.peer_id, SHADOW_PROTOCOL)
        reply = await stub.Shadow(iter(chunks), timeout=PATIENCE_S)
    return str(reply.refused)


def _huge(swarm: Swarm) -> tuple[ShardPayload, ...]:
    [spec] = [x for x in layout_of(swarm.healer.context.manifest.model) if x.name == BLOCK]
    return (ShardPayload(BLOCK, Address("aa" * 32), part_limit(spec.numel) + 1),)


@pytest.mark.parametrize(
    ("changes", "pieces", "reason"),
    [
        (lambda swarm: {"parts": _huge(swarm)}, (b"data",), "size"),
        (lambda swarm: {"parts": ()}, (b"data",), "size"),
        (lambda swarm: {"shard": "embed"}, (b"data",), UNPLANNED),
        (lambda swarm: {"shard": "block.7"}, (b"data",), "shards"),
        (lambda swarm: {"run_id": "00" * 32}, (b"data",), "run"),
        (lambda swarm: {"round": 3}, (b"data",), EARLY),
        (lambda swarm: {"step": 1}, (b"data",), "shadow"),
        (lambda swarm: {"parts": _two(swarm), "step": STEPS + 1}, (b"data",), "range"),
        (lambda swarm: {"parts": _two(swarm)}, (b"data",), NO_BASE),
        (lambda swarm: {}, (b"dat", b""), "chunk"),
        (lambda swarm: {}, (bytes(CHUNK_BYTES + 1),), "chunk"),
        (lambda swarm: {}, (b"da",), "size"),
        (lambda swarm: {}, (b"more", b"than"), ""),
        (lambda swarm: {}, (b"longer",), "size"),
        (lambda swarm: {}, (b"atad",), "hash"),
    ],
)
async def test_what_a_host_may_not_send_leaves_nothing_behind(
    swarm: Swarm, changes, pieces, reason
) -> None:
    data = b"more" if not reason else b"data"
    copy = _copy(swarm, data, **changes(swarm))
    assert await _push(swarm.source_member, swarm.holder, copy, *pieces) == reason
    files = {path.name for path in swarm.kept.blobs.folder.iterdir()}
    assert files == ({content_hash(data), "copies.bin"} if not reason else set())


def _two(swarm: Swarm) -> tuple[ShardPayload, ...]:
    own = _copy(swarm, b"data").parts
    return (ShardPayload(BLOCK, Address("aa" * 32), 4), *own)


async def test_only_the_planned_host_s_own_word_is_taken(swarm: Swarm) -> None:
    copy = _copy(swarm, b"data")
    assert await _push(swarm.healer, swarm.holder, copy, b"data") == UNPLANNED
    assert await _push(swarm.source_member, swarm.healer, copy, b"data") == UNPLANNED
    envelope = envelope_to_pb(sign_message(swarm.source_member.context.signer, copy).envelope)
    stub = swarm.healer.context.client.stub(swarm.holder.peer_id, SHADOW_PROTOCOL)
    reply = await stub.Shadow(iter([pb.ShadowChunk(copy=envelope)]), timeout=PATIENCE_S)
    assert reply.refused == "signature"
    assert not list(swarm.kept.blobs.folder.iterdir())


async def test_a_source_sends_one_copy_at_a_time_and_none_older(swarm: Swarm, monkeypatch) -> None:
    taken, go_on = asyncio.Event(), asyncio.Event()
    partial: Any = swarm.kept.blobs.partial

    def begun(*args: Any) -> Any:
        taken.set()
        return partial(*args)

    monkeypatch.setattr(swarm.kept.blobs, "partial", begun)
    copy = _copy(swarm, b"data")
    envelope = envelope_to_pb(sign_message(swarm.source_member.context.signer, copy).envelope)

    async def slow() -> AsyncIterator[pb.ShadowChunk]:
        yield pb.ShadowChunk(copy=envelope)
        yield pb.ShadowChunk(data=b"da")
        await go_on.wait()
        yield pb.ShadowChunk(data=b"ta")

    stub = swarm.source_member.context.client.stub(swarm.holder.peer_id, SHADOW_PROTOCOL)
    first = asyncio.ensure_future(stub.Shadow(slow(), timeout=PATIENCE_S))
    async with asyncio.timeout(PATIENCE_S):
        await taken.wait()
    assert await _push(swarm.source_member, swarm.holder, copy, b"data") == BUSY
    go_on.set()
    assert (await first).refused == ""
    older = _copy(swarm, b"data", round=0)
    assert await _push(swarm.source_member, swarm.holder, older, b"data") == "stale-round"


async def test_a_stage_that_is_not_hosted_or_not_open_is_not_copied(swarm: Swarm) -> None:
    swarm.source.engine.begin(cp.Begin(request=0, shards=None))
    with pytest.raises(ComputeError, match="cannot be copied"):
        swarm.source.engine.shade(cp.Shade(request=1, shard=BLOCK, base=None))
    parent = swarm.source_member.context.state.rounds.at
    swarm.source.engine.open(cp.Open(request=0, round=1, parent=parent))
    with pytest.raises(ComputeError, match="cannot be copied"):
        swarm.source.engine.shade(cp.Shade(request=1, shard="embed", base=None))


def _finder(swarm: Swarm) -> ShadowFinder:
    session = swarm.healer.session
    payloads = Payloads(
        swarm.healer.context,
        session._fetcher,
        DiskWriter(swarm.healer.context, asyncio.TaskGroup()),
    )
    return ShadowFinder(swarm.healer.context, payloads)


def _request(swarm: Swarm, held: HeldShadow) -> Request:
    context = swarm.healer.context
    copies = (StaleCopy(BLOCK, held.copy.message.parts),)
    manifest = context.manifest.canonical().decode()
    return Request(manifest, str(context.blobs.folder), (), (), copies)


async def _healed(swarm: Swarm) -> torch.Tensor:
    """What a healer makes of the copy that it finds."""
    finder = _finder(swarm)
    [held] = await finder.find(swarm.healer.context.state.rounds.at, [BLOCK])
    assert held.holder == swarm.holder.peer_id
    assert await finder.fetch(held)
    [shard] = made(_request(swarm, held)).shards
    return from_bytes(swarm.healer.context.blobs.read(shard.address), swarm.source.spec)
