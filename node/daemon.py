"""The daemon: one process per machine that wires the parts together and takes one run at a time.

Components are handed what they need here and never look each other up. ``run_daemon`` returns
when it was told to stop, by SIGINT, SIGTERM or the control API, with nothing left behind. Told
a second time, it waits for nothing that can be done without. SIGHUP reads the settings again.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.config import NodeConfig
from skerry.node.control import serve_control
from skerry.node.ending import Ending
from skerry.node.environment import environment_errors
from skerry.node.home import Home
from skerry.node.identity import load_or_create_identity
from skerry.node.logs import configure_logging, keep_small
from skerry.node.net.p2pd import P2pdOptions, P2pdTransport
from skerry.node.net.rpc import RpcClient, RpcServer
from skerry.node.net.tasks import OwnedTasks
from skerry.node.page.server import PageServer
from skerry.node.participation import Participation
from skerry.node.port import keep_port, port_to_use
from skerry.node.reload import change_of
from skerry.node.run.journal import Journal
from skerry.node.run.opening import NodeParts
from skerry.node.run.servicer import RunServicer
from skerry.node.run.session import Session
from skerry.node.service.notify import Notifier
from skerry.node.sinks.process import keep_sinks
from skerry.proto import control_pb2 as pb
from skerry.proto.peer_pb2_grpc import PeerServicer
from skerry.protocol.errors import ConfigError
from skerry.protocol.ids import PeerId
from skerry.protocol.signing import Signer

_LOG = logging.getLogger(__name__)
_PORT_FILE = "port"
_VERSION = version("skerry")
"""Looked up once: it is read from a file, and the status page asks every second."""
LoadConfig = Callable[[], NodeConfig]


class Node:
    """The running daemon."""

    def __init__(self, parts: NodeParts, load: LoadConfig) -> None:
        """Take part in no run yet; ``load`` reads the settings again."""
        self._parts, self._load = parts, load
        self._started = time.monotonic()
        self.ending = Ending()
        self.part = Participation(parts, self.ending)
        """The run that this node takes part in."""
        self._page: PageServer | None = None

    @property
    def journal(self) -> Journal:
        """The event log."""
        return self._parts.journal

    def describe(self) -> pb.StatusReply:
        """Return the status without its run."""
        return pb.StatusReply(
            peer_id=self._parts.signer.peer_id,
            version=_VERSION,
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            addresses=self._parts.transport.addresses,
            home=str(self._parts.home.path),
            compute="starting" if self.part.opening else "none",
            page_url=self._page.url if self._page else "",
        )

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

    def stop(self) -> None:
        """End the daemon soon; the run goes on when it is started again. Twice: at once."""
        self.ending.ask()
        self.part.give_up_opening()

    def reload(self) -> None:
        """Read the settings again; what is wrong with them changes nothing."""
        try:
            change = change_of(self._parts.config, self._load())
        except ConfigError as error:
            _LOG.error("the settings stay as they were: %s", error)
            self.journal.write("reload-failed", error=str(error), fix=error.fix)
            return
        self._parts = replace(self._parts, config=change.config)
        configure_logging(change.config)
        self.part.reconfigure(change.config)
        self.journal.write("reloaded", changed=change.live, needs_restart=change.waiting)


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
        tasks.start(notifier.keep_alive(lambda: _summary(node.part.session)), "service manager")
        tasks.start(keep_sinks(home, config.sinks, node.journal), "sinks")
        _take_signals(node, notifier)
        notifier.ready()
        await node.part.go_on()
        await node.ending.asked.wait()
        notifier.stopping()
        bound = asyncio.create_task(node.ending.bound(), name="bound")
        await node.part.end()
        node.journal.write("stopped")
    bound.cancel()
    return node.ending.exit_code


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

    server = _serve_peers(transport, node.part)
    stack.push_async_callback(server.close)
    await server.start()
    control = await serve_control(node, home.control_socket)
    stack.callback(home.control_socket.unlink, missing_ok=True)
    stack.push_async_callback(control.stop, 1.0)
    page = await node.serve_page()
    stack.push_async_callback(page.close)
    return node


def _serve_peers(transport: P2pdTransport, part: Participation) -> RpcServer:
    """Let the run hear what comes from the network; while there is none, nobody does."""

    def network(up: bool) -> None:
        if part.session:
            part.session.network(up)

    async def network_is_back() -> None:
        network(up=True)

    def servicer_for(peer: PeerId) -> PeerServicer:
        return RunServicer(peer, lambda: part.session.context if part.session else None)

    def on_bad(peer: PeerId, reason: str) -> None:
        if part.session:
            part.session.context.refuse(peer, reason)

    transport.add_outage_hook(lambda: network(up=False))
    transport.add_restart_hook(network_is_back)
    return RpcServer(transport, servicer_for, on_bad=on_bad)


def _network_folder(home: Home) -> Path:
    folder = home.path / "p2pd"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
