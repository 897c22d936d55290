"""Getting from a relayed connection to a direct one: by an address that answers, or by a hole.

A connection is ended only when the better way to the peer is known to be open.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from skerry.node.net.dialling import to_probe
from skerry.node.net.multiaddrs import endpoint_of, is_relayed
from skerry.node.net.tasks import OwnedTasks
from skerry.node.reach.asking import NONCE_BYTES, ask_to_punch
from skerry.node.reach.hole import answers, open_door, punch
from skerry.node.reach.nat import Standing
from skerry.node.reach.punching import PunchBook
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId, short

if TYPE_CHECKING:  # it imports hivemind, which not every node has
    from skerry.node.net.p2pd import P2pdTransport

_LOG = logging.getLogger(__name__)
_PROBE_SECONDS = 2.0


class Upgrades:
    """The tries of one node, each in a task of its own."""

    def __init__(
        self, transport: "P2pdTransport", tasks: OwnedTasks, on_direct: Callable[[], None]
    ) -> None:
        """Run tries in ``tasks``; ``on_direct`` is told that one was successful."""
        self._transport, self._tasks, self._on_direct = transport, tasks, on_direct
        self._book = PunchBook()
        self._trying: set[PeerId] = set()

    def try_due(self, relayed: Mapping[PeerId, tuple[str, ...]], standing: Standing) -> None:
        """Begin the tries that are due; ``relayed`` peers with the addresses they announce."""
        for peer in self._book.due(relayed, standing.nat, time.monotonic()):
            if peer not in self._trying:
                self._trying.add(peer)
                trying = self._tasks.start(
                    self._try(peer, relayed[peer], standing), f"direct way to {peer}"
                )
                trying.add_done_callback(partial(self._tried, peer))

    def _tried(self, peer: PeerId, trying: asyncio.Task[None]) -> None:
        self._trying.discard(peer)

    async def _try(self, peer: PeerId, addresses: tuple[str, ...], standing: Standing) -> None:
        try:
            if await self._dial(peer, addresses) or await self._dig(peer, standing):
                self._book.succeeded(peer, time.monotonic())
                self._on_direct()
                return
        except (PeerUnavailable, ProtocolError) as error:
            _LOG.info("no direct way to %s: %s", short(peer), error)
        self._book.failed(peer, time.monotonic())

    async def _dial(self, peer: PeerId, addresses: tuple[str, ...]) -> bool:
        """Connect anew if an address of the peer answers after all."""
        own = {e.ip for a in self._transport.daemon.addresses if (e := endpoint_of(a))}
        targets = to_probe(addresses, own)
        answered = await asyncio.gather(*(answers(e, _PROBE_SECONDS) for e in targets))
        open_ = tuple(str(e) for e, ok in zip(targets, answered, strict=True) if ok)
        return bool(open_) and await self._reconnect(peer, open_)

    async def _dig(self, peer: PeerId, standing: Standing) -> bool:
        """Punch a hole; of two peers the one with the lower id begins, and the other answers."""
        if standing.outer is None or self._transport.peer_id > peer:
            return False
        say = secrets.token_bytes(NONCE_BYTES)
        target, hear = await ask_to_punch(self._transport, peer, standing.outer, say)
        hole = await punch(
            self._transport.daemon.options.host, self._transport.daemon.port, target, say, hear
        )
        if hole is None:
            return False
        _LOG.info("a hole is open to %s at %s", short(peer), target)
        return await self._reconnect(peer, (await open_door(hole, self._tasks),))

    async def _reconnect(self, peer: PeerId, addresses: tuple[str, ...]) -> bool:
        """End what leads over the relay and connect directly; say whether that is so now."""
        await self._transport.disconnect(peer)
        await self._transport.connect(peer, addresses)
        ways = [
            is_relayed(a) for p, a in await self._transport.daemon.client.connections() if p == peer
        ]
        if not all(ways) and any(ways):  # the peer was faster over the relay: let its streams move
            self._transport.cut(peer)
        return not all(ways)
