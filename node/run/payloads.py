"""The blobs of a run: getting contributions and states from other peers, offering our own."""

import asyncio
import logging
import time
from functools import partial

from skerry.node.net.fetch import Fetcher, Sources, Wanted
from skerry.node.run.context import RunContext
from skerry.node.run.disk import DiskWriter, Kept
from skerry.pipeline.codecs import payload_limits
from skerry.protocol.blobs import recheck_blobs
from skerry.protocol.errors import PeerUnavailable, ProtocolError, StateError
from skerry.protocol.ids import PeerId, short
from skerry.protocol.layout import layout_of
from skerry.protocol.messages import ShardPayload, ShardState
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.transport import STATE_PROTOCOL

_LOG = logging.getLogger(__name__)
UNAVAILABLE = "unavailable"


class Payloads:
    """What effects.py needs of the blob store and of those who have blobs."""

    def __init__(self, context: RunContext, fetcher: Fetcher, disk: DiskWriter) -> None:
        """Fetch by ``fetcher``; a full disk is told to ``disk``."""
        self._context, self._fetcher, self._disk = context, fetcher, disk
        self._limits = dict(payload_limits(context.manifest))
        self._sizes = {spec.name: spec.state_bytes for spec in layout_of(context.manifest.model)}

    async def fetch(self, shards: tuple[ShardPayload, ...], holders: tuple[PeerId, ...]) -> str:
        """Return why a contribution's payloads could not be fetched; empty if they are here."""
        others = tuple(peer for peer in dict.fromkeys(holders) if peer != self._context.me)
        wanted = [Wanted(shard, others, self._limits[shard.shard]) for shard in shards]
        await asyncio.to_thread(recheck_blobs, self._context.blobs, [s.address for s in shards])
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

    async def gather(self, action: act.Gather) -> None:
        """Fetch what is missing of a commit, within the grace period."""
        try:
            async with asyncio.timeout(self._context.manifest.round.grace):
                for contribution in action.contributions:
                    holders = _author_first(contribution.author, action.holders)
                    if await self.fetch(contribution.shards, holders):
                        break
                else:
                    self._context.post(ev.Gathered(action.commit, complete=True))
                    return
        except TimeoutError:
            _LOG.info("payloads of commit %s did not come in time", short(action.commit))
        self._context.post(ev.Gathered(action.commit, complete=False))

    async def fetch_state(
        self, wanted: tuple[ShardState, ...], holders: tuple[PeerId, ...]
    ) -> tuple[tuple[ShardPayload, ...], Sources]:
        """Get the parameters of some shards. Raises: SkerryError.

        Returns: where they lie, and how many bytes have come from whom.
        """
        facts = self._context.facts
        shards = tuple(ShardPayload(w.shard, w.address, self._sizes[w.shard]) for w in wanted)
        facts.state_wanted = shards
        try:
            sources = await self._fetcher.fetch_all(self._spread(shards, holders))
        finally:
            facts.state_wanted = ()
        facts.received_bytes["state"] += sources.total()
        return shards, sources

    async def fetch_parts(self, parts: tuple[ShardPayload, ...], holder: PeerId) -> None:
        """Get the parts of a stale copy, whose sizes were checked. Raises: SkerryError."""
        sources = await self._fetcher.fetch_all(
            [Wanted(part, (holder,), part.size, STATE_PROTOCOL) for part in parts]
        )
        self._context.facts.received_bytes["state"] += sources.total()

    def _spread(
        self, shards: tuple[ShardPayload, ...], holders: tuple[PeerId, ...]
    ) -> list[Wanted]:
        """Ask another host first for each shard, so that several uplinks share the work."""
        found: list[Wanted] = []
        for i, shard in enumerate(shards):
            able = self._hosts(shard, holders)
            others = [peer for peer in holders if peer not in able]  # it may have hosted it before
            turn = i % max(1, len(able))
            order = (*able[turn:], *able[:turn], *others)
            later = partial(self._hosts_now, shard)
            found.append(Wanted(shard, order, shard.size, STATE_PROTOCOL, later))
        return found

    def _hosts_now(self, shard: ShardPayload) -> list[PeerId]:
        """Return who is alive and hosts a shard: more than those known when its fetch began."""
        return self._hosts(shard, self._context.state.rounds.others)

    def _hosts(self, shard: ShardPayload, peers: tuple[PeerId, ...]) -> list[PeerId]:
        hosts = self._context.state.rounds.hosts
        return [peer for peer in peers if shard.shard in hosts.shards_of(peer)]

    def keep(self, action: Kept) -> None:
        """Begin to write or tidy; what others may still be fetching stays a while."""
        context = self._context
        given = context.given.addresses(context.state.rounds.round)
        if isinstance(action, act.StoreStates):
            states = [frozenset(x.address for x in s.shards) for s in action.states]
            context.leases.offer([*states, given] if given else states)
            for state in action.states:
                self.offer(state.shards, is_state=True)
        elif isinstance(action, act.Retain):
            kept = context.leases.retain(action.addresses | given, time.monotonic())
            action = act.Retain(kept)
            context.served = {a: x for a, x in context.served.items() if a in action.addresses}
        self._disk.write(action)

    def offer(self, shards: tuple[ShardPayload, ...], is_state: bool) -> None:
        """Note what others may ask for, to count what is sent."""
        for shard in shards:
            self._context.served[shard.address] = (shard, is_state)


def _author_first(author: PeerId, live: tuple[PeerId, ...]) -> tuple[PeerId, ...]:
    """Return whom to ask for a contribution: a live author is sure to have it.

    A dead one comes last: waiting for its answer could use up the time that the others need.
    """
    return (author, *live) if author in live else (*live, author)
