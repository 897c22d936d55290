"""Taking a stale copy of a shard from the host that the plan names, to keep it for whoever heals.

What the copy is comes first and is checked whole: who sends it, whether the plan has it sent here,
its size, what it builds upon. Only then is anything written, no more than was announced.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from skerry.node.run.context import RunContext
from skerry.proto import peer_pb2 as pb
from skerry.protocol.blobs import PartialBlob
from skerry.protocol.chunk_tree import CHUNK_BYTES
from skerry.protocol.codec import envelope_from_pb, open_shadow
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.layout import layout_of
from skerry.protocol.messages import SignedShadow
from skerry.protocol.rounds.renewing import MEMORY
from skerry.protocol.shadows import BUSY, EARLY, NO_BASE, check_parts, check_planned

_STALL_S = 120.0
"""For the next bytes; what sends them lets all else go first."""


class ShadowTaker:
    """Takes copies from one peer, one at a time."""

    def __init__(self, peer: PeerId) -> None:
        """Take from ``peer``."""
        self._peer = peer
        self._busy = False

    async def take(self, context: RunContext, chunks: AsyncIterator[pb.ShadowChunk]) -> None:
        """Take one copy. Raises: ProtocolError if it is refused, StateError on a full disk."""
        if self._busy:
            raise ProtocolError(BUSY, "another copy is on its way")
        self._busy = True
        try:
            copy = open_shadow(envelope_from_pb((await _next(chunks)).copy))
            self._check(context, copy)
            await self._receive(context, copy, chunks)
        finally:
            self._busy = False

    def _check(self, context: RunContext, copy: SignedShadow) -> None:
        message, rounds = copy.message, context.state.rounds
        if copy.signer != self._peer:
            raise ProtocolError("signature", "signed by another peer than the one that sent it")
        if message.run_id != context.run_id:
            raise ProtocolError("run", "of another run")
        sizes = {spec.name: spec.numel for spec in layout_of(context.manifest.model)}
        if message.shard not in sizes:
            raise ProtocolError("shards", f"{message.shard} is no shard of this run")
        check_planned(rounds.hosts.plan, message.shard, self._peer, context.me)
        check_parts(message, sizes[message.shard])
        if message.step > context.manifest.inner.steps:
            raise ProtocolError("range", f"{message.step} steps of one round")
        known = context.store.shadows.copies.get(message.shard)
        if known is not None and known.signer == self._peer and message.round < known.message.round:
            raise ProtocolError("stale-round", f"a newer copy of {message.shard} is here")
        if message.round > rounds.round + 1:
            raise ProtocolError(EARLY, f"of round {message.round}, this is {rounds.round}")
        if not context.store.shadows.has(copy, all_but=1):
            raise ProtocolError(NO_BASE, "what the difference is taken from is not here")

    async def _receive(
        self, context: RunContext, copy: SignedShadow, chunks: AsyncIterator[pb.ShadowChunk]
    ) -> None:
        last, store = copy.message.parts[-1], context.store.shadows
        partial = store.blobs.partial(last.address, last.size)
        try:
            await self._write(context, partial, last.size, chunks)
            oldest = context.state.rounds.round - MEMORY
            await asyncio.to_thread(store.keep, copy, partial, oldest)
        finally:
            partial.discard()  # of what was cut short nothing stays

    async def _write(
        self,
        context: RunContext,
        partial: PartialBlob,
        size: int,
        chunks: AsyncIterator[pb.ShadowChunk],
    ) -> None:
        while partial.offset < size:
            data = (await _next(chunks)).data
            if not 0 < len(data) <= CHUNK_BYTES:
                raise ProtocolError("chunk", f"a chunk of {len(data)} bytes")
            await asyncio.to_thread(partial.append, data)
            context.facts.received_bytes["shadow"] += len(data)
            context.facts.traffic[self._peer].received += len(data)


async def _next(chunks: AsyncIterator[pb.ShadowChunk]) -> pb.ShadowChunk:
    """Return the next chunk. Raises: ProtocolError("size") if there is none."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STALL_S):
            async for chunk in chunks:
                return chunk
    raise ProtocolError("size", "the copy was cut short")
