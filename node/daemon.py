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
from datetime import datetime
from importlib.metadata import version

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.config import NodeConfig
from skerry.node.control import serve_control
from skerry.node.ending import Ending
from skerry.node.environment import environment_errors
from skerry.node.home import Home
from skerry.node.identity import load_or_create_identity
from skerry.node.logs import configure_logging, keep_small
from skerry.node.net.node_transport import NodeTransport
from skerry.node.net.rpc import RpcClient, RpcServer
from skerry.node.net.shaping import ShapedTransport
from skerry.node.net.sources import Link
from skerry.node.net.tasks import OwnedTasks
from skerry.node.network import start_network
from skerry.node.page.server import PageServer
from skerry.node.participation import Participation
from skerry.node.port import keep_port, port_to_use
from skerry.node.reach.keeper import Listener, Reachability
from skerry.node.reach.status import reach_status
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
_RATES_SECONDS = 10.0
"""Between two looks at the clock for quiet hours."""
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
            reach=reach_status(self._parts.reach) if self._parts.reach else None,
        )

    @property
    def network_restarts(self) -> int:
        """How often the network process was restarted."""
        return self._parts.transport.restarts

    async def relayed(self) -> Mapping[PeerId, bool]:
        """Say of each connected peer whether only a relay leads to it. Raises: PeerUnavailable."""
        return await self._parts.transport.relayed()

    @property
    def links(self) -> Mapping[PeerId, Link]:
        """How each connected peer was connected when that was last looked up."""
        return self._parts.reach.links if self._parts.reach else {}

    def members(self) -> Mapping[PeerId, tuple[str, ...]]:
        """Return the other members of the run, if there is one, with their addresses."""
        session = self.part.session
        return session.peers.addresses() if session is not None else {}

    def met(self) -> frozenset[PeerId]:
        """Return those of them that have answered in the run."""
        session = self.part.session
        return session.peers.greeted if session is not None else frozenset()

    def readdressed(self) -> None:
        """Tell everyone how this node is reached from now on."""
        status = reach_status(self._parts.reach) if self._parts.reach else pb.ReachStatus()
        self.journal.write(
            "reachability",
            verdict=status.verdict,
            nat=status.nat,
            relays=list(status.relays),
            addresses=list(self._parts.transport.addresses),
            text=status.summary,
        )
        if self.part.session is not None:
            self.part.session.readdress()

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
        self._set_rates()
        self.journal.write("reloaded", changed=change.live, needs_restart=change.waiting)

    async def keep_rates(self) -> None:
        """Keep to the limits of the time of day, until cancelled."""
        while True:
            self._set_rates()
            await asyncio.sleep(_RATES_SECONDS)

    def _set_rates(self) -> None:
        if self._parts.shaped is not None:
            self._parts.shaped.set_rates(self._parts.config.bandwidth, datetime.now().time())


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
        tasks.start(node.keep_rates(), "bandwidth")
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

    def journal_link(peer: PeerId, link: Link) -> None:
        journal.write("link", peer=peer, link=link)

    def journal_neighbour(peer: PeerId, addresses: tuple[str, ...]) -> None:
        journal.write("neighbour", peer=peer, addresses=list(addresses))

    port = port_to_use(config.listen, home.path / _PORT_FILE)
    network = await start_network(home, config.listen, port, key)
    transport = network.transport
    stack.push_async_callback(transport.close)
    keep_port(transport.addresses, home.path / _PORT_FILE)
    shaped = ShapedTransport(transport)
    client = RpcClient(shaped)
    stack.push_async_callback(client.close)
    reach: Reachability | None = None
    if network.p2pd is not None:
        listener = Listener(
            lambda: node.members(),
            lambda: node.met(),
            lambda: node.readdressed(),
            journal_link,
            journal_neighbour,
        )
        reach = Reachability(network.p2pd, config.listen.relays, config.listen.mdns, listener)
        stack.push_async_callback(reach.close)
        transport.add_outage_hook(reach.network_is_down)
    signer = Signer(key)
    parts = NodeParts(
        home, config, signer, transport, client, journal, network.discovery, reach, shaped=shaped
    )
    node = Node(parts, load)
    if reach is not None:
        await reach.start()

    server = _serve_peers(transport, shaped, node.part)
    stack.push_async_callback(server.close)
    await server.start()
    control = await serve_control(node, home.control_socket)
    stack.callback(home.control_socket.unlink, missing_ok=True)
    stack.push_async_callback(control.stop, 1.0)
    page = await node.serve_page()
    stack.push_async_callback(page.close)
    return node


def _serve_peers(
    transport: NodeTransport, shaped: ShapedTransport, part: Participation
) -> RpcServer:
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
    return RpcServer(shaped, servicer_for, on_bad=on_bad, quotas=part.quotas)
