"""One secured connection to a peer: its yamux session, moved by three tasks of trio."""

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from libp2p.abc import ISecureConn

from skerry.node.net.pylibp2p.handshake import BROKEN
from skerry.node.net.pylibp2p.yamux import YamuxSession
from skerry.node.net.pylibp2p.yamux_stream import YamuxStream
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId, short

_LOG = logging.getLogger(__name__)
_PING_SECONDS = 10.0
# A peer whose machine vanished says nothing for this long; three of its pings went unanswered.
_SILENT_SECONDS = 40.0
_FAREWELL_SECONDS = 2.0

OnStream = Callable[["Connection", YamuxStream], Awaitable[None]]
"""Runs in trio for every stream that the peer opens."""


class Connection:
    """Made in trio's thread and used there, but for ``session`` and its streams."""

    def __init__(
        self, peer: PeerId, secured: ISecureConn, initiator: bool, on_stream: OnStream
    ) -> None:
        """Join ``secured``, whose other end has proven to be ``peer``, to a new session."""
        self.peer = peer
        self._secured, self._on_stream = secured, on_stream
        self._scope = trio.CancelScope()
        self._output, self._drained = trio.Event(), trio.Event()
        self._token, self._thread = trio.lowlevel.current_trio_token(), threading.get_ident()
        self._why = ""
        self.session = YamuxSession(initiator, time.monotonic, self._wake)

    @property
    def ended(self) -> bool:
        """Whether no stream can be opened any more."""
        return bool(self._why)

    async def run(self) -> None:
        """Move bytes until either side ends the connection."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send)
                    nursery.start_soon(self._receive, nursery)
                    nursery.start_soon(self._watch)
        finally:
            self.cut("the transport was closed")
            await self._secured.close()
            _LOG.debug("connection to %s ended: %s", short(self.peer), self._why)

    def cut(self, why: str) -> None:
        """End the connection and its streams at once; again does nothing."""
        if not self._why:
            self._why = why
            self.session.fail(why)
            self._scope.cancel()
            self._drained.set()  # nothing will be, any more

    async def take_leave(self) -> None:
        """Send what is queued and say that this end is going, within a moment; then cut."""
        if not self.ended:
            self._drained = trio.Event()
            self.session.go_away()
            with trio.move_on_after(_FAREWELL_SECONDS):
                await self._drained.wait()
        self.cut("the transport was closed")

    async def _send(self) -> None:
        try:
            while True:
                data = self.session.take()
                if data:
                    await self._secured.write(data)
                    continue
                self._drained.set()
                await self._output.wait()
                self._output = trio.Event()
        except BROKEN as error:
            self.cut(f"it broke: {error}")

    async def _receive(self, nursery: trio.Nursery) -> None:
        try:
            while True:
                for stream in self.session.receive(await self._secured.read()):
                    nursery.start_soon(self._on_stream, self, stream)
        except BROKEN as error:
            self.cut(f"it broke: {type(error).__name__} {error}")
        except ProtocolError as error:
            _LOG.warning("%s breaks the rules: %s", short(self.peer), error.detail)
            self.cut(error.detail)

    async def _watch(self) -> None:
        while True:
            self.session.ping()
            await trio.sleep(_PING_SECONDS)
            self.session.forget_unanswered()
            if time.monotonic() - self.session.received_at > _SILENT_SECONDS:
                self.cut(f"silent for {_SILENT_SECONDS:.0f} s")

    def _wake(self) -> None:
        if threading.get_ident() == self._thread:
            self._output.set()
        else:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._set_output)

    def _set_output(self) -> None:
        self._output.set()
