"""Finding the stale copies of lost shards: who was to keep them, what they say, and the bytes.

A copy counts if a plan of the newest commits has had its signer send the shard to who keeps it.
What could not be had, or not be used, is not tried again.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable

from skerry.node.net.rpc_errors import translate
from skerry.node.run.context import RunContext
from skerry.node.run.payloads import Payloads
from skerry.proto import peer_pb2 as pb
from skerry.protocol.codec import envelope_from_pb, open_shadow
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.layout import layout_of
from skerry.protocol.messages import SignedShadow
from skerry.protocol.shadows import check_parts
from skerry.protocol.transport import CONTROL_PROTOCOL
from skerry.recovery.shadow_survey import HeldShadow, keepers

_CALL_S = 10.0
_PATIENCE = 3


class ShadowFinder:
    """Asks for copies, and fetches them."""

    def __init__(self, context: RunContext, payloads: Payloads) -> None:
        """Know of none."""
        self._context, self._payloads = context, payloads
        self._numels = {spec.name: spec.numel for spec in layout_of(context.manifest.model)}
        self._silent: Counter[PeerId] = Counter()
        """How often a holder has not answered."""
        self._useless: set[tuple[PeerId, str]] = set()
        """Holders and the hashes of records that they could not make good."""

    async def find(self, goal: CommitHash, shards: Collection[str]) -> tuple[HeldShadow, ...]:
        """Return the copies of some shards that are there, but for those that were given up.

        Raises: PeerUnavailable if a holder that counts as alive does not answer, a few times.
        """
        rounds = self._context.state.rounds
        planned = {shard: keepers(rounds.chain, goal, shard) for shard in shards}
        holders = {holder for pairs in planned.values() for _, holder in pairs}
        me = self._context.me
        asked = sorted(holders & rounds.alive - {me})
        answers = await asyncio.gather(*(self._ask(peer, shards) for peer in asked))
        told = [(peer, copy) for peer, some in zip(asked, answers, strict=True) for copy in some]
        told += [(me, copy) for copy in self._context.store.shadows.copies.values()]
        return tuple(
            HeldShadow(holder, copy)
            for holder, copy in told
            if (copy.signer, holder) in planned.get(copy.message.shard, ())
            and (holder, copy.hash) not in self._useless
        )

    async def fetch(self, held: HeldShadow) -> bool:
        """Get the parts of a copy into the blob store; say whether they are there.

        Raises: StateError on a full disk.
        """
        parts = held.copy.message.parts
        if held.holder == self._context.me:
            await asyncio.to_thread(self._take_own, held)
            return True
        try:
            await self._payloads.fetch_parts(parts, held.holder)
        except (PeerUnavailable, ProtocolError):
            self.give_up(held)
            return False
        return True

    def give_up(self, held: HeldShadow) -> None:
        """Never ask for this copy again."""
        self._useless.add((held.holder, held.copy.hash))

    def _take_own(self, held: HeldShadow) -> None:
        source, into = self._context.store.shadows.blobs, self._context.blobs
        for part in held.copy.message.parts:
            into.put(source.read(part.address))

    async def _ask(self, holder: PeerId, shards: Iterable[str]) -> list[SignedShadow]:
        """Return what a peer keeps; one that is silent too often, or lies, keeps nothing.

        Raises: PeerUnavailable.
        """
        run_id, wanted = bytes.fromhex(self._context.run_id), sorted(shards)
        request = pb.ShadowsRequest(run_id=run_id, shards=wanted)
        found: list[SignedShadow] = []
        try:
            with translate(holder):
                stub = self._context.client.stub(holder, CONTROL_PROTOCOL)
                async for envelope in stub.Shadows(request, timeout=_CALL_S):
                    found.append(self._checked(open_shadow(envelope_from_pb(envelope))))
                    if len(found) >= len(wanted):
                        break
        except PeerUnavailable:
            self._silent[holder] += 1
            if self._silent[holder] < _PATIENCE:
                raise  # it is there: what it keeps is worth another try
            return []
        except ProtocolError as error:
            self._context.refuse(holder, error.reason, error.detail)
            return []
        return [copy for copy in found if copy.message.shard in wanted]

    def _checked(self, copy: SignedShadow) -> SignedShadow:
        if copy.message.run_id != self._context.run_id or copy.message.shard not in self._numels:
            raise ProtocolError("run", "a copy of another run's shard")
        check_parts(copy.message, self._numels[copy.message.shard])
        return copy
