"""Getting blobs from whoever has them, and handing out ours.

A payload is asked of one holder after another, parameters of several at once (blob_download.py).
What a holder announces is checked before anything is stored, each chunk when it comes, and what was
kept stays on disk, so that neither another holder nor another process gets it a second time. Who
has sent false bytes is asked again only if nobody else has what is wanted.
Not here: which blobs are needed, who holds them, and what else follows from the blame.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

from skerry.node.net.blob_download import BlobDownload, FalseBytes, Later, Manner, Watchers
from skerry.node.net.call_deadlines import Bounds, CallDeadlines
from skerry.node.net.rpc import RpcClient
from skerry.proto import peer_pb2 as pb
from skerry.protocol.blobs import BlobStore
from skerry.protocol.chunk_tree import cut
from skerry.protocol.errors import PeerUnavailable, ProtocolError, StateError
from skerry.protocol.ids import Address, PeerId, RunId
from skerry.protocol.messages import ShardPayload
from skerry.protocol.quota import FALSE_STATE
from skerry.protocol.transport import BULK_PROTOCOL, STATE_PROTOCOL

_LOG = logging.getLogger(__name__)

STALL = Bounds(least=6.0, most=15.0)
"""For the next piece of a blob. A holder whose uplink is limited lets the least urgent wait for up
to 5 s (protocol/bandwidth.py)."""
CONCURRENCY = 4
PIECE_BYTES = 128 * 1024
"""At 10 kB/s one comes within the longest wait; of a chunk that could not be said."""
STATE_SOURCES = 3
"""Holders of one shard's parameters that are asked at once. A payload is small, and who has not
written it may not have it yet."""

OnBad = Callable[[PeerId, str, str], None]
"""Told which peer broke the rules, the reason, and what it was."""
Order = Callable[[Sequence[PeerId]], Sequence[PeerId]]
"""Returns holders in the order in which they are best asked."""
Sources = Counter[PeerId]
"""Bytes that were kept, by who sent them."""


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
    later: Later = tuple
    """Who else is asked while it is on its way."""


@dataclass(slots=True)
class _Lock:
    lock: asyncio.Lock
    protocol: str
    """By which whoever asked first wants it."""
    users: int = 0


UNWATCHED = Watchers()


class Fetcher:
    """Downloads into one blob store."""

    def __init__(
        self,
        client: RpcClient,
        store: BlobStore,
        run_id: RunId,
        on_bad: OnBad = lambda peer, reason, detail: None,
        stall: Bounds = STALL,
        order: Order = tuple,
        watchers: Watchers = UNWATCHED,
    ) -> None:
        """Fetch for ``run_id``; a holder that sends nothing within ``stall`` is left."""
        self._client, self._store, self._run_id = client, store, run_id
        self._on_bad = on_bad
        self._deadlines = CallDeadlines({BULK_PROTOCOL: stall, STATE_PROTOCOL: stall})
        self._watchers, self._order = watchers, order
        self._locks: dict[Address, _Lock] = {}
        self.liars: set[PeerId] = set()
        """Who has sent false bytes."""
        self.received_bytes = 0
        """Blob bytes that were kept."""
        self.bad_holders = 0
        """How often a holder broke the rules."""

    def downloading(self) -> tuple[Address, ...]:
        """Return what is being fetched."""
        return tuple(self._locks)

    async def fetch(
        self,
        payload: ShardPayload,
        holders: Sequence[PeerId],
        limit_bytes: int,
        protocol: str = BULK_PROTOCOL,
        later: Later = tuple,
    ) -> Sources:
        """Have ``payload`` complete and verified in the store; return where it came from.

        A fetch of the same address that is under way is waited for. Who comes to be known
        ``later`` is asked too, once ``holders`` send.

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
                    return await self._from_any(payload, holders, later)
        finally:
            entry.users -= 1
            if not entry.users:
                del self._locks[payload.address]
        return Sources()

    async def fetch_all(self, wanted: Sequence[Wanted], concurrency: int = CONCURRENCY) -> Sources:
        """Fetch several, ``concurrency`` at a time; what can be had is fetched even if one fails.

        Returns: where all of it came from. Raises: the first failure, when all have ended;
        StateError at once.
        """
        slots = asyncio.Semaphore(concurrency)
        failures: list[PeerUnavailable | ProtocolError] = []
        sources = Sources()

        async def one(item: Wanted) -> None:
            async with slots:
                try:
                    sources.update(
                        await self.fetch(
                            *(item.payload, item.holders, item.limit_bytes, item.protocol),
                            later=item.later,
                        )
                    )
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
        return sources

    async def _from_any(
        self, payload: ShardPayload, holders: Sequence[PeerId], later: Later
    ) -> Sources:
        known = list(dict.fromkeys(self._order(holders)))
        honest = [holder for holder in known if holder not in self.liars]
        liars = [holder for holder in known if holder in self.liars]
        sources = Sources()
        if honest and liars:
            try:
                return await self._from_these(payload, honest, sources, later, desperate=False)
            except PeerUnavailable as error:
                _LOG.info("not from those who never lied: %s", error)
        desperate = bool(liars)
        return await self._from_these(payload, liars or honest, sources, later, desperate=desperate)

    async def _from_these(
        self,
        payload: ShardPayload,
        holders: Sequence[PeerId],
        sources: Sources,
        later: Later,
        *,
        desperate: bool,
    ) -> Sources:
        """Fetch from these and add to ``sources`` what came. ``desperate``: also from liars."""
        protocol = self._locks[payload.address].protocol
        download = BlobDownload(self._manner(desperate), self._store, payload, protocol)
        at_once = STATE_SOURCES if protocol == STATE_PROTOCOL else 1
        try:
            await download.run(holders, at_once, later)
        finally:
            self.received_bytes += download.sources.total()
            sources.update(download.sources)
        return sources

    def _manner(self, desperate: bool) -> Manner:
        return Manner(
            client=self._client,
            run_id=self._run_id,
            deadlines=self._deadlines,
            watchers=self._watchers,
            trusts=lambda holder: desperate or holder not in self.liars,
            blame=self._blame,
        )

    def _blame(self, holder: PeerId, error: ProtocolError, protocol: str) -> None:
        _LOG.warning("%s gave a bad blob (%s): %s", holder, error.reason, error.detail)
        self.bad_holders += 1
        lied = isinstance(error, FalseBytes)
        if lied:
            self.liars.add(holder)
        is_state = lied and protocol == STATE_PROTOCOL
        self._on_bad(holder, FALSE_STATE if is_state else error.reason, error.detail)


def in_pieces(chunk: pb.BlobChunk) -> Iterator[pb.BlobChunk]:
    """Yield a message in parts of at most PIECE_BYTES, so that each comes soon on a slow link."""
    if len(chunk.data) <= PIECE_BYTES:
        yield chunk
        return
    for start in range(0, len(chunk.data), PIECE_BYTES):
        yield pb.BlobChunk(data=chunk.data[start : start + PIECE_BYTES])


async def blob_chunks(
    store: BlobStore, request: pb.BlobRequest, on_sent: Callable[[int], None]
) -> AsyncIterator[pb.BlobChunk]:
    """Yield what answers ``request``: the size, the tree if it is wanted, then the chunks.

    ``on_sent`` is told how many bytes each chunk holds. The servicer has checked the run id.

    Raises: ProtocolError("address" or "range"); StateError("SK-DSK-002") if it is not here, or
    found to be damaged when it is read.
    """
    tree = await asyncio.to_thread(store.tree, Address(request.address.hex()))
    if not request.first <= request.stop <= tree.num_chunks:
        detail = f"chunks {request.first} to {request.stop} of {tree.num_chunks}"
        raise ProtocolError("range", detail)
    yield pb.BlobChunk(size=tree.size)
    for leaves in cut(tree.leaves) if request.tree else ():
        yield pb.BlobChunk(tree=bytes(leaves))
    chunks = store.chunks(tree, request.first, request.stop)
    while (data := await asyncio.to_thread(next, chunks, None)) is not None:
        on_sent(len(data))
        yield pb.BlobChunk(data=data)
