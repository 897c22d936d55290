"""Where the compute process begins: parameters that are here, or others', and moments with them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from skerry.node.run.compute import ComputeProcess
from skerry.node.run.context import RunContext
from skerry.node.run.disk import DiskWriter
from skerry.node.run.healing import Healer
from skerry.node.run.moments import MomentsTaker
from skerry.protocol import compute as cp
from skerry.protocol.errors import SkerryError, StateError
from skerry.protocol.ids import Digest, PeerId
from skerry.protocol.messages import ShardPayload
from skerry.protocol.moments import Moments
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev

_LOG = logging.getLogger(__name__)
_MOMENTS_S, _MOMENTS_FACTOR = 30.0, 3.0
"""How long moments may take: until a host has written them, and beside the parameters."""


class Ask(Protocol):
    """Puts a request to the compute process, and its reply to ``then``."""

    def __call__(
        self,
        build: Callable[[int], cp.Request],
        then: Callable[[cp.Reply], None],
        damaged: Callable[[], None] | None = None,
    ) -> None:
        """Call ``damaged`` if what the process was given was damaged on this disk."""


class Loading:
    """Brings states into the compute process."""

    def __init__(
        self,
        context: RunContext,
        healer: Healer,
        moments: MomentsTaker,
        disk: DiskWriter,
        ask: Ask,
        compute: Callable[[], ComputeProcess | None],
    ) -> None:
        """Put requests by ``ask`` to the process that ``compute`` returns."""
        self._context, self._healer, self._moments, self._disk = context, healer, moments, disk
        self._ask, self._compute = ask, compute
        self._seasoned: tuple[ComputeProcess | None, int] = (None, 0)
        """The process whose optimizer has moments, and in which round it had."""

    def trained(self) -> None:
        """Note that the present process has moments of its own."""
        self._seasoned = (self._compute(), self._round)

    @property
    def _round(self) -> int:
        return self._context.state.rounds.round

    @property
    def _has_moments(self) -> bool:
        """Whether the present process has moments that it would keep (pipeline/exchange.py)."""
        process, number = self._seasoned
        is_near = abs(self._round - number) <= self._context.manifest.round.replay
        return is_near and process is self._compute()

    def begin(
        self,
        digest: Digest | None,
        shards: tuple[ShardPayload, ...] | None,
        moments: dict[PeerId, Moments] | None = None,
    ) -> None:
        """Start from ``shards`` with ``moments`` by who gave them; None if they are not wanted."""
        taken = tuple(one for some in (moments or {}).values() for one in some)
        self._ask(
            lambda n: cp.Begin(request=n, shards=shards, moments=taken, round=self._round),
            lambda reply: self._on_ready(reply, moments),
            damaged=lambda: self._context.post(ev.StateFailed(digest)),
        )

    async def download(self, action: act.LoadState | act.Renew) -> None:
        """Take a state from whoever has it; what nobody has is made anew."""
        compute, digest, moments = self._compute(), None, None
        try:
            if isinstance(action, act.Renew):
                shards = await self._healer.renew(action)
            else:
                digest, began = action.digest, _now()
                shards = await self._healer.copy(action)
                if not self._has_moments:
                    moments = await self._take_moments(shards, action.holders, _now() - began)
        except StateError as error:
            self._disk.failed(error)
        except SkerryError as error:
            _LOG.info("state: %s", error)
        else:
            if compute is self._compute():
                self.begin(digest, shards, moments)
            return
        if compute is self._compute():  # a new process has a new plan, and perhaps the same state
            self._context.post(ev.StateFailed(digest))

    async def _take_moments(
        self, shards: tuple[ShardPayload, ...], holders: Sequence[PeerId], took_s: float
    ) -> dict[PeerId, Moments]:
        """Return moments of parameters that took so long to come; none if they take much longer.

        They are as large, and training goes on without them: nobody can keep it waiting by them.
        """
        try:
            async with asyncio.timeout(_MOMENTS_S + _MOMENTS_FACTOR * took_s):
                return await self._moments.take(shards, holders)
        except TimeoutError:
            _LOG.info("moments: they took too long")
            return {}

    def _on_ready(self, reply: cp.Reply, moments: dict[PeerId, Moments] | None) -> None:
        assert isinstance(reply, cp.Ready)
        if reply.has_moments:
            self.trained()
        if moments is not None or reply.is_restored:
            self._note_moments(reply, list(moments or {}))
        self._context.facts.compute = "ready"
        self._context.post(ev.StateLoaded(ev.LocalState(reply.digest, reply.shards)))

    def _note_moments(self, reply: cp.Ready, givers: list[PeerId]) -> None:
        source = "peers" if reply.has_moments else "none"
        self._context.journal.write(
            "moments",
            taken=reply.has_moments,
            source="own disk" if reply.is_restored else source,
            givers=givers,
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
