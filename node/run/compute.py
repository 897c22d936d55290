"""The node's side of its compute process: start it, ask it, notice its end.

The process is spawned anew, never forked from this one, and shares nothing with it but a socket
pair and the blob store. protocol/compute.py says what the two tell each other.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from skerry.protocol.compute import (
    Failed,
    Hello,
    Progress,
    Reply,
    Request,
    Stop,
    decode_reply,
    encode_request,
    frame_length,
)
from skerry.protocol.errors import ComputeError, SkerryError, from_code
from skerry.protocol.launch import Launch

_LOG = logging.getLogger(__name__)
_START_SECONDS = 300.0
"""A cold start imports torch and reads the corpus, perhaps on a busy machine."""
_STOP_SECONDS = 5.0
_HEADER_BYTES = 4


class ComputeProcess:
    """One running compute process; make one with ``start``."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        on_progress: Callable[[Progress], None],
    ) -> None:
        """Use ``start`` instead."""
        self._process = process
        self._reader, self._writer = streams
        self._on_progress = on_progress
        self._number = 0
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        self._ended = False

    @classmethod
    async def start(
        cls, launch: Launch, log_file: Path, on_progress: Callable[[Progress], None]
    ) -> tuple["ComputeProcess", Hello]:
        """Start a process and wait for its first word.

        Raises: SkerryError as the process reports it (no text, too little memory),
        ComputeError("SK-CMP-001") if it ends without a word.
        """
        ours, theirs = socket.socketpair()
        with theirs, log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "skerry.pipeline.worker"),
                *(launch.to_json(), str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self = cls(process, await asyncio.open_connection(sock=ours), on_progress)
        async with contextlib.AsyncExitStack() as unless_started:
            unless_started.push_async_callback(self.kill)
            try:
                async with asyncio.timeout(_START_SECONDS):
                    hello = await self._greeting()
            except TimeoutError:
                raise ComputeError("SK-CMP-001", "the compute process does not start") from None
            unless_started.pop_all()
        return self, hello

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def submit(self, build: Callable[[int], Request]) -> asyncio.Future[Reply]:
        """Send a request at once and return its reply to be.

        The future raises the error that the process reports, or ComputeError("SK-CMP-001")
        if the process ends first.
        """
        self._number += 1
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[self._number] = future
        self.tell(build(self._number))
        if self._ended:
            self._fail_pending()
        return future

    def tell(self, request: Request) -> None:
        """Send a request that has no reply of its own."""
        if not self._writer.is_closing():
            self._writer.write(encode_request(request))

    async def serve(self) -> None:
        """Hand replies to those who wait for them, until the process ends; cancelled, end it.

        What the process has to keep is on disk, whole, whenever it is killed.
        """
        try:
            while True:
                self._take(await self._read())
        except (asyncio.IncompleteReadError, ConnectionError, ComputeError) as error:
            _LOG.info("the compute process has ended: %r", error)
        finally:
            await self.kill()

    async def stop(self) -> None:
        """End the process in good order, by force if it does not listen."""
        self.tell(Stop())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        await self.kill()

    async def retire(self) -> None:
        """End the process when it has answered all that it was asked."""
        owed = list(self._pending.values())
        if owed:
            await asyncio.wait(owed)
        self.tell(Stop())

    async def kill(self) -> None:
        """End the process now and fail whatever it still owes."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._writer.close()
        self._ended = True
        self._fail_pending()

    def _fail_pending(self) -> None:
        for future in self._pending.values():
            if not future.done():
                future.set_exception(ComputeError("SK-CMP-001", "it ended before it answered"))
                future.exception()  # nobody may be waiting: that is no error of its own
        self._pending.clear()

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, Progress):
            self._on_progress(reply)
            return
        future = self._pending.pop(getattr(reply, "request", 0), None)
        if future is None or future.done():
            return
        if isinstance(reply, Failed):
            future.set_exception(from_code(reply.code, reply.detail))
        else:
            future.set_result(reply)

    async def _read(self) -> Reply:
        header = await self._reader.readexactly(_HEADER_BYTES)
        body = await self._reader.readexactly(frame_length(header))
        try:
            return decode_reply(body)
        except ValueError as error:
            raise ComputeError("SK-CMP-002", f"not a reply: {str(error)[:200]}") from None

    async def _ending(self) -> str:
        """Say how the process ended; it has closed its end already."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                code = await self._process.wait()
                return f"signal {-code}" if code < 0 else f"exit code {code}"
        return "it hangs"

    async def _greeting(self) -> Hello:
        try:
            reply = await self._read()
        except (asyncio.IncompleteReadError, ConnectionError):
            detail = f"the compute process ended while starting ({await self._ending()})"
            raise ComputeError("SK-CMP-001", detail) from None
        if isinstance(reply, Failed):
            error: SkerryError = from_code(reply.code, reply.detail)
            raise error
        if not isinstance(reply, Hello):
            raise ComputeError("SK-CMP-002", f"the compute process began with {reply.kind}")
        return reply
