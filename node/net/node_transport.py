"""What the daemon asks of its transport besides the streams: how it fares, and who is told."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from skerry.protocol.ids import PeerId
from skerry.protocol.transport import Transport

RestartHook = Callable[[], Awaitable[None]]
OutageHook = Callable[[], None]


class NodeTransport(Transport, Protocol):
    """A Transport of a real machine: node/net/p2pd.py and node/net/pylibp2p/transport.py."""

    @property
    def restarts(self) -> int:
        """How often the network had to be started again."""

    async def relayed(self) -> dict[PeerId, bool]:
        """Say of each connected peer whether only a relay leads to it. Raises: PeerUnavailable."""

    def add_outage_hook(self, hook: OutageHook) -> None:
        """Call ``hook`` when the network has failed, before it is started again."""

    def add_restart_hook(self, hook: RestartHook) -> None:
        """Await ``hook`` after each restart of the network, when all handlers are back."""
