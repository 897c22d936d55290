"""p2pd as our child: started, watched, and started again with the same identity and port.

p2pd_process.py says how it is born and why it always dies with us; p2pd_client.py asks it over its
control socket. Hivemind's ``P2P`` is only attached to it, for hivemind's DHT, and its persistent
connection is what keeps p2pd alive.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from hivemind.p2p import P2P
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.utils.logging import use_hivemind_log_handler
from hivemind.utils.multiaddr import Multiaddr

from skerry.node.net.node_transport import OutageHook, RestartHook
from skerry.node.net.p2pd_client import P2pdClient
from skerry.node.net.p2pd_process import P2pdOptions, P2pdProcess, end_leftover
from skerry.node.net.restarting import Restarts
from skerry.node.net.sockets import SocketsFolder
from skerry.node.net.tasks import OwnedTasks
from skerry.protocol.errors import NetworkError, PeerUnavailable
from skerry.protocol.ids import PeerId

_LOG = logging.getLogger(__name__)
_REFRESH_SECONDS = 10.0
# A loaded machine may answer late; one that is this late does not answer.
_HUNG_SECONDS = 30.0

Attached = Callable[[P2pdClient], Awaitable[None]]
Ended = Callable[[], None]


class P2pdSupervisor:
    """Keeps one p2pd running."""

    def __init__(
        self,
        options: P2pdOptions,
        me: PeerId,
        sockets: SocketsFolder,
        attached: Attached,
        ended: Ended,
    ) -> None:
        """Run nothing before ``start``.

        Args:
            attached: awaited with each p2pd that answers.
            ended: called when one has ended, after the hooks.
        """
        self.options, self._me, self._sockets = options, me, sockets
        self._attached, self._ended = attached, ended
        self._port = options.port
        self._addresses: tuple[str, ...] = ()
        self._restarts = Restarts("p2pd")
        self._tasks = OwnedTasks()
        self._generation = 0
        self._process: P2pdProcess | None = None
        self._client: P2pdClient | None = None
        self._p2p: P2P | None = None

    @property
    def port(self) -> int:
        """The TCP port that p2pd listens on, and dials from."""
        return self._port

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those that p2pd itself knows: of this machine, and mapped by its router."""
        return self._addresses

    @property
    def restarts(self) -> int:
        """How often p2pd had to be started again."""
        return max(0, self._generation - 1)

    @property
    def pid(self) -> int | None:
        """The process id of p2pd, None while there is none."""
        return self._process.pid if self._process else None

    @property
    def is_up(self) -> bool:
        """Whether there is a p2pd that answers."""
        return self._client is not None

    @property
    def client(self) -> P2pdClient:
        """The running p2pd, to be asked. Raises: PeerUnavailable while there is none."""
        if self._client is None:
            raise down()
        return self._client

    @property
    def p2p(self) -> P2P:
        """Hivemind's handle on the running p2pd, replaced by each restart.

        For hivemind's DHTNode; never shut it down: p2pd ends with it. Raises: PeerUnavailable.
        """
        if self._p2p is None:
            raise down()
        return self._p2p

    def add_outage_hook(self, hook: OutageHook) -> None:
        """Call ``hook`` when p2pd has ended, before it is started again."""
        self._restarts.add_outage_hook(hook)

    def add_restart_hook(self, hook: RestartHook) -> None:
        """Await ``hook`` after each restart of p2pd, when it is attached."""
        self._restarts.add_restart_hook(hook)

    async def start(self) -> None:
        """Start p2pd, and again whenever it ends.

        Raises: NetworkError: SK-NET-002 if the port is in use, SK-NET-004 if p2pd fails.
        """
        use_hivemind_log_handler("nowhere")  # its messages go where ours go
        end_leftover(self.options)
        await self._start()
        self._tasks.start(self._supervise(), "p2pd supervisor")

    def replace(self) -> None:
        """End a p2pd that does not do what it should; another is started."""
        if self._process is not None:
            self._process.kill()

    async def close(self) -> None:
        """End p2pd for good; never raises."""
        await self._tasks.cancel()
        await self._stop()
        self.options.pid_file.unlink(missing_ok=True)

    async def _start(self) -> None:
        self._generation += 1
        self._process = await P2pdProcess.start(
            self.options, self._port, self._sockets.path, self._generation
        )
        try:
            async with asyncio.timeout(_HUNG_SECONDS):
                await self._attach(self._process)
        except (OSError, EOFError, P2PDaemonError, PeerUnavailable) as error:
            raise NetworkError("SK-NET-004", f"p2pd does not answer: {error}") from error

    async def _attach(self, process: P2pdProcess) -> None:
        class AttachedP2P(P2P):  # type: ignore[misc]  # hivemind is untyped
            # Hivemind would put its client's socket into /tmp, where it could be left behind.
            _UNIX_SOCKET_PREFIX = f"/unix{self._sockets.path}/"

        self._p2p = await AttachedP2P.replicate(Multiaddr(f"/unix{process.control}"))
        client = P2pdClient(process.control)
        name, self._addresses = await client.identify()
        if name != self._me:
            raise NetworkError("SK-NET-004", f"p2pd calls itself {name}, not {self._me}")
        self._port = self._port or _tcp_port(self._addresses)
        self._client = client
        await self._attached(client)

    async def _stop(self) -> None:
        process, p2p = self._process, self._p2p
        self._process = self._client = self._p2p = None
        if p2p is not None:
            await p2p.shutdown()
        if process is not None:
            await process.stop()

    async def _supervise(self) -> None:
        while True:
            await self._watch()
            _LOG.warning("p2pd has ended; starting it again")
            self._restarts.tell_outage()
            self._ended()
            await self._restarts.start_again(self._replace_ended)
            await self._restarts.tell_restart()

    async def _watch(self) -> None:
        """Return when p2pd has ended; end it when it hangs."""
        assert self._process is not None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_SECONDS):
                    await self._process.wait()
                    return
            try:
                async with asyncio.timeout(_HUNG_SECONDS):
                    _, self._addresses = await self.client.identify()
            except (TimeoutError, PeerUnavailable) as error:
                _LOG.warning("p2pd does not answer (%s)", error)
                self._process.kill()

    async def _replace_ended(self) -> None:
        await self._stop()
        await self._start()


def down() -> PeerUnavailable:
    """Return what is raised while there is no p2pd."""
    return PeerUnavailable("SK-NET-003", "p2pd is being restarted")


def _tcp_port(addresses: tuple[str, ...]) -> int:
    for address in addresses:
        parts = address.split("/")
        if "tcp" in parts and "p2p-circuit" not in parts:
            return int(parts[parts.index("tcp") + 1])
    raise NetworkError("SK-NET-004", f"p2pd listens on no TCP port: {addresses}")
