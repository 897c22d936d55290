"""The page's HTTP server inside the node process: finds a port, serves, and never takes the run
down with it.

uvicorn runs in the node's own event loop. What fails in here is caught in ``_guarded``, logged,
and shown wherever the page still is: in the daemon's status and in the page's own header.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_address

import uvicorn
from starlette.types import ASGIApp

from skerry.node.config import PageSection
from skerry.node.home import Home
from skerry.node.net.tasks import OwnedTasks
from skerry.node.page import pass_key
from skerry.node.page.application import build
from skerry.node.page.desk import Daemon, Desk
from skerry.node.page.guard import Policy
from skerry.node.page.stream import Streams
from skerry.protocol.errors import SkerryError

_LOG = logging.getLogger(__name__)
PORTS_TRIED = 100
"""Ports after the wanted one that may be taken instead."""
_MAX_CONNECTIONS = 128
_END_SECONDS = 2
_RETRY_SECONDS = 5.0
_BACKLOG = 64
_MAX_TEXT = 300


class PageServer:
    """The page of one daemon; make one with ``start``."""

    def __init__(self, daemon: Daemon, home: Home, config: PageSection) -> None:
        """Use ``start`` instead."""
        self._daemon, self._home, self._config = daemon, home, config
        self._desk = Desk(daemon, home)
        self._streams = Streams(self._desk)
        self._server: _Server | None = None
        self._tasks = OwnedTasks()

    @classmethod
    async def start(cls, daemon: Daemon, home: Home, config: PageSection) -> "PageServer":
        """Serve ``daemon``; a page that cannot be served is told, and the daemon goes on."""
        self = cls(daemon, home, config)
        if config.enabled:
            try:
                self._begin()
            except (SkerryError, OSError) as error:
                daemon.journal.write("warning", text=f"there is no status page: {error}")
                _LOG.warning("there is no status page: %s", error)
        return self

    @property
    def url(self) -> str:
        """Where the page is; empty if there is none."""
        return self._desk.url

    async def close(self) -> None:
        """End all streams and the server, and keep what the history has not written yet."""
        self._streams.close()
        if self._server is not None:
            self._server.end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * _END_SECONDS):
                    await self._server.ended.wait()
        await self._tasks.cancel()

    def _begin(self) -> None:
        token = pass_key.load_or_create(self._home.page_token_file)
        listener, url = _listen(self._config)
        self._desk.url = url
        self._tell(url)
        policy = Policy(
            token=token,
            loopback=ip_address(self._config.host).is_loopback,
            require_token=self._config.require_token,
            names=frozenset(self._config.names),
            cookie=f"skerry_page_{listener.getsockname()[1]}",
        )
        server = self._server = _Server(build(self._desk, self._streams, policy))
        keeping = self._guarded("the history", self._desk.keep, again=True)
        serving = self._guarded("the server", lambda: self._serve(server, listener), again=False)
        self._tasks.start(keeping, "page history")
        self._tasks.start(serving, "page server")

    def _tell(self, url: str) -> None:
        wanted = self._config.port
        moved = wanted and f":{wanted}/" not in url
        why = f" since port {wanted} is in use" if moved else ""
        self._daemon.journal.write("note", text=f"the status page is at {url}{why}")

    async def _serve(self, server: "_Server", listener: socket.socket) -> None:
        """Answer until told to end; a server that fails does not come back."""
        try:
            await server.run_on(listener)
        finally:
            self._desk.url = ""

    async def _guarded(self, what: str, work: Callable[[], Awaitable[None]], again: bool) -> None:
        """Keep a part of the page going; whatever breaks in it must not end the run."""
        while True:
            try:
                await work()
                return
            except Exception as error:
                _LOG.exception("the status page: %s has failed", what)
                self._desk.failure = f"the status page: {what} has failed: {error!r}"
                self._daemon.journal.write("warning", text=self._desk.failure[:_MAX_TEXT])
                if not again:
                    return
                await asyncio.sleep(_RETRY_SECONDS)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers and its clock: the daemon has its own.

    uvicorn looks ten times a second whether it shall end and what the date is, as long as the
    daemon lives. Here it is told to end, and the guard dates each answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            http="h11",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=_MAX_CONNECTIONS,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_END_SECONDS,
        )
        super().__init__(config)
        self.ended = asyncio.Event()
        self._told = asyncio.Event()

    def end(self) -> None:
        """Have it end soon."""
        self.should_exit = True
        self._told.set()

    async def main_loop(self) -> None:
        """Wait until told to end."""
        await self._told.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the daemon."""
        yield

    async def run_on(self, listener: socket.socket) -> None:
        """Serve until told to exit."""
        try:
            await self.serve(sockets=[listener])
        finally:
            self.ended.set()


def _listen(config: PageSection) -> tuple[socket.socket, str]:
    """Return a listening socket and its URL. Raises: OSError if no port is free."""
    address = ip_address(config.host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    last = min(65535, config.port + PORTS_TRIED) if config.port else 0
    for port in range(config.port, last + 1):
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((config.host, port))
            # Two may bind one port as long as neither listens, so it is taken here and now.
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            if port == last:
                raise
            continue
        listener.setblocking(False)
        return listener, _url(config.host, listener.getsockname()[1])
    raise OSError("no port")  # pragma: no cover - the loop returns or raises


def _url(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"
