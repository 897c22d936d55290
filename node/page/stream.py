"""The event stream: what changed, for each reader from where that reader stands.

A reader holds nothing but two numbers: the last line of the log it was given and the revision
of the last change. What it has missed while it was slow is read again from the chronicle, so
any number of slow readers costs no memory, and one that comes back goes on where it was.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from pydantic import BaseModel

from skerry.node.page.chronicle import Chronicle
from skerry.node.page.desk import Desk
from skerry.node.page.models import Gap

MAX_READERS = 32
_TICK_S = 1.0
_GATHER_S = 0.1
"""Changes come in bursts; a burst is one piece."""
_KEEP_ALIVE_S = 15.0
_LINES_AT_ONCE = 200


@dataclass(slots=True)
class _Snapshot:
    """The newest state, shared by all readers."""

    at: float = float("-inf")
    run: str = ""
    run_with_join: str = ""
    peers: str = ""


class Streams:
    """All event streams of one page."""

    def __init__(self, desk: Desk) -> None:
        """Tell of what ``desk`` knows."""
        self._desk, self._snapshot = desk, _Snapshot()
        self._lock = asyncio.Lock()
        self.readers = 0
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End all streams soon."""
        self._closing.set()

    async def read(self, after: int | None, may_join: bool) -> AsyncIterator[str]:
        """Yield pieces of text/event-stream; ``after`` is the last id the reader has."""
        self.readers += 1
        try:
            chronicle = self._desk.chronicle
            reader = _Reader(chronicle, after)
            last_piece = time.monotonic()
            while not self._closing.is_set() and self._desk.chronicle is chronicle:
                pieces = await self._pieces(reader, may_join)
                if pieces:
                    last_piece = time.monotonic()
                    yield pieces
                elif time.monotonic() > last_piece + _KEEP_ALIVE_S:
                    last_piece = time.monotonic()
                    yield ": still here\n\n"
                if not reader.behind:
                    await self._wait(chronicle)
        finally:
            self.readers -= 1

    async def _pieces(self, reader: "_Reader", may_join: bool) -> str:
        snapshot = await self._newest()
        pieces: list[str] = []
        if snapshot.at != reader.seen_at:
            reader.seen_at = snapshot.at
            pieces.append(_piece("run", snapshot.run_with_join if may_join else snapshot.run))
            pieces.append(_piece("peers", snapshot.peers))
        pieces += await reader.news()
        return "".join(pieces)

    async def _newest(self) -> _Snapshot:
        """Return the state, made anew at most once a second however many readers there are."""
        async with self._lock:
            known = self._snapshot
            if time.monotonic() >= known.at + _TICK_S * 0.9:
                desk = self._desk
                peers = await desk.peers_answer()
                self._snapshot = _Snapshot(
                    at=time.monotonic(),
                    run=desk.run_answer(may_join=False).model_dump_json(),
                    run_with_join=desk.run_answer(may_join=True).model_dump_json(),
                    peers=peers.model_dump_json(),
                )
            return self._snapshot

    async def _wait(self, chronicle: Chronicle | None) -> None:
        """Wait for a change or the next tick, whichever is first."""
        if chronicle is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _TICK_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_TICK_S):
                await chronicle.pulse.wait()
                await asyncio.sleep(_GATHER_S)


class _Reader:
    """Where one reader stands in one run."""

    def __init__(self, chronicle: Chronicle | None, after: int | None) -> None:
        self._chronicle = chronicle
        self._gap = None
        newest = chronicle.last_id if chronicle else 0
        self._line = newest if after is None else after
        self._revision = chronicle.revision if chronicle else 0
        if after is not None and after > newest:
            self._gap, self._line = Gap(after=after, next=newest + 1), newest
        self.seen_at = float("-inf")
        self.behind = False
        """Whether there are more lines than were given at once."""

    async def news(self) -> list[str]:
        """Return what changed since the last call."""
        chronicle = self._chronicle
        if chronicle is None:
            return []
        pieces = []
        if self._gap is not None:
            pieces.append(_piece("gap", self._gap))
            self._gap = None
        changed = chronicle.changed_since(self._revision)
        self._revision = changed.revision
        pieces += [_piece("round", row) for row in changed.rounds]
        pieces += [_piece("timeline", entry) for entry in changed.timeline]
        return pieces + await self._lines(chronicle)

    async def _lines(self, chronicle: Chronicle) -> list[str]:
        lines = await chronicle.log_after(self._line, _LINES_AT_ONCE)
        self.behind = len(lines) == _LINES_AT_ONCE
        pieces = []
        if lines and lines[0].id > self._line + 1:
            pieces.append(_piece("gap", Gap(after=self._line, next=lines[0].id)))
        for line in lines:
            pieces.append(_piece("log", line, line.id))
            self._line = line.id
        return pieces


def _piece(event: str, data: BaseModel | str, number: int | None = None) -> str:
    """Return one event; JSON holds no line break, so it is one line of data."""
    text = data if isinstance(data, str) else data.model_dump_json()
    return (f"id: {number}\n" if number is not None else "") + f"event: {event}\ndata: {text}\n\n"
