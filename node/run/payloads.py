"""The blobs of a run: getting contributions and states from other peers, offering our own."""

from skerry.node.net.fetch import Fetcher, Wanted
from skerry.node.run.context import RunContext
from skerry.node.run.disk import DiskWriter
from skerry.pipeline.codecs import payload_limits
from skerry.protocol.errors import PeerUnavailable, ProtocolError, StateError
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import ShardPayload
from skerry.protocol.transport import STATE_PROTOCOL

UNAVAILABLE = "unavailable"


class Payloads:
    """What effects.py needs of the blob store and of those who have blobs."""

    def __init__(self, context: RunContext, fetcher: Fetcher, disk: DiskWriter) -> None:
        """Fetch by ``fetcher``; a full disk is told to ``disk``."""
        self._context, self._fetcher, self._disk = context, fetcher, disk
        self._limits = dict(payload_limits(context.manifest))

    async def fetch(self, shards: tuple[ShardPayload, ...], holders: tuple[PeerId, ...]) -> str:
        """Return why a contribution's payloads could not be fetched; empty if they are here."""
        others = tuple(peer for peer in dict.fromkeys(holders) if peer != self._context.me)
        wanted = [Wanted(shard, others, self._limits[shard.shard]) for shard in shards]
        missing = [s for s in shards if self._context.blobs.size(s.address) is None]
        try:
            await self._fetcher.fetch_all(wanted)
        except PeerUnavailable:
            self._context.facts.failed_downloads += 1
            return UNAVAILABLE
        except ProtocolError as error:
            return error.reason
        except StateError as error:
            self._disk.failed(error)
            return UNAVAILABLE
        # Two may have waited for the same download: whoever comes first has offered it.
        new = sum(s.size for s in missing if s.address not in self._context.served)
        self._context.facts.received_bytes["payload"] += new
        self.offer(shards, is_state=False)
        return ""

    async def fetch_state(
        self, shards: tuple[ShardPayload, ...], teller: PeerId, holders: tuple[PeerId, ...]
    ) -> None:
        """Get a state that ``teller`` told us of. Raises: SkerryError."""
        facts = self._context.facts
        facts.state_wanted = shards
        try:
            await self._fetcher.fetch_all(_spread(shards, teller, holders))
        finally:
            facts.state_wanted = ()
        facts.received_bytes["state"] += sum(shard.size for shard in shards)

    def offer(self, shards: tuple[ShardPayload, ...], is_state: bool) -> None:
        """Note what others may ask for, to count what is sent."""
        for shard in shards:
            self._context.served[shard.address] = (shard, is_state)


def _spread(
    shards: tuple[ShardPayload, ...], teller: PeerId, holders: tuple[PeerId, ...]
) -> list[Wanted]:
    """Ask a different peer first for each shard, so that several uplinks share the work."""
    ring = (teller, *(peer for peer in holders if peer != teller))
    return [
        Wanted(shard, ring[i % len(ring) :] + ring[: i % len(ring)], shard.size, STATE_PROTOCOL)
        for i, shard in enumerate(shards)
    ]
