"""Fetching blobs through p2pd: resuming, bad holders, limits, and who is blamed for what."""

import asyncio
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import p2pd_swarm
import pytest

from skerry.node.net import fetch as fetching
from skerry.node.net.blob_download import Watchers
from skerry.node.net.call_deadlines import Bounds
from skerry.node.net.fetch import PIECE_BYTES, Fetcher, Wanted, blob_chunks, in_pieces
from skerry.node.net.rpc import RpcClient, RpcServer
from skerry.node.net.rpc_errors import refuse
from skerry.proto import peer_pb2 as pb
from skerry.proto.peer_pb2_grpc import PeerServicer
from skerry.protocol.blobs import BlobStore, remove_files
from skerry.protocol.chunk_tree import CHUNK_BYTES, address_of, cut, tree_of
from skerry.protocol.errors import PeerUnavailable, ProtocolError, SkerryError, StateError
from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.messages import ShardPayload
from skerry.protocol.quota import FALSE_STATE
from skerry.protocol.signing import peer_id_of
from skerry.protocol.transport import STATE_PROTOCOL

RUN = RunId("ab" * 32)
STRANGER = peer_id_of(bytes(range(32)))
DATA = bytes(range(251)) * (5 * 2**20 // 251)
PAYLOAD = ShardPayload("block.0", address_of(DATA), len(DATA))
PATIENCES_S = (0.5, 8.0, 64.0)
"""One after the other: to the first, all holders seem silent on a slow machine."""


class Cut(Exception):
    """Told to a holder's script: end the call with an error here."""


@dataclass
class Holder(PeerServicer):
    """Serves its store, or what its script makes of it; what it consists of is told at once."""

    store: BlobStore
    script: Callable[[pb.BlobRequest, list[pb.BlobChunk]], list[pb.BlobChunk | Cut]] | None = None
    requests: list[pb.BlobRequest] = field(default_factory=list)
    lies_of_tree: bool = False
    pauses_before: int | None = None
    """Message of a call before which it falls silent."""
    trickles: bool = False
    """Whether it sends a byte of a chunk now and then, without end."""
    sent: int = 0
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    async def Blob(self, request, context):
        if not request.tree:
            self.requests.append(request)
        try:
            if self.script is None and self.pauses_before is None and not self.trickles:
                async for chunk in blob_chunks(self.store, request, self._count):
                    yield chunk
                return
            chunks = [chunk async for chunk in blob_chunks(self.store, request, self._count)]
        except SkerryError as error:
            await refuse(context, error)
        scripted = self.script is not None and (not request.tree or self.lies_of_tree)
        told = self.script(request, chunks) if self.script and scripted else chunks
        for number, chunk in enumerate(told):
            if number == self.pauses_before:
                await asyncio.Event().wait()
            while self.trickles and chunk.data:
                yield pb.BlobChunk(data=chunk.data[:1])
                await asyncio.sleep(0.05)
            if isinstance(chunk, Cut):
                await refuse(context, PeerUnavailable("SK-NET-003", "cut"))
            yield chunk
        if not request.tree:
            await self.hold.wait()

    def _count(self, size: int) -> None:
        self.sent += size


@dataclass
class Net:
    """One peer that fetches, two that hold."""

    client: RpcClient
    store: BlobStore
    ids: tuple[PeerId, ...]
    holders: tuple[Holder, ...]
    servers: list[RpcServer]
    blamed: list[tuple[PeerId, str]] = field(default_factory=list)

    def fetcher(self, stall_seconds: float = 30.0) -> Fetcher:
        def on_bad(peer: PeerId, reason: str, detail: str) -> None:
            self.blamed.append((peer, reason))

        stall = Bounds(stall_seconds, stall_seconds)
        return Fetcher(self.client, self.store, RUN, on_bad, stall)


@pytest.fixture
async def net(tmp_path):
    async with p2pd_swarm.swarm(tmp_path, 3) as (left, *others):
        holders = tuple(Holder(BlobStore(tmp_path / f"store{i}")) for i in range(2))
        servers = []
        for transport, holder in zip(others, holders, strict=True):
            servers.append(RpcServer(transport, lambda peer, holder=holder: holder))
            await servers[-1].start()
        client = RpcClient(left)
        ids = tuple(transport.peer_id for transport in others)
        yield Net(client, BlobStore(tmp_path / "mine"), ids, holders, servers)
        await client.close()
        for server in servers:
            await server.close()


def cut_after(count: int):
    """Let ``count`` chunks through, then end with an error; the next call is whole."""
    left = [count]

    def script(request, chunks):
        return [*chunks[: left.pop()], Cut()] if left else chunks

    return script


def corrupt(request, chunks):
    """Flip one bit of the last byte."""
    last = chunks[-1].data
    return [*chunks[:-1], pb.BlobChunk(data=last[:-1] + bytes([last[-1] ^ 1]))]


LARGE = bytes(range(241)) * (16 * 2**20 // 241)
STATE = ShardPayload("block.0", address_of(LARGE), len(LARGE))


async def test_parameters_come_from_several_at_once(net):
    for holder in net.holders:
        holder.store.put(LARGE)
    fetcher = net.fetcher()
    sources = await fetcher.fetch(STATE, net.ids, len(LARGE), STATE_PROTOCOL)
    assert net.store.read(STATE.address) == LARGE
    first, second = (holder.requests[0] for holder in net.holders)
    assert (first.first, second.first, second.stop) == (0, 8, 16)  # each half of it at once
    assert sources.keys() == set(net.ids)
    assert sources.total() == fetcher.received_bytes == len(LARGE)
    # Streams of their own class: what limits the node's uplink lets all others go first.
    assert {protocol for _, protocol in net.client._links} == {STATE_PROTOCOL}


async def test_a_download_keeps_few_chunks_in_memory_at_either_end(net):
    """Both ends are in this process; a whole blob here or there would be 16 chunks."""
    for holder in net.holders:
        holder.store.put(LARGE)
    tracemalloc.start()
    try:
        await net.fetcher().fetch(STATE, net.ids, len(LARGE), STATE_PROTOCOL)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert net.store.size(STATE.address) == len(LARGE)
    assert peak < 12 * CHUNK_BYTES


async def test_others_bring_what_a_slow_one_does_not(net):
    """It is not even left for being silent: that would take ten minutes."""
    for holder in net.holders:
        holder.store.put(LARGE)
    net.holders[0].pauses_before = 3  # the size and two chunks
    sources = await net.fetcher(600.0).fetch(STATE, net.ids, len(LARGE), STATE_PROTOCOL)
    assert net.store.read(STATE.address) == LARGE
    assert sources == {net.ids[0]: 2 * CHUNK_BYTES, net.ids[1]: len(LARGE) - 2 * CHUNK_BYTES}
    assert net.blamed == []


async def test_who_comes_to_be_known_meanwhile_brings_its_part(net):
    for holder in net.holders:
        holder.store.put(LARGE)
    net.holders[0].pauses_before = 3
    fetcher = net.fetcher(600.0)
    holders = (STATE, net.ids[:1], len(LARGE), STATE_PROTOCOL)
    sources = await fetcher.fetch(*holders, later=lambda: net.ids)
    assert net.store.read(STATE.address) == LARGE
    assert sources == {net.ids[0]: 2 * CHUNK_BYTES, net.ids[1]: len(LARGE) - 2 * CHUNK_BYTES}


async def test_a_liar_is_not_asked_again_because_it_is_known(net):
    net.holders[0].store.put(LARGE)
    net.holders[0].script = lambda request, chunks: [
        *chunks[:1],
        pb.BlobChunk(data=bytes(CHUNK_BYTES)),
    ]
    holders = (STATE, net.ids[:1], len(LARGE), STATE_PROTOCOL)
    with pytest.raises(PeerUnavailable):
        await net.fetcher().fetch(*holders, later=lambda: net.ids[:1])
    assert len(net.holders[0].requests) == 1


async def test_others_bring_what_one_that_dies_has_left(net):
    for holder in net.holders:
        holder.store.put(LARGE)
    net.holders[0].script = lambda request, chunks: [*chunks[:3], Cut()]
    sources = await net.fetcher().fetch(STATE, net.ids, len(LARGE), STATE_PROTOCOL)
    assert net.store.read(STATE.address) == LARGE
    assert sources.keys() == set(net.ids)
    assert net.blamed == []


async def test_a_chunk_may_come_in_pieces(net):
    net.holders[0].store.put(DATA)
    net.holders[0].script = lambda request, chunks: [p for x in chunks for p in in_pieces(x)]
    await net.fetcher().fetch(PAYLOAD, net.ids[:1], len(DATA))
    assert net.store.read(PAYLOAD.address) == DATA
    pieces = list(in_pieces(pb.BlobChunk(data=DATA[: PIECE_BYTES + 1])))
    assert [len(piece.data) for piece in pieces] == [PIECE_BYTES, 1]
    assert list(in_pieces(pb.BlobChunk(size=3))) == [pb.BlobChunk(size=3)]


async def test_who_lies_of_one_shard_is_dropped_from_all_that_are_under_way(net):
    other = LARGE[::-1]
    shards = [STATE, ShardPayload("block.1", address_of(other), len(other))]
    for holder in net.holders:
        holder.store.put(LARGE)
        holder.store.put(other)

    def lie(request, chunks):
        return [*chunks[:2], pb.BlobChunk(data=bytes(CHUNK_BYTES)), *chunks[3:]]

    net.holders[0].script = lie
    fetcher = net.fetcher()
    wanted = [Wanted(shard, net.ids, len(LARGE), STATE_PROTOCOL) for shard in shards]
    sources = await fetcher.fetch_all(wanted)
    assert {net.store.read(shard.address) for shard in shards} == {LARGE, other}
    assert set(net.blamed) == {(net.ids[0], FALSE_STATE)}
    assert fetcher.liars == {net.ids[0]}
    assert sources[net.ids[1]] > len(LARGE)


async def test_blob_arrives_whole_and_is_counted_once(net):
    net.holders[0].store.put(DATA)
    fetcher = net.fetcher()
    await fetcher.fetch(PAYLOAD, net.ids, len(DATA))
    assert net.store.read(PAYLOAD.address) == DATA
    assert (fetcher.received_bytes, net.holders[0].sent) == (len(DATA), len(DATA))
    request = net.holders[0].requests[0]
    assert (request.run_id, request.first, request.stop) == (bytes.fromhex(RUN), 0, 5)
    await fetcher.fetch(PAYLOAD, net.ids, len(DATA))  # it is here: nobody is asked
    assert (fetcher.received_bytes, len(net.holders[0].requests)) == (len(DATA), 1)
    assert net.blamed == []


async def test_what_came_how_fast_is_told_of_each_holder(net):
    address = net.holders[0].store.put(DATA)
    told: list[tuple[PeerId, int, float]] = []
    note = lambda peer, size, seconds: told.append((peer, size, seconds))  # noqa: E731
    fetcher = Fetcher(net.client, net.store, RUN, watchers=Watchers(downloaded=note))
    await fetcher.fetch(PAYLOAD, net.ids[:1], len(DATA))
    assert net.store.read(address) == DATA
    [(peer, size, seconds)] = told
    assert (peer, size) == (net.ids[0], len(DATA))
    assert seconds > 0


async def test_holders_are_asked_in_the_order_that_is_best(net):
    for holder in net.holders:
        holder.store.put(DATA)
    fetcher = Fetcher(net.client, net.store, RUN, order=lambda holders: holders[::-1])
    await fetcher.fetch(PAYLOAD, net.ids, len(DATA))
    assert [len(holder.requests) for holder in net.holders] == [0, 1]


async def test_empty_blob_is_created_without_asking(net):
    payload = ShardPayload("head", address_of(b""), 0)
    await net.fetcher().fetch(payload, (), 0)
    assert net.store.read(payload.address) == b""


async def test_cut_download_is_continued_where_it_stopped(net):
    net.holders[0].store.put(DATA)
    net.holders[0].script = cut_after(3)  # the size and two chunks
    fetcher = net.fetcher()
    await fetcher.fetch(PAYLOAD, net.ids[:1], len(DATA))
    assert net.store.read(PAYLOAD.address) == DATA
    assert [request.first for request in net.holders[0].requests] == [0, 2]
    assert fetcher.received_bytes == len(DATA)
    assert net.blamed == []


async def test_another_fetcher_and_another_holder_continue_what_is_on_disk(net):
    for holder in net.holders:
        holder.store.put(DATA)
    net.holders[0].script = lambda request, chunks: [*chunks[:3], Cut()] * (not request.first)
    with pytest.raises(PeerUnavailable):
        await net.fetcher().fetch(PAYLOAD, net.ids[:1], len(DATA))
    assert not net.store.path(PAYLOAD.address).exists()
    later = net.fetcher()
    await later.fetch(PAYLOAD, net.ids[1:], len(DATA))
    assert net.store.read(PAYLOAD.address) == DATA
    assert net.holders[1].requests[0].first == 2
    assert later.received_bytes == len(DATA) - 2 * CHUNK_BYTES


async def test_stream_that_ends_early_is_no_success(net):
    net.holders[0].store.put(DATA)
    net.holders[0].script = lambda request, chunks: chunks[:3]
    with pytest.raises(PeerUnavailable, match="stopped in the middle"):
        await net.fetcher().fetch(PAYLOAD, net.ids[:1], len(DATA))
    assert net.store.size(PAYLOAD.address) is None
    assert net.blamed == []


async def test_corrupt_holder_is_blamed_and_the_next_one_asked_for_what_is_left(net):
    for holder in net.holders:
        holder.store.put(DATA)
    net.holders[0].script = corrupt
    fetcher = net.fetcher()
    sources = await fetcher.fetch(PAYLOAD, net.ids, len(DATA))
    assert net.store.read(PAYLOAD.address) == DATA
    assert net.blamed == [(net.ids[0], "hash")]
    assert fetcher.bad_holders == 1
    assert (len(net.holders[0].requests), net.holders[1].requests[0].first) == (1, 4)
    assert sources == {net.ids[0]: 4 * CHUNK_BYTES, net.ids[1]: len(DATA) - 4 * CHUNK_BYTES}


async def test_who_has_lied_once_is_asked_last_and_only_for_want_of_others(net):
    for holder in net.holders:
        holder.store.put(DATA)
    fetcher = net.fetcher()
    net.holders[0].script = corrupt
    await fetcher.fetch(PAYLOAD, net.ids, len(DATA))
    net.holders[0].script = None
    others = [bytes([i]) * 100 for i in range(2)]
    for data, holders in zip(others, (net.ids, net.ids[:1]), strict=True):
        for holder in net.holders:
            holder.store.put(data)
        await fetcher.fetch(ShardPayload("head", address_of(data), 100), holders, 100)
    asked = [[bytes(request.address).hex() for request in h.requests[1:]] for h in net.holders]
    assert asked == [[address_of(others[1])], [address_of(others[0])]]
    only = b"nobody else has this"
    net.holders[0].store.put(only)
    await fetcher.fetch(ShardPayload("head", address_of(only), len(only)), net.ids, len(only))
    assert net.store.read(address_of(only)) == only


async def test_a_list_of_chunks_that_is_not_the_blobs_is_its_senders_fault(net):
    for holder in net.holders:
        holder.store.put(DATA)

    def other_leaves(request, chunks):
        return (
            [chunks[0], pb.BlobChunk(tree=bytes(len(chunks[1].tree)))] if request.tree else chunks
        )

    net.holders[0].script, net.holders[0].lies_of_tree = other_leaves, True
    await net.fetcher().fetch(PAYLOAD, net.ids, len(DATA))
    assert net.store.read(PAYLOAD.address) == DATA
    assert net.blamed == [(net.ids[0], "hash")]
    assert net.holders[0].requests == []


async def test_who_sends_a_false_chunk_and_goes_is_the_one_that_is_blamed(net):
    for holder in net.holders:
        holder.store.put(DATA)

    def poison(request, chunks):
        return [chunks[0], pb.BlobChunk(data=b"\0" * CHUNK_BYTES), Cut()]

    net.holders[0].script = poison
    await net.fetcher().fetch(PAYLOAD, net.ids, len(DATA))
    assert net.store.read(PAYLOAD.address) == DATA
    assert [request.first for request in net.holders[1].requests] == [0]
    assert net.blamed == [(net.ids[0], "hash")]


async def test_damaged_leftover_is_replaced(net):
    net.holders[0].store.put(DATA)
    part = net.store.path(PAYLOAD.address).with_suffix(".part")
    for leftover in (bytes(len(DATA)), bytes(len(DATA) + 1)):
        part.write_bytes(leftover)
        await net.fetcher().fetch(PAYLOAD, net.ids[:1], len(DATA))
        assert net.store.read(PAYLOAD.address) == DATA
        net.store.path(PAYLOAD.address).unlink()
    assert net.blamed == []


async def test_complete_leftover_is_finished_without_asking(net):
    net.store.part(PAYLOAD.address).write_bytes(DATA)
    net.store.keep_tree(tree_of(cut(DATA), len(DATA)))
    assert await net.fetcher().fetch(PAYLOAD, (), len(DATA)) == {}
    assert net.store.read(PAYLOAD.address) == DATA


@pytest.mark.parametrize("size", [-1, len(DATA) + 1, 2**62])
async def test_announcement_over_the_limit_is_refused_before_anything_happens(net, size):
    net.holders[0].store.put(DATA)
    payload = ShardPayload("block.0", PAYLOAD.address, size)
    with pytest.raises(ProtocolError, match="announced") as caught:
        await net.fetcher().fetch(payload, net.ids, len(DATA))
    assert caught.value.reason == "size"
    assert net.holders[0].requests == []
    assert list(net.store.path(PAYLOAD.address).parent.iterdir()) == []


@pytest.mark.parametrize(
    ("reason", "script"),
    [
        ("size", lambda request, chunks: [pb.BlobChunk(size=len(DATA) + 1), *chunks[1:]]),
        ("size", lambda request, chunks: [pb.BlobChunk(size=2**62), *chunks[1:]]),
        ("size", lambda request, chunks: chunks[1:]),
        ("chunk", lambda request, chunks: [*chunks[:-1], pb.BlobChunk(data=bytes(CHUNK_BYTES))]),
        ("size", lambda request, chunks: [chunks[0], pb.BlobChunk(data=bytes(2**22))]),
        ("chunk", lambda request, chunks: [chunks[0], pb.BlobChunk(data=bytes(CHUNK_BYTES + 1))]),
        ("chunk", lambda request, chunks: [chunks[0], *[pb.BlobChunk()] * 10]),
    ],
    ids=["larger", "huge", "no size", "too much", "huge chunk", "large chunk", "empty chunks"],
)
async def test_rule_breaker_is_blamed_and_the_next_holder_asked(net, reason, script):
    for holder in net.holders:
        holder.store.put(DATA)
    net.holders[0].script = script
    await net.fetcher().fetch(PAYLOAD, net.ids, len(DATA))
    assert net.store.read(PAYLOAD.address) == DATA
    assert net.blamed == [(net.ids[0], reason)]


async def test_silent_holder_is_left_for_the_next(net):
    for holder in net.holders:
        holder.store.put(DATA)
    net.holders[0].script = lambda request, chunks: chunks[:2]
    net.holders[0].hold.clear()
    for patience_s in PATIENCES_S:
        net.holders[1].requests.clear()
        for path in net.store.path(PAYLOAD.address).parent.iterdir():
            path.unlink()
        with suppress(PeerUnavailable):
            await net.fetcher(patience_s).fetch(PAYLOAD, net.ids, len(DATA))
        if [request.first for request in net.holders[1].requests] == [1]:
            break
    assert net.store.read(PAYLOAD.address) == DATA
    assert [request.first for request in net.holders[1].requests] == [1]
    assert net.blamed == []


async def test_who_trickles_does_not_keep_others_from_being_asked(net):
    for holder in net.holders:
        holder.store.put(DATA)
    net.holders[0].trickles = True
    sources = await net.fetcher(2.0).fetch(PAYLOAD, net.ids, len(DATA), STATE_PROTOCOL)
    assert net.store.read(PAYLOAD.address) == DATA
    assert sources == {net.ids[1]: len(DATA)}
    assert net.blamed == []


async def test_silence_everywhere_names_everyone_and_what_each_did(net):
    net.holders[0].store.put(DATA)
    net.holders[0].hold.clear()
    net.holders[0].script = lambda request, chunks: chunks[:2]
    for patience_s in PATIENCES_S:
        with pytest.raises(PeerUnavailable) as caught:
            holders = (*net.ids, STRANGER)
            await net.fetcher(patience_s).fetch(PAYLOAD, holders, len(DATA))
        if "not in the store" in caught.value.detail:
            break
    assert caught.value.code == "SK-NET-003"
    silent = f"no answer within {patience_s:.3g} s"
    for told in ("block.0", silent, "not in the store", STRANGER[-6:]):
        assert told in caught.value.detail
    assert net.blamed == []


async def test_no_holders_is_said(net):
    with pytest.raises(PeerUnavailable, match="no holders known"):
        await net.fetcher().fetch(PAYLOAD, (), len(DATA))


async def test_fetches_of_one_address_at_once_are_one_download(net):
    net.holders[0].store.put(DATA)
    fetcher = net.fetcher()
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(fetcher.fetch(PAYLOAD, net.ids[:1], len(DATA)))
    assert (len(net.holders[0].requests), fetcher.received_bytes) == (1, len(DATA))
    assert fetcher._locks == {}


async def test_cancelled_fetch_leaves_the_others_waiting_for_the_blob_alone(net):
    net.holders[0].store.put(DATA)
    started = asyncio.Event()

    def script(request, chunks):
        started.set()
        return chunks[:2] if len(net.holders[0].requests) == 1 else chunks

    net.holders[0].script = script
    net.holders[0].hold.clear()
    fetcher = net.fetcher()
    first = asyncio.create_task(fetcher.fetch(PAYLOAD, net.ids[:1], len(DATA)))
    await started.wait()
    second = asyncio.create_task(fetcher.fetch(PAYLOAD, net.ids[:1], len(DATA)))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert net.store.read(PAYLOAD.address) == DATA


def several(net, count: int) -> list[Wanted]:
    wanted = []
    for number in range(count):
        data = bytes([number]) * 100_000
        address = net.holders[0].store.put(data)
        payload = ShardPayload(f"block.{number}", address, len(data))
        wanted.append(Wanted(payload, net.ids[:1], len(data)))
    return wanted


async def test_fetch_all_is_bounded_and_gets_everything(net, monkeypatch):
    running = most = 0
    original = Fetcher._from_any

    async def watched(self, *arguments):
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await original(self, *arguments)
        finally:
            running -= 1

    monkeypatch.setattr(fetching.Fetcher, "_from_any", watched)
    wanted = several(net, 7)
    fetcher = net.fetcher()
    await fetcher.fetch_all(wanted, concurrency=2)
    assert most == 2
    assert fetcher.received_bytes == 700_000
    assert all(net.store.size(item.payload.address) == 100_000 for item in wanted)


async def test_fetch_all_gets_what_can_be_had_before_it_fails(net):
    wanted = several(net, 3)
    missing = Wanted(PAYLOAD, net.ids, len(DATA))
    with pytest.raises(PeerUnavailable, match=PAYLOAD.address[:8]):
        await net.fetcher().fetch_all([missing, *wanted])
    assert all(net.store.size(item.payload.address) == 100_000 for item in wanted)


async def test_full_disk_ends_everything_with_its_own_error(net, monkeypatch):
    def full(self, index, data):
        raise StateError("SK-DSK-001", "no space left")

    monkeypatch.setattr("skerry.protocol.chunked_blob.ChunkedBlob.keep", full)
    with pytest.raises(StateError) as caught:
        await net.fetcher().fetch_all(several(net, 3))
    assert caught.value.code == "SK-DSK-001"
    assert net.blamed == []


async def collect(store: BlobStore, **request):
    sent: list[int] = []
    chunks = blob_chunks(store, pb.BlobRequest(**request), sent.append)
    return [chunk async for chunk in chunks], sent


async def test_blob_chunks_tell_the_size_first_and_count(tmp_path: Path):
    store = BlobStore(tmp_path)
    address = bytes.fromhex(store.put(DATA))
    chunks, sent = await collect(store, address=address, first=3, stop=5)
    assert chunks[0] == pb.BlobChunk(size=len(DATA))
    assert all(chunk.size == 0 and len(chunk.data) <= CHUNK_BYTES for chunk in chunks[1:])
    assert b"".join(chunk.data for chunk in chunks) == DATA[3 * CHUNK_BYTES :]
    assert sum(sent) == len(DATA) - 3 * CHUNK_BYTES


async def test_blob_chunks_tell_what_a_blob_consists_of_if_asked(tmp_path: Path):
    store = BlobStore(tmp_path)
    address = store.put(DATA)
    leaves = store.tree(address).leaves
    assert len(leaves) == 5 * 32
    asked = {"address": bytes.fromhex(address), "tree": True}
    assert await collect(store, **asked) == (
        [pb.BlobChunk(size=len(DATA)), pb.BlobChunk(tree=leaves)],
        [],
    )


@pytest.mark.parametrize(
    ("address", "first", "stop", "reason"),
    [
        (b"", 0, 0, "address"),
        (b"x" * 33, 0, 0, "address"),
        (bytes(32), 0, 0, None),
        (None, 0, 6, "range"),
        (None, 3, 2, "range"),
        (None, 2**31, 2**32 - 1, "range"),
    ],
)
async def test_blob_chunks_refuse_what_they_cannot_serve(
    tmp_path: Path, address, first, stop, reason
):
    store = BlobStore(tmp_path)
    known = bytes.fromhex(store.put(DATA))
    with pytest.raises(SkerryError) as caught:
        await collect(store, address=known if address is None else address, first=first, stop=stop)
    assert getattr(caught.value, "reason", None) == reason
    assert (caught.value.code == "SK-DSK-002") == (reason is None)


async def test_a_blob_damaged_on_disk_is_not_served(tmp_path: Path):
    """Whoever gets a false chunk may be sure that its sender means it."""
    store = BlobStore(tmp_path)
    address = store.put(DATA)
    damaged = bytearray(DATA)
    damaged[3 * CHUNK_BYTES] ^= 1
    store.path(address).write_bytes(damaged)
    sent: list[int] = []
    chunks = blob_chunks(store, pb.BlobRequest(address=bytes.fromhex(address), stop=5), sent.append)
    with pytest.raises(StateError, match="damaged"):
        async for _ in chunks:
            pass
    assert sent == [CHUNK_BYTES] * 3
    assert store.size(address) is None


async def test_blob_removed_between_size_and_reading_is_missing(tmp_path: Path):
    store = BlobStore(tmp_path)
    address = store.put(DATA)
    request = pb.BlobRequest(address=bytes.fromhex(address), stop=5)
    chunks = blob_chunks(store, request, lambda size: None)
    assert (await anext(chunks)).size == len(DATA)
    remove_files(store.set_aside(()))
    with pytest.raises(StateError):
        await anext(chunks)
