"""Where the two ends of a measurement run: both on loopback, or apart on a shaped link."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from transport_bench.shaper import DEVICE

SHAPER = Path(__file__).with_name("shaper.py")


class Loopback:
    """Both ends on this machine, nothing between them."""

    name = "loopback"
    limit_mb_s: float | None = None
    """What the link can carry."""
    hosts = ("127.0.0.1", "127.0.0.1")

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to remove."""

    def command(self, end: int, *command: str) -> list[str]:
        """Return how to run a command at ``end`` 0 or 1."""
        return list(command)


class ShapedLink:
    """Two network namespaces of this process, joined at a given rate and round trip."""

    hosts = ("10.77.0.1", "10.77.0.2")

    def __init__(self, mbit: float, round_trip_ms: float) -> None:
        """Describe the link, with room for one round trip in its queues."""
        self.name = f"{mbit:g} Mbit/s, {round_trip_ms:g} ms"
        self.limit_mb_s: float | None = mbit / 8
        queue_kib = max(64, round(mbit * 1e6 / 8 * round_trip_ms / 1e3 / 1024))
        self._shape = (str(mbit), str(round_trip_ms / 2), str(queue_kib))
        self._names = [f"skerry-bench-{os.getpid()}-{end}" for end in "ab"]
        self._shaper: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Make the namespaces and the link. Raises: CalledProcessError; nothing is left then."""
        try:
            for name in self._names:
                _run("ip", "netns", "add", name)
            command = [sys.executable, str(SHAPER), *self._names, *self._shape]
            self._shaper = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert self._shaper.stdout is not None
            if self._shaper.stdout.readline() != "READY\n":
                raise subprocess.CalledProcessError(self._shaper.wait(), command)
            for end, host in enumerate(self.hosts):
                _run(*self.command(end, "ip", "addr", "add", f"{host}/24", "dev", DEVICE))
                _run(*self.command(end, "ip", "link", "set", DEVICE, "up", "mtu", "1500"))
                _run(*self.command(end, "ip", "link", "set", "lo", "up"))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove both."""
        if self._shaper is not None:
            self._shaper.kill()
            self._shaper.communicate()
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def command(self, end: int, *command: str) -> list[str]:
        """Return how to run a command at ``end`` 0 or 1."""
        return ["ip", "netns", "exec", self._names[end], *command]


def why_not() -> str:
    """Say what is missing for shaped links, nothing if they can be made."""
    if os.geteuid() != 0:
        return "shaped links need root: they are made of network namespaces"
    if shutil.which("ip") is None:
        return "shaped links need the command ip (package iproute2)"
    if not Path("/dev/net/tun").exists():
        return "shaped links need /dev/net/tun"
    return ""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
