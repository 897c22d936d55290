"""Finding the stale copies of lost shards: who was to keep them, what they say, and the bytes.

A copy counts if a plan of the newest commits has had its signer send the shard to who keeps it.
What cannot be used is not tried again, nor what came with false bytes. Who is away for a moment is
waited for: its copy may be the last thing that is left of a stage.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable

from skerry.node.net.rpc_errors import translate
from skerry.node.run.calls import Call
from skerry.node.run.context import RunContext
from skerry.node.run.payloads import Payloads
from skerry.proto import peer_pb2 as pb
from skerry.protocol.codec import envelope_from_pb, open_shadow
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import CommitHash, PeerId, short
from skerry.protocol.layout import layout_of
from skerry.protocol.messages import SignedShadow
from skerry.protocol.quota import FALSE_STATE
from skerry.protocol.shadows import check_parts
from skerry.protocol.transport import CONTROL_PROTOCOL
from skerry.recovery.shadow_survey import HeldShadow, believed, keepers

_PATIENCE = 3


class ShadowFinder:
    """Asks for copies, and fetches them."""

    def __init__(self, context: RunContext, payloads: Payloads) -> None:
        """Know of none."""
        self._context, self._payloads = context, payloads
        self._numels = {spec.name: spec.numel for spec in layout_of(context.manifest.model)}
        self._silent: Counter[PeerId] = Counter()
        """How often in a row a holder has not answered."""
        self._withheld: Counter[str] = Counter()
        """How often a copy was not given, by the hash of its record."""
        self._useless: Counter[tuple[PeerId, str]] = Counter()
        """Copies of no use, by holder and shard."""
        self._given_up: set[str] = set()
        """Hashes of their records."""

    async def find(self, goal: CommitHash, shards: Collection[str]) -> tuple[HeldShadow, ...]:
        """Return the copies of some shards that are there, but for those that were given up.

        Raises: PeerUnavailable if a holder that counts as alive does not answer, a few times, or
            one is only doubted that may keep what nobody else does.
        """
        rounds, me = self._context.state.rounds, self._context.me
        plans = (plan for shard in shards for plan in keepers(rounds.chain, goal, shard))
        holders = {holder for pairs in plans for _, holder in pairs} - {me}
        asked = sorted(holders & rounds.alive)
        answers = await asyncio.gather(*(self._ask(peer, shards) for peer in asked))
        told = [
            HeldShadow(p, copy) for p, some in zip(asked, answers, strict=True) for copy in some
        ]
        own = self._context.store.shadows.copies.values()
        told += [HeldShadow(me, copy) for copy in own if copy.message.shard in shards]
        found = believed(rounds.chain, goal, filter(self._may_be_of_use, told))
        doubted = holders & rounds.suspects - rounds.alive
        if doubted and len({one.copy.message.shard for one in found}) < len(shards):
            name = short(min(doubted))
            raise PeerUnavailable("SK-NET-003", f"{name} may keep a copy, and may come back")
        return found

    async def fetch(self, held: HeldShadow) -> bool:
        """Get the parts of a copy into the blob store; say whether they are there.

        Raises: PeerUnavailable if its holder is away, a few times; StateError on a full disk.
        """
        parts = held.copy.message.parts
        if held.holder == self._context.me:
            await asyncio.to_thread(self._take_own, held)
            return True
        try:
            await self._payloads.fetch_parts(parts, held.holder)
        except PeerUnavailable:
            self._withheld[held.copy.hash] += 1
            if self._withheld[held.copy.hash] < _PATIENCE:
                raise
            self.give_up(held)
            return False
        except ProtocolError:
            self.give_up(held)
            return False
        return True

    def give_up(self, held: HeldShadow) -> None:
        """Never ask for this copy again; nor its holder, once it has had several of no use."""
        self._given_up.add(held.copy.hash)
        self._useless[held.holder, held.copy.message.shard] += 1

    def condemn(self, held: HeldShadow) -> None:
        """Give up a copy that came whole and is none: its author has signed it."""
        self.give_up(held)
        shard = held.copy.message.shard
        self._context.refuse(held.copy.signer, FALSE_STATE, f"its copy of {shard} is none")

    def forgive(self) -> None:
        """Ask again for what was only not to be had: there is nothing else to go on with."""
        self._silent.clear()
        for record in [one for one, times in self._withheld.items() if times >= _PATIENCE]:
            del self._withheld[record]
            self._given_up.discard(record)
        self._useless.clear()

    def _may_be_of_use(self, held: HeldShadow) -> bool:
        tries = self._useless[held.holder, held.copy.message.shard]
        return held.copy.hash not in self._given_up and tries < _PATIENCE

    def _take_own(self, held: HeldShadow) -> None:
        source, into = self._context.store.shadows.blobs, self._context.blobs
        for part in held.copy.message.parts:
            into.put(source.read(part.address))

    async def _ask(self, holder: PeerId, shards: Iterable[str]) -> list[SignedShadow]:
        """Return what a peer keeps; one that is silent too often in a row, or lies, keeps nothing.

        Raises: PeerUnavailable.
        """
        run_id, wanted = bytes.fromhex(self._context.run_id), sorted(shards)
        request = pb.ShadowsRequest(run_id=run_id, shards=wanted)
        found: list[SignedShadow] = []
        deadlines = self._context.deadlines
        try:
            with translate(holder):
                stub = self._context.client.stub(holder, CONTROL_PROTOCOL)
                stream = aiter(stub.Shadows(request))
                async for envelope in deadlines.answers(holder, Call.SHADOWS, stream):
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
        del self._silent[holder]
        return [copy for copy in found if copy.message.shard in wanted]

    def _checked(self, copy: SignedShadow) -> SignedShadow:
        if copy.message.run_id != self._context.run_id or copy.message.shard not in self._numels:
            raise ProtocolError("run", "a copy of another run's shard")
        check_parts(copy.message, self._numels[copy.message.shard])
        return copy
