"""Tasks that live as long as their owner: none is forgotten, none outlives it, none fails unseen.

For owners that are opened and closed by calls from elsewhere, where no ``async with`` block can
hold a TaskGroup.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_LOG = logging.getLogger(__name__)


class OwnedTasks:
    """The running tasks of one owner."""

    def __init__(self) -> None:
        """Start with none."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelled = False

    def __len__(self) -> int:
        """How many are running."""
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``work``; an exception that it does not handle itself is logged as an error.

        After ``cancel`` it is cancelled before it begins: callbacks may come late.
        """
        task = asyncio.create_task(work, name=name)
        if self._cancelled:
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel(self) -> None:
        """Cancel all and return when all have ended; the calling task is left out."""
        self._cancelled = True
        others = self._tasks - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("%s failed", task.get_name(), exc_info=error)
