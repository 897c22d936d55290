"""Getting blobs from whoever has them, and handing out ours.

A blob is asked of one holder after another until its bytes hash to its address. What a holder
announces is checked before anything is stored, what arrives is kept on disk so that the next
holder continues where the last one stopped, and a holder is blamed only for bytes that were its
own. Not here: which blobs are needed, who holds them, and what follows from the blame.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from skerry.node.net.rpc import RpcClient
from skerry.node.net.rpc_errors import translate
from skerry.proto import peer_pb2 as pb
from skerry.protocol.blobs import CHUNK_BYTES, BlobStore, PartialBlob
from skerry.protocol.errors import PeerUnavailable, ProtocolError, StateError
from skerry.protocol.ids import Address, PeerId, RunId, short
from skerry.protocol.messages import ShardPayload
from skerry.protocol.transport import BULK_PROTOCOL

_LOG = logging.getLogger(__name__)

STALL_SECONDS = 15.0
CONCURRENCY = 4
# A holder whose stream broke may be back a moment later; one that sent rubbish is not asked again.
_PASSES = 2

OnBad = Callable[[PeerId, str], None]
"""Told which peer broke the rules, and the reason."""
OnReceived = Callable[[PeerId, int], None]
"""Told how many bytes of a blob came from a peer, good or bad."""
OnDownloaded = Callable[[PeerId, int, float], None]
"""Told how many bytes of a blob a peer has sent in how many seconds, without the first delay."""
Order = Callable[[Sequence[PeerId]], Sequence[PeerId]]
"""Returns holders in the order in which they are best asked."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One blob to get."""

    payload: ShardPayload
    holders: tuple[PeerId, ...]
    """Who may have it, in the order in which they are asked."""
    limit_bytes: int
    """What the manifest allows for it."""
    protocol: str = BULK_PROTOCOL
    """The class of traffic that it belongs to."""


class _Call(Protocol):
    """What is used of grpc.aio.UnaryStreamCall."""

    async def read(self) -> object: ...

    def cancel(self) -> bool: ...


@dataclass(slots=True)
class _Lock:
    lock: asyncio.Lock
    protocol: str
    """By which whoever asked first wants it."""
    users: int = 0


@dataclass(frozen=True, slots=True)
class Watchers:
    """Who is told what of what comes in."""

    received: OnReceived = lambda peer, num_bytes: None
    downloaded: OnDownloaded = lambda peer, num_bytes, seconds: None


UNWATCHED = Watchers()


class Fetcher:
    """Downloads into one blob store."""

    def __init__(
        self,
        client: RpcClient,
        store: BlobStore,
        run_id: RunId,
        on_bad: OnBad = lambda peer, reason: None,
        stall_seconds: float = STALL_SECONDS,
        order: Order = tuple,
        watchers: Watchers = UNWATCHED,
    ) -> None:
        """Fetch for ``run_id``; a holder that sends nothing for ``stall_seconds`` is left."""
        self._client, self._store, self._run_id = client, store, run_id
        self._on_bad, self._stall_seconds = on_bad, stall_seconds
        self._watchers, self._order = watchers, order
        self._locks: dict[Address, _Lock] = {}
        self.received_bytes = 0
        """Blob bytes that arrived, good or bad."""
        self.bad_holders = 0
        """How often a holder broke the rules."""

    async def fetch(
        self,
        payload: ShardPayload,
        holders: Sequence[PeerId],
        limit_bytes: int,
        protocol: str = BULK_PROTOCOL,
    ) -> None:
        """Have ``payload`` complete and verified in the store.

        A fetch of the same address that is under way is waited for.

        Raises: ProtocolError("size") if it is announced larger than ``limit_bytes``;
            PeerUnavailable naming the holders if none could give it; StateError on a full disk.
        """
        if not 0 <= payload.size <= limit_bytes:
            detail = f"{payload.shard} is announced with {payload.size} of at most {limit_bytes}"
            raise ProtocolError("size", f"{detail} bytes")
        entry = self._locks.setdefault(payload.address, _Lock(asyncio.Lock(), protocol))
        entry.users += 1
        try:
            async with entry.lock:
                if self._store.size(payload.address) is None:
                    await self._from_any(payload, holders)
        finally:
            entry.users -= 1
            if not entry.users:
                del self._locks[payload.address]

    async def fetch_all(self, wanted: Sequence[Wanted], concurrency: int = CONCURRENCY) -> None:
        """Fetch several, ``concurrency`` at a time; what can be had is fetched even if one fails.

        Raises: the first failure, when all have ended; StateError at once.
        """
        slots = asyncio.Semaphore(concurrency)
        failures: list[PeerUnavailable | ProtocolError] = []

        async def one(item: Wanted) -> None:
            async with slots:
                try:
                    await self.fetch(item.payload, item.holders, item.limit_bytes, item.protocol)
                except (PeerUnavailable, ProtocolError) as error:
                    failures.append(error)

        try:
            async with asyncio.TaskGroup() as group:
                for item in wanted:
                    group.create_task(one(item))
        except* StateError as errors:
            raise errors.exceptions[0] from None
        if failures:
            raise failures[0]

    async def _from_any(self, payload: ShardPayload, holders: Sequence[PeerId]) -> None:
        partial = self._store.partial(payload.address, payload.size)
        if await self._already_complete(partial, payload):
            return
        left, failures = list(dict.fromkeys(self._order(holders))), dict[PeerId, str]()
        for _ in range(_PASSES):
            for holder in list(left):
                try:
                    await self._from_one(partial, payload, holder)
                    return
                except PeerUnavailable as error:
                    failures[holder] = error.detail
                except ProtocolError as error:
                    failures[holder] = error.detail
                    left.remove(holder)
                    self._blame(holder, error)
        told = "; ".join(f"{short(peer)}: {why[:200]}" for peer, why in failures.items())
        detail = f"{payload.shard} {payload.address[:8]} from {told or 'nobody: no holders known'}"
        raise PeerUnavailable("SK-NET-003", detail)

    async def _already_complete(self, partial: PartialBlob, payload: ShardPayload) -> bool:
        """Finish what an earlier attempt left complete; drop what cannot be a beginning."""
        if partial.offset < payload.size:
            return False
        try:
            await asyncio.to_thread(partial.finish)
        except ProtocolError:
            partial.discard()
            return False
        return True

    async def _from_one(self, partial: PartialBlob, payload: ShardPayload, holder: PeerId) -> None:
        """Get the rest from ``holder``. Raises: PeerUnavailable; ProtocolError: its own fault."""
        resumed = partial.offset > 0
        await self._download(partial, payload, holder)
        try:
            await asyncio.to_thread(partial.finish)
        except ProtocolError as error:
            partial.discard()
            if error.reason != "hash" or not resumed:
                raise
            # The beginning came from elsewhere: only a whole download can show whose fault it is.
            await self._from_one(partial, payload, holder)

    async def _download(self, partial: PartialBlob, payload: ShardPayload, holder: PeerId) -> None:
        request = pb.BlobRequest(
            run_id=bytes.fromhex(self._run_id),
            address=bytes.fromhex(payload.address),
            offset=partial.offset,
        )
        protocol = self._locks[payload.address].protocol
        with translate(holder), self._client.lane(holder, protocol) as stub:
            call: _Call = stub.Blob(request)
            try:
                await self._check_size(await self._next(call, holder), partial, payload)
                began, before = time.monotonic(), partial.offset
                while partial.offset < payload.size:
                    data = (await self._next(call, holder)).data
                    await self._store_chunk(data, partial, payload)
                took_s = time.monotonic() - began
                self._watchers.downloaded(holder, partial.offset - before, took_s)
            finally:
                call.cancel()

    async def _check_size(
        self, first: pb.BlobChunk, partial: PartialBlob, payload: ShardPayload
    ) -> None:
        if first.size != payload.size:
            detail = f"{payload.shard} is {first.size} bytes here and {payload.size} announced"
            raise ProtocolError("size", detail)
        if first.data:
            await self._store_chunk(first.data, partial, payload)

    async def _store_chunk(self, data: bytes, partial: PartialBlob, payload: ShardPayload) -> None:
        if not 0 < len(data) <= CHUNK_BYTES:
            raise ProtocolError("chunk", f"{payload.shard} came in a chunk of {len(data)} bytes")
        self.received_bytes += len(data)
        await asyncio.to_thread(partial.append, data)

    async def _next(self, call: _Call, holder: PeerId) -> pb.BlobChunk:
        try:
            async with asyncio.timeout(self._stall_seconds):
                chunk = await call.read()
        except TimeoutError:
            detail = f"{holder} sent nothing for {self._stall_seconds:g} s"
            raise PeerUnavailable("SK-NET-003", detail) from None
        if not isinstance(chunk, pb.BlobChunk):  # grpc.aio.EOF
            raise PeerUnavailable("SK-NET-003", f"{holder} stopped in the middle")
        self._watchers.received(holder, len(chunk.data))
        return chunk

    def _blame(self, holder: PeerId, error: ProtocolError) -> None:
        _LOG.warning("%s gave a bad blob (%s): %s", holder, error.reason, error.detail)
        self.bad_holders += 1
        self._on_bad(holder, error.reason)


async def blob_chunks(
    store: BlobStore, request: pb.BlobRequest, on_sent: Callable[[int], None]
) -> AsyncIterator[pb.BlobChunk]:
    """Yield what answers ``request``: the size first, then the bytes from its offset on.

    ``on_sent`` is told how many bytes each chunk holds. The servicer has checked the run id.

    Raises: ProtocolError("address" or "offset"); StateError("SK-DSK-002") if it is not here.
    """
    address = Address(request.address.hex())
    size = store.size(address)
    if size is None:
        raise StateError("SK-DSK-002", f"blob {address[:8]} is not in the store")
    if request.offset > size:
        raise ProtocolError("offset", f"{request.offset} is beyond the {size} bytes of a blob")
    yield pb.BlobChunk(size=size)
    chunks = store.chunks(address, request.offset)
    while (data := await asyncio.to_thread(_next_chunk, chunks)) is not None:
        on_sent(len(data))
        yield pb.BlobChunk(data=data)


def _next_chunk(chunks: Iterator[bytes]) -> bytes | None:
    try:
        return next(chunks, None)
    except FileNotFoundError as error:  # pruned since its size was asked
        raise StateError("SK-DSK-002", "the blob has just been removed") from error
