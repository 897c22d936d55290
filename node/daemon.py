"""The daemon: one process per machine that wires the parts together and takes one run at a time.

Components are handed what they need here and never look each other up. ``run_daemon`` returns
when it was told to stop, by SIGINT, SIGTERM or the control API, with nothing left behind. Told
a second time, it waits for nothing that can be done without. SIGHUP reads the settings again.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.config import NodeConfig
from skerry.node.control import serve_control
from skerry.node.environment import environment_errors
from skerry.node.home import Home
from skerry.node.identity import load_or_create_identity
from skerry.node.logs import configure_logging, keep_small
from skerry.node.net.p2pd import P2pdOptions, P2pdTransport
from skerry.node.net.rpc import RpcClient, RpcServer
from skerry.node.net.tasks import OwnedTasks
from skerry.node.page.server import PageServer
from skerry.node.port import keep_port, port_to_use
from skerry.node.reload import change_of
from skerry.node.run.journal import Journal
from skerry.node.run.opening import CURRENT_FILE, NodeParts, Opened, begin, go_on, join
from skerry.node.run.peers import Peers
from skerry.node.run.servicer import RunServicer
from skerry.node.run.session import Session
from skerry.node.service.notify import Notifier
from skerry.node.sinks.process import keep_sinks
from skerry.proto import control_pb2 as pb
from skerry.proto.peer_pb2_grpc import PeerServicer
from skerry.protocol.errors import ConfigError, DaemonError, SkerryError
from skerry.protocol.ids import PeerId, RunId, is_hash
from skerry.protocol.signing import Signer

_LOG = logging.getLogger(__name__)
_FAREWELL_SECONDS = 1.0
_END_SECONDS, _HASTY_SECONDS = 9.0, 1.0
"""How long the end may take when it was asked for once, and from the second time on."""
_PORT_FILE = "port"
LoadConfig = Callable[[], NodeConfig]


class Node:
    """The running daemon."""

    def __init__(self, parts: NodeParts, load: LoadConfig) -> None:
        """Take part in no run yet; ``load`` reads the settings again."""
        self._parts, self._load = parts, load
        self._started = time.monotonic()
        self.stopping = asyncio.Event()
        """Set when it was told to stop."""
        self.hastened = asyncio.Event()
        """Set when it was told to stop again."""
        self._changing = asyncio.Lock()
        self._opened: Opened | None = None
        self._opening: asyncio.Task[Opened] | None = None
        self._running: asyncio.Task[None] | None = None
        self._page: PageServer | None = None
        self.exit_code = 0

    @property
    def session(self) -> Session | None:
        """The run that the daemon takes part in."""
        return self._opened.session if self._opened else None

    @property
    def journal(self) -> Journal:
        """The event log."""
        return self._parts.journal

    def describe(self) -> pb.StatusReply:
        """Return the status without its run."""
        return pb.StatusReply(
            peer_id=self._parts.signer.peer_id,
            version=version("skerry"),
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            addresses=self._parts.transport.addresses,
            home=str(self._parts.home.path),
            compute="none",
            page_url=self._page.url if self._page else "",
        )

    @property
    def join_token(self) -> str:
        """What others join the run with; empty while there is no run."""
        return self._opened.token if self._opened else ""

    @property
    def network_restarts(self) -> int:
        """How often the network process was restarted."""
        return self._parts.transport.restarts

    async def relayed(self) -> Mapping[PeerId, bool]:
        """Say of each connected peer whether only a relay leads to it. Raises: PeerUnavailable."""
        return await self._parts.transport.relayed()

    async def serve_page(self) -> PageServer:
        """Serve the status page from now on; the caller closes it."""
        self._page = await PageServer.start(self, self._parts.home, self._parts.config.page)
        return self._page

    async def init(self, toml: str) -> pb.RunReply:
        """Start an own run. Raises: SkerryError."""
        async with self._changing:
            self._check_free()
            return await self._open(begin(self._parts, toml, secrets.token_bytes(16)))

    async def join(self, token: str) -> pb.RunReply:
        """Join a run. Raises: SkerryError."""
        async with self._changing:
            self._check_free()
            return await self._open(join(self._parts, token))

    async def resume(self) -> None:
        """Go on with the run that this home took part in last, if it did not leave it."""
        current = self._parts.home.path / CURRENT_FILE
        try:
            run_id = current.read_text(errors="replace").strip()
        except FileNotFoundError:
            return
        except OSError as error:
            self.journal.write("warning", text=f"{current} cannot be read: {error.strerror}")
            return
        if not is_hash(run_id):
            return
        async with self._changing:
            try:
                await self._open(go_on(self._parts, RunId(run_id)))
            except (SkerryError, OSError) as error:
                if self.stopping.is_set():
                    return
                _LOG.warning("run %s cannot be continued: %s", run_id[:8], error)
                self.journal.write("warning", text=f"run {run_id[:8]} cannot be continued: {error}")

    async def pause(self, paused: bool) -> None:
        """Stop training but follow the run, or train again. Raises: SkerryError."""
        async with self._changing:
            await self._in_run().session.pause(paused)

    async def leave(self) -> None:
        """Leave the run for good. Raises: DaemonError("SK-DMN-004"), StateError."""
        async with self._changing:
            self._in_run().session.context.store.keep_paused(False)
            (self._parts.home.path / CURRENT_FILE).unlink(missing_ok=True)
            await self._exit()

    def network(self, up: bool) -> None:
        """Take in that the transport is down or back."""
        if self._opened is not None:
            self._opened.session.network(up)

    def stop(self) -> None:
        """End the daemon soon; the run goes on when it is started again. Twice: at once."""
        if self.stopping.is_set():
            self.hastened.set()
        self.stopping.set()
        if self._opening is not None:
            self._opening.cancel()

    async def end(self) -> None:
        """Take leave of the run."""
        async with self._changing:
            await self._exit()

    def reload(self) -> None:
        """Read the settings again; what is wrong with them changes nothing."""
        try:
            change = change_of(self._parts.config, self._load())
        except ConfigError as error:
            _LOG.error("the settings stay as they were: %s", error)
            self.journal.write("reload-failed", error=str(error), fix=error.fix)
            return
        config = change.config
        self._parts = replace(self._parts, config=config)
        configure_logging(config)
        if self.session is not None:
            self.session.reconfigure(config.heartbeat.interval, config.listen.announce)
        self.journal.write("reloaded", changed=change.live, needs_restart=change.waiting)

    def _in_run(self) -> Opened:
        if self._opened is None:
            raise DaemonError("SK-DMN-004", "this daemon takes part in no run")
        return self._opened

    async def _open(self, work: Coroutine[Any, Any, Opened]) -> pb.RunReply:
        """Open a run and take part in it; a stop meanwhile ends that. Raises: SkerryError."""
        self._opening = asyncio.create_task(work, name="opening")
        if self.stopping.is_set():
            self._opening.cancel()
        try:
            return self._enter(await self._opening)
        except asyncio.CancelledError:
            if not self.stopping.is_set():
                raise
            raise DaemonError("SK-DMN-001", "the daemon is ending") from None
        finally:
            self._opening = None

    def _check_free(self) -> None:
        if self._opened is not None:
            name = self._opened.session.context.manifest.name
            raise DaemonError("SK-DMN-003", f"this daemon already takes part in run {name!r}")

    def _enter(self, opened: Opened) -> pb.RunReply:
        self._opened = opened
        context = opened.session.context
        self._running = asyncio.create_task(self._take_part(opened), name="run")
        self.journal.write("entered", run=context.run_id, name=context.manifest.name)
        return pb.RunReply(run_id=context.run_id, name=context.manifest.name, token=opened.token)

    async def _take_part(self, opened: Opened) -> None:
        """Run a session; an unexpected exception in it is caught here and nowhere else."""
        try:
            await opened.session.run(opened.members)
        except Exception:
            _LOG.exception("the run has failed; the daemon ends, a restart goes on where it was")
            self.journal.write("failed", text="the run has failed; see the daemon's log")
            self.exit_code = 1
            self.stop()

    async def _exit(self) -> None:
        if self._opened is None or self._running is None:
            return
        if not self._running.done():
            await self._say_goodbye(self._opened.session.peers)
        self._running.cancel()
        await asyncio.wait([self._running])
        name = self._opened.session.context.manifest.name
        self._opened = self._running = None
        self.journal.write("left", name=name)

    async def _say_goodbye(self, peers: Peers) -> None:
        """Tell the others, so that they do not wait for us; for a second, or until hastened."""
        farewell = peers.broadcast(peers.heartbeat(leaving=True), peers.greeted)
        both = [asyncio.create_task(farewell), asyncio.create_task(self.hastened.wait())]
        await asyncio.wait(both, timeout=_FAREWELL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.wait(both)


def run_daemon(home: Home, load: LoadConfig) -> int:
    """Run until stopped; returns the exit code. Raises: SkerryError before anything runs.

    ``load`` reads the settings, now and upon each SIGHUP; it raises ConfigError.
    """
    config = load()
    notifier = Notifier.take(os.environ)
    home.create()
    with home.lock():
        key = load_or_create_identity(home.identity_file)
        configure_logging(config)
        return uvloop.run(_main(home, load, config, key, notifier))


async def _main(
    home: Home, load: LoadConfig, config: NodeConfig, key: Ed25519PrivateKey, notifier: Notifier
) -> int:
    async with contextlib.AsyncExitStack() as stack:
        with environment_errors():
            node = await _start(home, load, config, key, stack)
        status = node.describe()
        node.journal.write("started", peer=status.peer_id, addresses=list(status.addresses))
        tasks = OwnedTasks()
        stack.push_async_callback(tasks.cancel)
        tasks.start(keep_small((home.log_file, home.compute_log)), "log files")
        tasks.start(notifier.keep_alive(lambda: _summary(node.session)), "service manager")
        tasks.start(keep_sinks(home, config.sinks, node.journal), "sinks")
        _take_signals(node, notifier)
        notifier.ready()
        await node.resume()
        await node.stopping.wait()
        notifier.stopping()
        bound = asyncio.create_task(_bound_the_end(node), name="bound")
        await node.end()
        node.journal.write("stopped")
    bound.cancel()
    return node.exit_code


async def _bound_the_end(node: Node) -> None:
    """End the process when its end takes too long; the kernel ends its children with it.

    Nothing is lost by that: whatever is kept is written so that a power cut does it no harm.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await node.hastened.wait()
            await asyncio.sleep(_HASTY_SECONDS)
    _LOG.warning("the daemon ends without waiting for its parts any longer")
    os._exit(node.exit_code)


def _summary(session: Session | None) -> str:
    """Say in a line what the daemon does, for the service manager."""
    if session is None:
        return "in no run"
    rounds = session.context.state.rounds
    return f"run {session.context.manifest.name}, round {rounds.round}: {rounds.told_phase}"


def _take_signals(node: Node, notifier: Notifier) -> None:
    """Handle signals from now on; one that came before has ended the process."""

    def reload() -> None:
        notifier.reloading()
        node.reload()
        notifier.ready()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, node.stop)
    # On a terminal it says that the terminal was closed.
    on_terminal = sys.stdin is not None and sys.stdin.isatty()
    loop.add_signal_handler(signal.SIGHUP, node.stop if on_terminal else reload)


async def _start(
    home: Home,
    load: LoadConfig,
    config: NodeConfig,
    key: Ed25519PrivateKey,
    stack: contextlib.AsyncExitStack,
) -> Node:
    """Start all parts; ``stack`` ends them again. Raises: SkerryError, OSError."""
    journal = Journal(home.events_file)
    port = port_to_use(config.listen, home.path / _PORT_FILE)
    options = P2pdOptions(host=config.listen.host, port=port, run_dir=_network_folder(home))
    transport = await P2pdTransport.create(options, key)
    stack.push_async_callback(transport.close)
    keep_port(transport.addresses, home.path / _PORT_FILE)
    client = RpcClient(transport)
    stack.push_async_callback(client.close)
    node = Node(NodeParts(home, config, Signer(key), transport, client, journal), load)

    async def network_is_back() -> None:
        node.network(up=True)

    transport.add_outage_hook(lambda: node.network(up=False))
    transport.add_restart_hook(network_is_back)

    def servicer_for(peer: PeerId) -> PeerServicer:
        return RunServicer(peer, lambda: node.session.context if node.session else None)

    def on_bad(peer: PeerId, reason: str) -> None:
        if node.session:
            node.session.context.refuse(peer, reason)

    server = RpcServer(transport, servicer_for, on_bad=on_bad)
    stack.push_async_callback(server.close)
    await server.start()
    control = await serve_control(node, home.control_socket)
    stack.callback(home.control_socket.unlink, missing_ok=True)
    stack.push_async_callback(control.stop, 1.0)
    page = await node.serve_page()
    stack.push_async_callback(page.close)
    return node


def _network_folder(home: Home) -> Path:
    folder = home.path / "p2pd"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
