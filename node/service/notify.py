"""Telling a service manager how the daemon is: systemd's notification datagrams.

One datagram of ``KEY=value`` lines to the unix socket that NOTIFY_SOCKET names, which may be an
abstract one (its name then begins with ``@``). Without that variable nothing is sent. The
watchdog's sign of life comes from the event loop: a loop that is stuck sends none, and the
manager restarts the daemon. Source: systemd's sd_notify(3) and sd_watchdog_enabled(3).
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping

_LOG = logging.getLogger(__name__)
_STATUS_SECONDS = 10.0
"""Between two looks at the status when no watchdog asks for more."""
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """The way to the service manager that started this process, if one did."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """Send to ``address`` (empty: nowhere); signs of life are due every ``watchdog_s``."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s
        self._silent = not address

    @staticmethod
    def take(environ: MutableMapping[str, str]) -> "Notifier":
        """Read the manager's variables and remove them: they are not for our child processes."""
        address, microseconds, pid = (environ.pop(name, "") for name in _VARIABLES)
        ours = pid in ("", str(os.getpid()))
        due = int(microseconds) / 1e6 if microseconds.isdecimal() and ours else 0.0
        return Notifier(address if address.startswith(("/", "@")) else "", due or None)

    def ready(self) -> None:
        """Say that the daemon takes commands, for the first time or after a reload."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that settings are being read again; ``ready`` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the daemon is ending."""
        self._send("STOPPING=1", "STATUS=stopping")

    async def keep_alive(self, status: Callable[[], str]) -> None:
        """Send signs of life twice as often as they are due, and the status when it changes."""
        if self._silent:
            return
        told = ""
        while True:
            text = " ".join(status().split())
            news = [f"STATUS={text}"] if text != told else []
            told = text
            alive = ["WATCHDOG=1"] if self.watchdog_s else []
            if news or alive:
                self._send(*news, *alive)
            await asyncio.sleep(min(_STATUS_SECONDS, (self.watchdog_s or 60.0) / 2))

    def _send(self, *lines: str) -> None:
        """Send one datagram; a manager that is gone or slow must not stop a run."""
        if self._silent:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            _LOG.warning("the service manager was not told %s: %s", lines[0], error)
