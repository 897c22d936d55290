"""A peer whose own words are markup; admitted like any other, in a thread of its own."""

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hostile_peer import HostilePeer

from skerry.protocol.ids import PeerId
from skerry.protocol.messages import SignedMember

MARKUP = '<img src=x onerror="globalThis.hacked=1"><b>bold</b>'
PATIENCE_S = 240.0


class _Shouting(HostilePeer):
    def record(self, **changes: Any) -> SignedMember:
        return super().record(agent=MARKUP, **changes)


class HostileMember:
    """A context: inside it the peer is a member and beats."""

    def __init__(self, folder: Path, token: str) -> None:
        self._folder, self._token = folder, token
        self._inside, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self.peer_id = PeerId("")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._inside.wait(PATIENCE_S), "the peer was not admitted"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave.set()
        self._thread.join(PATIENCE_S)

    async def _live(self) -> None:
        peer = await _Shouting.create(self._folder, self._token)
        try:
            await peer.enter()
            self.peer_id = peer.me
            self._inside.set()
            async with asyncio.TaskGroup() as group:
                beating = group.create_task(peer.beat())
                await asyncio.to_thread(self._leave.wait)
                beating.cancel()
        finally:
            await peer.close()
