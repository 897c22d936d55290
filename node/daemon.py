"""The daemon: one process per machine that wires the parts together and takes one run at a time.

Components are handed what they need here and never look each other up. ``run_daemon`` returns
when it was told to stop, by SIGINT, SIGTERM or the control API, with nothing left behind.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import time
from importlib.metadata import version
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.config import NodeConfig
from skerry.node.control import serve_control
from skerry.node.environment import environment_errors
from skerry.node.home import Home
from skerry.node.identity import load_or_create_identity
from skerry.node.net.p2pd import P2pdOptions, P2pdTransport
from skerry.node.net.rpc import RpcClient, RpcServer
from skerry.node.run.journal import Journal
from skerry.node.run.opening import CURRENT_FILE, NodeParts, Opened, begin, go_on, join
from skerry.node.run.servicer import RunServicer
from skerry.node.run.session import Session
from skerry.proto import control_pb2 as pb
from skerry.proto.peer_pb2_grpc import PeerServicer
from skerry.protocol.blobs import write_atomic
from skerry.protocol.errors import DaemonError, SkerryError
from skerry.protocol.ids import PeerId, RunId, is_hash
from skerry.protocol.signing import Signer

_LOG = logging.getLogger(__name__)
_PORT_FILE = "port"


class Node:
    """The running daemon."""

    def __init__(self, parts: NodeParts) -> None:
        """Take part in no run yet."""
        self._parts = parts
        self._started = time.monotonic()
        self._stopping = asyncio.Event()
        self._changing = asyncio.Lock()
        self._opened: Opened | None = None
        self._running: asyncio.Task[None] | None = None

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
        )

    async def init(self, toml: str) -> pb.RunReply:
        """Start an own run. Raises: SkerryError."""
        async with self._changing:
            self._check_free()
            return self._enter(await begin(self._parts, toml, secrets.token_bytes(16)))

    async def join(self, token: str) -> pb.RunReply:
        """Join a run. Raises: SkerryError."""
        async with self._changing:
            self._check_free()
            return self._enter(await join(self._parts, token))

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
                self._enter(await go_on(self._parts, RunId(run_id)))
            except (SkerryError, OSError) as error:
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
        """End the daemon soon; the run goes on when it is started again."""
        self._stopping.set()

    async def until_stopped(self) -> None:
        """Wait for stop, then take leave of the run."""
        await self._stopping.wait()
        async with self._changing:
            await self._exit()

    def _in_run(self) -> Opened:
        if self._opened is None:
            raise DaemonError("SK-DMN-004", "this daemon takes part in no run")
        return self._opened

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
            self.stop()

    async def _exit(self) -> None:
        if self._opened is None or self._running is None:
            return
        peers = self._opened.session.peers
        if not self._running.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await peers.broadcast(peers.heartbeat(leaving=True), peers.greeted)
        self._running.cancel()
        await asyncio.wait([self._running])
        name = self._opened.session.context.manifest.name
        self._opened = self._running = None
        self.journal.write("left", name=name)


def run_daemon(home: Home, config: NodeConfig) -> int:
    """Run until stopped; returns the exit code. Raises: SkerryError before anything runs."""
    home.create()
    with home.lock():
        key = load_or_create_identity(home.identity_file)
        _configure_logging(config)
        return uvloop.run(_main(home, config, Signer(key), key))


async def _main(home: Home, config: NodeConfig, signer: Signer, key: Ed25519PrivateKey) -> int:
    async with contextlib.AsyncExitStack() as stack:
        with environment_errors():
            node = await _start(home, config, key, stack)
        node.journal.write(
            "started", peer=signer.peer_id, addresses=list(node.describe().addresses)
        )
        await node.resume()
        await node.until_stopped()
        node.journal.write("stopped")
    return 0


async def _start(
    home: Home, config: NodeConfig, key: Ed25519PrivateKey, stack: contextlib.AsyncExitStack
) -> Node:
    """Start all parts; ``stack`` ends them again. Raises: SkerryError, OSError."""
    journal = Journal(home.events_file)
    options = P2pdOptions(
        host=config.listen.host, port=_port(home, config), run_dir=_network_folder(home)
    )
    transport = await P2pdTransport.create(options, key)
    stack.push_async_callback(transport.close)
    _keep_port(home, transport)
    client = RpcClient(transport)
    stack.push_async_callback(client.close)
    node = Node(NodeParts(home, config, Signer(key), transport, client, journal))

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
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, node.stop)
    return node


def _network_folder(home: Home) -> Path:
    folder = home.path / "p2pd"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _configure_logging(config: NodeConfig) -> None:
    logging.basicConfig(
        level=config.log.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def _port(home: Home, config: NodeConfig) -> int:
    """Return the port to listen on: a node keeps the one it had, so that tokens stay good."""
    if config.listen.port:
        return config.listen.port
    try:
        port = int((home.path / _PORT_FILE).read_text())
    except (OSError, ValueError):
        return 0
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.listen.host, port))
        except OSError:
            return 0
    return port


def _keep_port(home: Home, transport: P2pdTransport) -> None:
    for address in transport.addresses:
        parts = address.split("/")
        if "tcp" in parts:
            write_atomic(home.path / _PORT_FILE, parts[parts.index("tcp") + 1].encode())
            return
