"""Answering what other peers ask about the way to us, within limits.

Whoever is connected may ask where we see it and be dialled back, at its own address alone. Holes
are punched only for members of the run, towards one endpoint that they name.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skerry.node.net.multiaddrs import Endpoint, Scope, endpoint_of, is_relayed
from skerry.node.net.tasks import OwnedTasks
from skerry.node.reach.asking import (
    ASK_SECONDS,
    NONCE_BYTES,
    REACH_PROTOCOL,
    read_message,
    write_message,
)
from skerry.node.reach.hole import answers, into, punch
from skerry.node.reach.mirror import open_mirror
from skerry.proto import reach_pb2 as pb
from skerry.protocol.ids import PeerId
from skerry.protocol.transport import ByteStream

if TYPE_CHECKING:  # it imports hivemind, which not every node has
    from skerry.node.net.p2pd import P2pdTransport

_LOG = logging.getLogger(__name__)
MAX_PORTS = 4
"""Ports dialled back for one question."""
MAX_AT_ONCE = 16
"""Questions, holes and mirrors at a time, of all peers together."""
MIN_GAP_SECONDS = 1.0
"""Between two questions of one peer and kind."""
_MAX_REMEMBERED = 1024
_DIAL_BACK_SECONDS = 4.0


@dataclass(slots=True)
class Gaps:
    """Who has just asked what."""

    _asked: dict[tuple[PeerId, str], float] = field(default_factory=dict)

    def allow(self, peer: PeerId, kind: str, now: float) -> bool:
        """Say whether ``peer`` may ask a question of this kind at ``now``; then it has."""
        recent = {key: at for key, at in self._asked.items() if now - at < MIN_GAP_SECONDS}
        allowed = (peer, kind) not in recent and len(recent) < _MAX_REMEMBERED
        self._asked = {**recent, (peer, kind): now} if allowed else recent
        return allowed


class ReachService:
    """The answering side of ``/skerry/reach/1``."""

    def __init__(
        self,
        transport: "P2pdTransport",
        outer: Callable[[], Endpoint | None],
        admits: Callable[[PeerId], bool],
    ) -> None:
        """Answer once started.

        Args:
            outer: returns where our own connections come from, if that is known.
            admits: says for whom holes are punched.
        """
        self._transport, self._outer, self._admits = transport, outer, admits
        self._gaps = Gaps()
        self._holes, self._mirrors = OwnedTasks(), OwnedTasks()
        self._busy = 0

    async def start(self) -> None:
        """Take questions from now on."""
        await self._transport.handle(REACH_PROTOCOL, self._serve)

    async def close(self) -> None:
        """Close all holes and mirrors; never raises."""
        await self._holes.cancel()
        await self._mirrors.cancel()

    async def _serve(self, stream: ByteStream) -> None:
        if self._busy >= MAX_AT_ONCE:
            return
        self._busy += 1
        try:
            async with asyncio.timeout(ASK_SECONDS):
                request = await read_message(stream, pb.ReachRequest)
                await write_message(stream, await self._answer(stream.peer, request))
        except TimeoutError:
            _LOG.info("%s asked too slowly about the way to us", stream.peer)
        finally:
            self._busy -= 1

    async def _answer(self, peer: PeerId, request: pb.ReachRequest) -> pb.ReachReply:
        kind = request.WhichOneof("ask") or "nothing"
        if not self._gaps.allow(peer, kind, time.monotonic()):
            return pb.ReachReply(refused="too-often")
        if request.HasField("look"):
            return pb.ReachReply(look=await self._look(peer, request.look.ports))
        return self._punch(peer, request.punch)

    async def _look(self, peer: PeerId, ports: Iterable[int]) -> pb.LookReply:
        seen = seen_at(await self._transport.daemon.client.connections(), peer)
        wanted = [port for port in dict.fromkeys(ports) if 0 < port < 2**16][:MAX_PORTS]
        dialled = [Endpoint(seen[-1].ip, port) for port in wanted] if seen else []
        answered = await asyncio.gather(*(answers(e, _DIAL_BACK_SECONDS) for e in dialled))
        free = len(self._mirrors) < MAX_AT_ONCE
        return pb.LookReply(
            seen=[str(endpoint) for endpoint in seen],
            answered=[e.port for e, ok in zip(dialled, answered, strict=True) if ok],
            mirror=await open_mirror(self._transport.daemon.options.host, self._mirrors)
            if free
            else 0,
        )

    def _punch(self, peer: PeerId, request: pb.PunchRequest) -> pb.ReachReply:
        target, outer = endpoint_of(request.outer), self._outer()
        if not self._admits(peer):
            return pb.ReachReply(refused="no-member")
        if target is None or target.scope is not Scope.PUBLIC or len(request.nonce) != NONCE_BYTES:
            return pb.ReachReply(refused="malformed")
        if outer is None or outer.ip.version != target.ip.version or len(self._holes) > MAX_AT_ONCE:
            return pb.ReachReply(refused="not-now")
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._holes.start(self._dig(target, nonce, request.nonce), f"hole to {peer}")
        return pb.ReachReply(punch=pb.PunchReply(outer=str(outer), nonce=nonce))

    async def _dig(self, target: Endpoint, say: bytes, hear: bytes) -> None:
        host, port = self._transport.daemon.options.host, self._transport.daemon.port
        hole = await punch(host, port, target, say, hear)
        if hole is not None:
            await into(hole, local_host(host), port)


def seen_at(connections: Iterable[tuple[PeerId, str]], peer: PeerId) -> list[Endpoint]:
    """Return where the direct connections of ``peer`` come from."""
    found = (endpoint_of(a) for name, a in connections if name == peer and not is_relayed(a))
    return [endpoint for endpoint in dict.fromkeys(found) if endpoint is not None]


def local_host(host: str) -> str:
    """Return where on this machine a server answers that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
