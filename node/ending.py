"""The daemon's end: asked for once or twice, and bounded in time."""

import asyncio
import contextlib
import logging
import os

_LOG = logging.getLogger(__name__)
_END_SECONDS, _HASTY_SECONDS = 9.0, 1.0
"""How long the end may take when it was asked for once, and from the second time on."""


class Ending:
    """Whether the daemon is to end, how fast, and with which exit code."""

    def __init__(self) -> None:
        """Nothing is asked for yet."""
        self.asked = asyncio.Event()
        """Set when it was told to stop."""
        self.hastened = asyncio.Event()
        """Set when it was told to stop again."""
        self.exit_code = 0

    def ask(self) -> None:
        """End soon. Twice: at once."""
        if self.asked.is_set():
            self.hastened.set()
        self.asked.set()

    async def bound(self) -> None:
        """End the process when its end takes too long; the kernel ends its children with it.

        Nothing is lost by that: whatever is kept is written so that a power cut does it no harm.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self.hastened.wait()
                await asyncio.sleep(_HASTY_SECONDS)
        _LOG.warning("the daemon ends without waiting for its parts any longer")
        os._exit(self.exit_code)
