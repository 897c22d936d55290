"""The optimizer's moments of peers that train, for one whose compute process has none.

A source offers what it has when it is asked; it writes them once per round at most, whoever asks.
Who has downloaded parameters asks their hosts, takes the moments of each shard from the first that
offers any, and warms up if some are not to be had. What is in them is checked by the compute
process (pipeline/moments.py).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from skerry.node.net.rpc_errors import translate
from skerry.node.run.calls import Call
from skerry.node.run.context import Given, RunContext
from skerry.node.run.payloads import Payloads
from skerry.proto import peer_pb2 as pb
from skerry.protocol import compute as cp
from skerry.protocol.codec import payloads_from_pb
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId, short
from skerry.protocol.messages import ShardPayload
from skerry.protocol.moments import GiveMoments, Moments, MomentsGiven, ShardMoments
from skerry.protocol.transport import CONTROL_PROTOCOL

_LOG = logging.getLogger(__name__)
_MOST_ASKED = 16

Put = Callable[[Callable[[int], cp.Request]], Awaitable[cp.Reply]]
"""Puts a request to the compute process."""


class MomentsGiver:
    """Has the moments written when somebody asks for them."""

    def __init__(self, context: RunContext, put: Put) -> None:
        """Have the compute process write them, which is asked by ``put``."""
        self._context, self._put = context, put
        self._lock = asyncio.Lock()

    async def give(self) -> Moments:
        """Return where they lie; written upon the same commit, they are not written again.

        Raises: SkerryError.
        """
        async with self._lock:
            rounds = self._context.state.rounds
            if self._context.given.at != rounds.at:
                at, number = rounds.at, rounds.round
                reply = await self._put(lambda n: GiveMoments(request=n))
                assert isinstance(reply, MomentsGiven)
                self._context.given = Given(at, number, reply.moments)
            return self._context.given.moments


class MomentsTaker:
    """Gets moments for parameters that were downloaded."""

    def __init__(self, context: RunContext, payloads: Payloads) -> None:
        """Fetch by ``payloads``."""
        self._context, self._payloads = context, payloads

    async def take(
        self, shards: Sequence[ShardPayload], holders: Sequence[PeerId]
    ) -> dict[PeerId, Moments]:
        """Return the moments of all ``shards``, now here, by who gave them; else nothing.

        Raises: StateError on a full disk.
        """
        left = {shard.shard: shard.size for shard in shards}
        hosts = self._context.state.rounds.hosts
        able = [peer for peer in holders if not left.keys().isdisjoint(hosts.shards_of(peer))]
        offered: dict[PeerId, Moments] = {}
        for holder in able[:_MOST_ASKED]:
            if not left.keys().isdisjoint(hosts.shards_of(holder)):
                some = await self._offer(holder, left)
                offered |= {holder: some} if some else {}
                for one in some:
                    del left[one.payload.shard]
        if left:
            return {}
        try:
            for holder, some in offered.items():
                await self._payloads.fetch_parts(tuple(one.payload for one in some), holder)
        except (PeerUnavailable, ProtocolError) as error:
            _LOG.info("moments: %s", error)
            return {}
        return offered

    async def _offer(self, holder: PeerId, left: dict[str, int]) -> Moments:
        """Return what a peer offers of the shards in ``left``, which says how large they are."""
        request = pb.MomentsRequest(run_id=bytes.fromhex(self._context.run_id))
        deadlines = self._context.deadlines
        try:
            with translate(holder):
                stub = self._context.client.stub(holder, CONTROL_PROTOCOL)
                asking = stub.Moments(request)
                reply: pb.MomentsReply = await deadlines.answer(holder, Call.MOMENTS, asking)
            payloads = payloads_from_pb(list(reply.moments))
        except (PeerUnavailable, ProtocolError) as error:
            _LOG.info("%s offers no moments: %s", short(holder), error)
            return ()
        pairs = zip(payloads, reply.steps, strict=False)
        sound = {p.shard: ShardMoments(p, n) for p, n in pairs if left.get(p.shard) == p.size}
        return tuple(sound.values())
