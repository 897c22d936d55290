"""What every transport does when its network has ended: tell, start again, tell again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from skerry.node.net.node_transport import OutageHook, RestartHook
from skerry.protocol.errors import NetworkError, SkerryError

_LOG = logging.getLogger(__name__)
_HOOK_SECONDS = 60.0
_RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)


class Restarts:
    """Who is told of one transport's outages and restarts."""

    def __init__(self, what: str) -> None:
        """Tell nobody yet; ``what`` is restarted, as the log calls it."""
        self._what = what
        self._outage_hooks: list[OutageHook] = []
        self._restart_hooks: list[RestartHook] = []

    def add_outage_hook(self, hook: OutageHook) -> None:
        """Call ``hook`` at each outage, before anything is started again."""
        self._outage_hooks.append(hook)

    def add_restart_hook(self, hook: RestartHook) -> None:
        """Await ``hook`` after each restart."""
        self._restart_hooks.append(hook)

    def tell_outage(self) -> None:
        """Call the outage hooks."""
        for hook in self._outage_hooks:
            hook()

    async def start_again(self, start: Callable[[], Awaitable[None]]) -> None:
        """Await ``start``, which may raise NetworkError, until it succeeds."""
        attempt = 0
        while True:
            try:
                await start()
                return
            except NetworkError as error:
                delay = _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]
                _LOG.warning("no restart of %s, again in %.1f s: %s", self._what, delay, error)
                attempt += 1
                await asyncio.sleep(delay)

    async def tell_restart(self) -> None:
        """Await the restart hooks one after the other; none that fails or hangs stops the next."""
        for hook in self._restart_hooks:
            try:
                async with asyncio.timeout(_HOOK_SECONDS):
                    await hook()
            except (SkerryError, TimeoutError) as error:
                _LOG.warning("after the restart of %s: %r", self._what, error)
