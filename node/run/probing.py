"""Probes: how fast a member sends, where nothing large has come from it yet.

A probe is a few bytes that mean nothing. It is asked for only where a plan may need it (somebody
cannot host the whole model), one at a time, and given to members alone, each seldom.
"""

import asyncio
import logging
import time
from collections.abc import Iterator

from skerry.node.net.rpc_errors import translate
from skerry.node.run.context import RunContext
from skerry.node.run.peers import Peers
from skerry.proto import peer_pb2 as pb
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId, short
from skerry.protocol.transport import BULK_PROTOCOL

_LOG = logging.getLogger(__name__)
PROBE_BYTES = 256 * 1024
MAX_PROBE_BYTES = 1024 * 1024
CHUNK_BYTES = 64 * 1024
AGAIN_S = 600.0
"""Between two probes of the same peer, where the first came to nothing."""
GIVEN_S = 60.0
"""A peer that asks more often is refused."""
_SECONDS = 60.0
_PAUSE_BEATS = 2
"""Heartbeats between two probes."""


class Prober:
    """Asks members for probes."""

    def __init__(self, context: RunContext, peers: Peers) -> None:
        """Nobody was asked yet."""
        self._context, self._peers = context, peers
        self._asked: dict[PeerId, float] = {}

    async def keep_probing(self) -> None:
        """Probe one member after the other, until cancelled."""
        while True:
            peer = self._next(time.monotonic())
            if peer is not None:
                self._asked[peer] = time.monotonic()
                await self._try(peer)
            await asyncio.sleep(_PAUSE_BEATS * self._context.heartbeat_s)

    def _next(self, now: float) -> PeerId | None:
        """Return who is to be probed now."""
        links, rounds = self._context.facts.links, self._context.state.rounds
        enough = rounds.rules.chain.replica_bytes
        if all(m.message.offer.is_whole(enough) for m in rounds.members.values()):
            return None
        due = (
            peer
            for peer in sorted(self._peers.greeted & rounds.alive)
            if not links.has_rate(peer) and now >= self._asked.get(peer, -AGAIN_S) + AGAIN_S
        )
        return next(due, None)

    async def _try(self, peer: PeerId) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                await self.probe(peer)
        except (TimeoutError, PeerUnavailable) as error:
            _LOG.info("no probe from %s: %s", short(peer), error)
        except ProtocolError as error:
            self._context.refuse(peer, error.reason, error.detail)

    async def probe(self, peer: PeerId) -> None:
        """Measure how fast a peer sends. Raises: PeerUnavailable, ProtocolError."""
        request = pb.ProbeRequest(run_id=bytes.fromhex(self._context.run_id), size=PROBE_BYTES)
        began, first, received = 0.0, 0, 0
        with translate(peer), self._context.client.lane(peer, BULK_PROTOCOL) as stub:
            call = stub.Probe(request)
            try:
                async for chunk in call:
                    received += len(chunk.data)
                    if not 0 < len(chunk.data) <= CHUNK_BYTES or received > PROBE_BYTES:
                        raise ProtocolError("probe", f"{received} bytes of {PROBE_BYTES}")
                    if not began:
                        began, first = time.monotonic(), received
            finally:
                call.cancel()
        if received < PROBE_BYTES:
            raise ProtocolError("probe", f"it ended after {received} bytes of {PROBE_BYTES}")
        self._context.facts.received_from(peer, received)
        self._context.facts.links.received(peer, received - first, time.monotonic() - began)


def check_probe(given: dict[PeerId, float], peer: PeerId, size: int, now: float) -> None:
    """Note that a peer is given a probe.

    Raises: ProtocolError for more than a probe, or for another one too soon.
    """
    if not 0 < size <= MAX_PROBE_BYTES:
        raise ProtocolError("size", f"a probe of {size} bytes, at most {MAX_PROBE_BYTES}")
    if now < given.get(peer, -GIVEN_S) + GIVEN_S:
        raise ProtocolError("probe-rate", f"a second probe within {GIVEN_S:.0f} s")
    given[peer] = now


def probe_chunks(size: int) -> Iterator[pb.BlobChunk]:
    """Yield what answers a request for ``size`` bytes."""
    for left in range(size, 0, -CHUNK_BYTES):
        yield pb.BlobChunk(data=bytes(min(left, CHUNK_BYTES)))
