"""The event log: one JSON object a line, for people and tools.

Kept in the home as events.jsonl, turned over once it is large, so that a daemon that runs for
months does not fill the disk. ``follow`` hands new lines to whoever listens.
"""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from skerry.node.run.frame_file import append
from skerry.protocol.errors import StateError

_LOG = logging.getLogger(__name__)
MAX_BYTES = 16 * 2**20
_KEPT_LINES = 1_000
"""Held in memory; older ones are read from the file."""
_QUEUE_LINES = 1_000
"""A listener that is so far behind misses lines rather than holding memory."""


class Journal:
    """Writes events; never raises because of the disk: a full disk must not stop a run."""

    def __init__(self, path: Path) -> None:
        """Append to ``path``."""
        self._path = path
        self._listeners: set[asyncio.Queue[str]] = set()
        self._recent = deque(self._read(_KEPT_LINES), maxlen=_KEPT_LINES)

    def write(self, event: str, **details: object) -> None:
        """Add one line; ``time`` is unix seconds."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **details}, default=str)
        self._recent.append(line)
        self._append(line)
        for queue in self._listeners:
            with suppress(asyncio.QueueFull):
                queue.put_nowait(line)

    def last(self, count: int) -> list[str]:
        """Return the newest lines, oldest first."""
        recent = list(self._recent)
        if count > len(recent) == _KEPT_LINES:
            recent = [*self._before(recent[0], count), *recent]
        return recent[-count:] if count else []

    async def follow(self, last: int = 0) -> AsyncGenerator[str, None]:
        """Yield the newest lines, then those to come; none is missed in between."""
        queue: asyncio.Queue[str] = asyncio.Queue(_QUEUE_LINES)
        recent = self.last(last)
        self._listeners.add(queue)
        try:
            for line in recent:
                yield line
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    def _before(self, line: str, count: int) -> list[str]:
        """Return up to ``count`` lines of the files; those a full disk kept out are not there."""
        try:
            older = self._read(count)
        except OSError as error:
            _LOG.warning("the event log cannot be read: %s", error)
            return []
        return older[: older.index(line)] if line in older else older

    def _read(self, count: int) -> list[str]:
        newest: deque[str] = deque(maxlen=count)
        for path in (self._old, self._path):
            with suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
                newest.extend(line.rstrip("\n") for line in file)
        return list(newest)

    @property
    def _old(self) -> Path:
        return self._path.with_suffix(".old.jsonl")

    def _append(self, line: str) -> None:
        data = f"{line}\n".encode()
        try:
            if append(self._path, data) + len(data) > MAX_BYTES:
                self._path.replace(self._old)
        except (OSError, StateError) as error:
            _LOG.warning("the event log cannot be written: %s", error)
