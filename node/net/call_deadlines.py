"""How long an answer is waited for: learnt from each peer's answers of that kind (DESIGN 11).

A fixed time would be too long for a neighbour that has died, and too short for one behind a slow
link. What was not answered in time counts as having taken as long as it was waited for, so that the
next deadline is longer, and a link that has become slow is not given up.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from skerry.protocol.deadline import AdaptiveDeadline
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId

_FACTOR = 6.0
_MOST = 4096
"""Peers and kinds remembered; who comes later takes the place of who has been known longest."""

T = TypeVar("T")
Kind = TypeVar("Kind", bound=Hashable)


class LateAnswer(PeerUnavailable):
    """A peer did not answer by the deadline; as far as is known it is still connected."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one kind of call, in seconds."""

    least: float
    most: float
    """Also what is waited for the first answer of a peer."""


class CallDeadlines(Generic[Kind]):
    """The deadlines of calls, by peer and by what is asked."""

    def __init__(self, bounds: Mapping[Kind, Bounds]) -> None:
        """Know nobody yet; a kind of call that is not in ``bounds`` is not made."""
        self._bounds = bounds
        self._known: dict[tuple[PeerId, Kind], AdaptiveDeadline] = {}

    def seconds(self, peer: PeerId, kind: Kind) -> float:
        """Return how long an answer would be waited for now."""
        return self._of(peer, kind).seconds

    def took(self, peer: PeerId, kind: Kind, seconds: float) -> None:
        """Take in how long an answer took, or was waited for in vain."""
        self._of(peer, kind).observe(seconds)

    async def answer(self, peer: PeerId, kind: Kind, call: Awaitable[T]) -> T:
        """Wait for ``call`` until its deadline. Raises: LateAnswer; what the call raises."""
        deadline = self._of(peer, kind)
        seconds, began = deadline.seconds, _now()
        try:
            async with asyncio.timeout(seconds):
                found = await call
        except TimeoutError:
            deadline.observe(seconds)
            raise LateAnswer("SK-NET-003", f"{peer}: no answer within {seconds:.3g} s") from None
        deadline.observe(_now() - began)
        return found

    async def answers(self, peer: PeerId, kind: Kind, stream: AsyncIterator[T]) -> AsyncIterator[T]:
        """Yield what a stream brings, each waited for by itself. Raises: as ``answer``."""
        while True:
            try:
                yield await self.answer(peer, kind, anext(stream))
            except StopAsyncIteration:
                return

    def _of(self, peer: PeerId, kind: Kind) -> AdaptiveDeadline:
        known = self._known.get((peer, kind))
        if known is None:
            if len(self._known) == _MOST:
                del self._known[next(iter(self._known))]
            bounds = self._bounds[kind]
            known = AdaptiveDeadline(bounds.least, bounds.most, _FACTOR)
            self._known[peer, kind] = known
        return known


def _now() -> float:
    return asyncio.get_running_loop().time()
