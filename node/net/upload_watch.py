"""An upload by a streaming call: each piece, and the answer at the end, waited for by itself.

How long all of it takes says nothing: it leaves at the pace of the spare uplink. That a piece is
not taken, or the whole not answered, says that nobody is there.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Generic, TypeVar

from skerry.node.net.call_deadlines import CallDeadlines, Kind, LateAnswer
from skerry.protocol.ids import PeerId

T = TypeVar("T")


class UploadWatch(Generic[Kind]):
    """Of one upload to one peer."""

    def __init__(
        self, deadlines: CallDeadlines[Kind], peer: PeerId, piece: Kind, answer: Kind
    ) -> None:
        """Wait for each ``piece`` and for the ``answer`` as for calls of these kinds."""
        self._deadlines, self._peer = deadlines, peer
        self._piece, self._answer = piece, answer
        self._timeout = asyncio.timeout(None)
        self._ended = False
        self._waits: tuple[Kind, float] | None = None
        """For what, and since when."""

    async def pieces(self, source: AsyncIterator[T]) -> AsyncIterator[T]:
        """Pass on the pieces of the upload; the time that ``source`` takes is not the peer's."""
        async for piece in source:
            self._wait_for(self._piece)
            yield piece
            self._came()
        self._wait_for(self._answer)

    async def answer(self, call: Awaitable[T]) -> T:
        """Wait for the call that takes the pieces. Raises: LateAnswer; what the call raises."""
        try:
            async with self._timeout:
                return await call
        except TimeoutError:
            self._came()
            raise LateAnswer(
                "SK-NET-003", f"{self._peer} has stopped taking what is sent"
            ) from None
        finally:
            self._ended = True

    def _wait_for(self, kind: Kind) -> None:
        if not self._ended:
            self._waits = kind, _now()
            seconds = self._deadlines.seconds(self._peer, kind)
            self._timeout.reschedule(_now() + seconds)

    def _came(self) -> None:
        if self._waits is not None:
            kind, since = self._waits
            self._deadlines.took(self._peer, kind, _now() - since)
            self._waits = None
        if not self._ended and not self._timeout.expired():
            self._timeout.reschedule(None)


def _now() -> float:
    return asyncio.get_running_loop().time()
