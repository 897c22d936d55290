"""A thread that runs trio, for a library that needs it, and the way there from asyncio."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import trio

from skerry.protocol.errors import PeerUnavailable, SkerryError

T = TypeVar("T")
Main = Callable[[Callable[[], None]], Awaitable[None]]
"""What the thread does; it calls its argument once when it is ready."""


class TrioThread:
    """One run of trio; make one with ``start``."""

    def __init__(self) -> None:
        """Use ``start`` instead."""
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._answers: set[asyncio.Future[Any]] = set()
        self._token: trio.lowlevel.TrioToken
        self._nursery: trio.Nursery
        self._thread: threading.Thread
        self.ended: asyncio.Future[BaseException | None] = self._loop.create_future()
        """Resolved with what ended the thread, None if its main function returned."""

    @classmethod
    async def start(cls, main: Main) -> "TrioThread":
        """Run ``main`` in a new thread; returns when it is ready. Raises: what it raises."""
        self = cls()
        self._thread = threading.Thread(target=self._run, args=(main,), name="trio")
        self._thread.start()
        either: set[asyncio.Future[Any]] = {self._ready, self.ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            error = await self.join()
            raise error or PeerUnavailable("SK-NET-003", "the network's thread has ended")
        return self

    async def call(self, work: Callable[[], Awaitable[T]], unwanted: Callable[[T], None]) -> T:
        """Await ``work`` in the thread; cancelling this cancels it there.

        A result that comes too late is given to ``unwanted``, in the thread of asyncio.
        Raises: the SkerryError of ``work``; PeerUnavailable if the thread has ended.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        scope = trio.CancelScope()

        def take(result: T | SkerryError) -> None:
            if isinstance(result, SkerryError):
                if not answer.done():
                    answer.set_exception(result)
            elif answer.done():
                unwanted(result)
            else:
                answer.set_result(result)

        async def carry_out() -> None:
            with scope:
                try:
                    result: T | SkerryError = await work()
                except SkerryError as error:
                    result = error
                self.tell(lambda: take(result))

        self._answers.add(answer)
        try:
            self.soon(lambda: self._nursery.start_soon(carry_out))
            return await answer
        except asyncio.CancelledError:
            self.soon(scope.cancel)
            raise
        finally:
            self._answers.discard(answer)

    def soon(self, work: Callable[[], None]) -> None:
        """Call ``work`` in the thread; if that has ended, waiting calls fail."""
        try:
            self._token.run_sync_soon(work)
        except trio.RunFinishedError:
            self._fail_answers()

    def tell(self, work: Callable[[], None]) -> None:
        """Call ``work`` in the thread of asyncio; callable from any thread."""
        with suppress(RuntimeError):  # its loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(work)

    async def join(self) -> BaseException | None:
        """Return what ended the thread, once it has ended."""
        error = await asyncio.shield(self.ended)
        self._thread.join()
        return error

    def _run(self, main: Main) -> None:
        ended: BaseException | None = None
        try:
            trio.run(self._main, main)
        except BaseException as error:  # the edge of the thread: asyncio must hear of it
            ended = _single(error)
        self.tell(lambda: self._end(ended))

    async def _main(self, main: Main) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await main(lambda: self.tell(self._be_ready))
            nursery.cancel_scope.cancel()

    def _be_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _end(self, error: BaseException | None) -> None:
        self.ended.set_result(error)
        self._fail_answers()

    def _fail_answers(self) -> None:
        for answer in self._answers:
            if not answer.done():
                detail = "the network's thread has ended"
                answer.set_exception(PeerUnavailable("SK-NET-003", detail))


def _single(error: BaseException) -> BaseException:
    """Return the one error in nested groups of one, else the group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
