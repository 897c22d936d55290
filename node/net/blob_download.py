"""One blob from several holders at once, chunk by chunk.

A holder is left when it sends nothing for a while, and dropped for one chunk that is not what the
blob's address vouches for. What it was to bring comes from the others. While one takes long over a
chunk, though it sends something now and then, another is asked beside it.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from skerry.node.net.call_deadlines import CallDeadlines
from skerry.node.net.chunk_plan import ChunkPlan
from skerry.node.net.rpc import RpcClient
from skerry.node.net.rpc_errors import translate
from skerry.proto import peer_pb2 as pb
from skerry.protocol.blobs import BlobStore
from skerry.protocol.chunk_tree import ChunkTree, leaves_bytes
from skerry.protocol.chunked_blob import ChunkedBlob
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId, RunId, short
from skerry.protocol.messages import ShardPayload

# A holder whose stream broke may be back a moment later; one that sent rubbish is not asked again.
_PASSES = 2
_LEAST_CHUNKS = 4
"""For so many each, and no fewer, several holders are asked at once."""
_PATIENCE_S = 1.0
"""Who is done waits so much longer than a chunk took it before it takes over another's last one."""

_CHUNK_S = 150.0
"""Nobody may take longer over a chunk: at 7 kB/s one comes in time."""
_LOOK_S = 0.5
"""Between two looks at who has come to be known."""

Later = Callable[[], Sequence[PeerId]]
"""Returns who may have a blob, as far as it is known by now."""
OnReceived = Callable[[PeerId, int], None]
"""Told how many bytes of a blob came from a peer, good or bad."""
OnDownloaded = Callable[[PeerId, int, float], None]
"""Told how many bytes of a blob a peer has sent in how many seconds, without the first delay."""


class FalseBytes(ProtocolError):
    """A holder sent what is not the blob."""


@dataclass(frozen=True, slots=True)
class Watchers:
    """Who is told what of what comes in."""

    received: OnReceived = lambda peer, num_bytes: None
    downloaded: OnDownloaded = lambda peer, num_bytes, seconds: None


@dataclass(frozen=True, slots=True)
class Manner:
    """How blobs are downloaded."""

    client: RpcClient
    run_id: RunId
    deadlines: CallDeadlines[str]
    """By the class of traffic: how long the next piece of a blob is waited for."""
    watchers: Watchers
    trusts: Callable[[PeerId], bool]
    """Whether a holder may go on sending."""
    blame: Callable[[PeerId, ProtocolError, str], None]
    """Told who broke the rules, how, and by which class of traffic."""


class _Call(Protocol):
    """What is used of grpc.aio.UnaryStreamCall."""

    def read(self) -> Awaitable[object]: ...

    def cancel(self) -> bool: ...


@dataclass(slots=True)
class BlobDownload:
    """One blob on its way here."""

    manner: Manner
    store: BlobStore
    payload: ShardPayload
    protocol: str
    sources: Counter[PeerId] = field(default_factory=Counter)
    """Bytes that were kept, by who sent them."""
    _failures: dict[PeerId, str] = field(default_factory=dict)
    _barred: set[PeerId] = field(default_factory=set)
    """Holders that broke the rules here."""
    _finished: asyncio.Event = field(default_factory=asyncio.Event)
    _since: dict[PeerId, float] = field(default_factory=dict)
    """When a holder began with the chunk that it brings now."""

    async def run(self, holders: Sequence[PeerId], at_once: int, later: Later = tuple) -> None:
        """Have the blob in the store, from ``holders`` in this order, ``at_once`` of them.

        Who comes to be known ``later``, while others send, is asked too: a peer that has just
        joined knows only the one that it joined by.

        Raises: PeerUnavailable naming the holders if none could give it; StateError on a full disk.
        """
        tree = await self._tree(holders)
        if tree is None:
            raise self._unavailable()
        blob = ChunkedBlob(self.store, tree)
        plan = ChunkPlan(await asyncio.to_thread(blob.begin))
        if plan.missing:
            await self._from_several(_Target(tree, blob, plan), holders, at_once, later)
        if plan.missing:
            raise self._unavailable()
        blob.publish()

    # -- the tree ----------------------------------------------------------------------------

    async def _tree(self, holders: Sequence[PeerId]) -> ChunkTree | None:
        """Return what the blob consists of; None if no holder knows."""
        address, size = self.payload.address, self.payload.size
        known = await asyncio.to_thread(self.store.known_tree, address, size)
        for holder in (*holders, *holders) if known is None else ():
            try:
                if holder not in self._barred:
                    return await self._ask_tree(holder)
            except PeerUnavailable as error:
                self._failures[holder] = error.detail
            except ProtocolError as error:
                self._bar(holder, error)
        return known

    async def _ask_tree(self, holder: PeerId) -> ChunkTree:
        leaves, length = b"", leaves_bytes(self.payload.size)
        with self._stream(holder, range(0), tree=True) as call:
            self._check_size(await self._next(call, holder))
            while len(leaves) < length:
                more = (await self._next(call, holder)).tree
                if not more:
                    raise FalseBytes("size", f"{len(leaves)} bytes of hashes, not {length}")
                leaves += more
        try:
            return ChunkTree.received(self.payload.address, self.payload.size, leaves)
        except ProtocolError as error:
            raise FalseBytes(error.reason, error.detail) from None

    # -- the chunks --------------------------------------------------------------------------

    async def _from_several(
        self, target: "_Target", holders: Sequence[PeerId], at_once: int, later: Later
    ) -> None:
        """Have ``holders`` bring what is missing, until it is here or none of them is left."""
        waiting = deque(holder for holder in holders if holder not in self._barred)
        at_once = max(1, min(at_once, target.plan.missing // _LEAST_CHUNKS))
        tries = Counter(dict.fromkeys(waiting, 0))
        working: dict[asyncio.Task[None], PeerId] = {}
        finished = asyncio.create_task(self._finish())
        try:
            while target.plan.missing:
                while waiting and len(working) - self._slow < at_once:
                    holder = waiting.popleft()
                    tries[holder] += 1
                    working[asyncio.create_task(self._from_one(target, holder))] = holder
                if not working:
                    return
                done, _ = await asyncio.wait(
                    {finished, *working}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
                new = [h for h in later() if h not in tries and self._may_send(h)]
                waiting.extend(new)
                tries.update(dict.fromkeys(new, 0))
                for task in done & working.keys():
                    holder = working.pop(task)
                    target.plan.give_up(holder)
                    if self._may_try_again(task, holder) and tries[holder] < _PASSES:
                        waiting.append(holder)
        finally:
            for task in (finished, *working):
                task.cancel()
            await asyncio.gather(finished, *working, return_exceptions=True)

    @property
    def _slow(self) -> int:
        """How many holders take longer over a chunk than they may be silent."""
        now, patience = time.monotonic(), self.manner.deadlines
        return sum(
            now - since > patience.seconds(holder, self.protocol)
            for holder, since in self._since.items()
        )

    def _may_send(self, holder: PeerId) -> bool:
        return holder not in self._barred and self.manner.trusts(holder)

    async def _finish(self) -> None:
        await self._finished.wait()

    def _may_try_again(self, task: "asyncio.Task[None]", holder: PeerId) -> bool:
        """Say so of a holder whose part has ended. Raises: what is nobody's fault out there."""
        try:
            task.result()
        except PeerUnavailable as error:
            self._failures[holder] = error.detail
        except ProtocolError as error:
            self._bar(holder, error)
            return False
        return True

    async def _from_one(self, target: "_Target", holder: PeerId) -> None:
        """Bring what falls to ``holder``. Raises: PeerUnavailable; ProtocolError: its fault."""
        slowest_s = 0.0
        while target.plan.missing:
            run = target.plan.take(holder)
            if run is None:  # the others have a chunk left each
                await asyncio.sleep(_PATIENCE_S + 2 * slowest_s)
                run = target.plan.take(holder) or target.plan.take_over(holder)
            if run is not None:
                slowest_s = max(slowest_s, await self._bring(target, holder, run))

    async def _bring(self, target: "_Target", holder: PeerId, run: range) -> float:
        """Get a run of chunks, as far as it stays the holder's; return the longest wait for one."""
        slowest_s, kept = 0.0, 0
        with self._stream(holder, run) as call:
            self._check_size(await self._next(call, holder))
            began = time.monotonic()
            for index in run:
                if not target.plan.is_due(holder, index):
                    break
                with self._watched(holder) as since:
                    kept += await self._chunk_in_time(call, target, holder, index)
                slowest_s = max(slowest_s, time.monotonic() - since)
            self.manner.watchers.downloaded(holder, kept, time.monotonic() - began)
        return slowest_s

    @contextmanager
    def _watched(self, holder: PeerId) -> Iterator[float]:
        """Note that a holder brings a chunk, since now."""
        since = self._since[holder] = time.monotonic()
        try:
            yield since
        finally:
            del self._since[holder]

    async def _chunk_in_time(
        self, call: _Call, target: "_Target", holder: PeerId, index: int
    ) -> int:
        """Take the next chunk. Raises: PeerUnavailable if it takes for ever."""
        try:
            async with asyncio.timeout(_CHUNK_S):
                return await self._chunk(call, target, holder, index)
        except TimeoutError:
            detail = f"{holder} took more than {_CHUNK_S:g} s over one chunk"
            raise PeerUnavailable("SK-NET-003", detail) from None

    async def _chunk(self, call: _Call, target: "_Target", holder: PeerId, index: int) -> int:
        """Take the next chunk and keep it; return its size."""
        data = await self._pieces(call, holder, target.tree.length(index))
        try:
            await asyncio.to_thread(target.blob.keep, index, data)
        except ProtocolError as error:
            raise FalseBytes(error.reason, f"{self.payload.shard}: {error.detail}") from None
        if target.plan.done(index):
            self.sources[holder] += len(data)
        if not target.plan.missing:
            self._finished.set()
        return len(data)

    async def _pieces(self, call: _Call, holder: PeerId, length: int) -> bytes:
        """Return a chunk; it may come in pieces, so that a slow link is not taken for silence."""
        data = bytearray()
        while len(data) < length:
            piece = (await self._next(call, holder)).data
            if not 0 < len(piece) <= length - len(data):
                shard = self.payload.shard
                raise FalseBytes("chunk", f"{shard} came in a piece of {len(piece)} bytes")
            data += piece
        return bytes(data)

    # -- one holder --------------------------------------------------------------------------

    @contextmanager
    def _stream(self, holder: PeerId, run: range, tree: bool = False) -> Iterator[_Call]:
        """Lend a call for a part of the blob, over a stream of its own."""
        request = pb.BlobRequest(
            run_id=bytes.fromhex(self.manner.run_id),
            address=bytes.fromhex(self.payload.address),
            first=run.start,
            stop=run.stop,
            tree=tree,
        )
        with translate(holder), self.manner.client.lane(holder, self.protocol) as stub:
            call: _Call = stub.Blob(request)
            try:
                yield call
            finally:
                call.cancel()

    def _check_size(self, first: pb.BlobChunk) -> None:
        if first.size != self.payload.size:
            shard, size = self.payload.shard, self.payload.size
            raise FalseBytes("size", f"{shard} is {first.size} bytes here and {size} announced")

    async def _next(self, call: _Call, holder: PeerId) -> pb.BlobChunk:
        chunk = await self.manner.deadlines.answer(holder, self.protocol, call.read())
        if not isinstance(chunk, pb.BlobChunk):  # grpc.aio.EOF
            raise PeerUnavailable("SK-NET-003", f"{holder} stopped in the middle")
        if not self.manner.trusts(holder):
            raise PeerUnavailable("SK-NET-003", f"{holder} sent false bytes of another blob")
        self.manner.watchers.received(holder, len(chunk.data))
        return chunk

    def _bar(self, holder: PeerId, error: ProtocolError) -> None:
        self._failures[holder] = error.detail
        self._barred.add(holder)
        self.manner.blame(holder, error, self.protocol)

    def _unavailable(self) -> PeerUnavailable:
        told = "; ".join(f"{short(peer)}: {why[:200]}" for peer, why in self._failures.items())
        name = f"{self.payload.shard} {self.payload.address[:8]}"
        detail = f"{name} from {told or 'nobody: no holders known'}"
        return PeerUnavailable("SK-NET-003", detail)


@dataclass(frozen=True, slots=True)
class _Target:
    tree: ChunkTree
    blob: ChunkedBlob
    plan: ChunkPlan
