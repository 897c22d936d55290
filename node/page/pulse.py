"""A signal that many wait for and that is given again and again."""

import asyncio


class Pulse:
    """Each ``wait`` returns at the next ``beat``; nothing is kept for those who do not wait."""

    def __init__(self) -> None:
        """Begin without a beat."""
        self._next = asyncio.Event()

    def beat(self) -> None:
        """Let everyone who waits go on."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the next beat."""
        await self._next.wait()
