"""A link of a given rate, delay and queue between two network namespaces, in user space.

For kernels without sch_netem. Run as a process of its own by link.py: it opens one TUN device in
each namespace and passes packets on when their time has come. Needs root, and nothing compiled.
"""

import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from pathlib import Path

DEVICE = "t0"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_MAX_PACKET = 65536


class Direction:
    """When each packet of one direction arrives; a pure function of what was offered."""

    def __init__(self, bits_per_s: float, delay_s: float, queue_bytes: int) -> None:
        """Serialise at a rate, then delay; drop what does not fit into the queue."""
        self._s_per_byte, self._delay_s = 8 / bits_per_s, delay_s
        self._queue_s = queue_bytes * self._s_per_byte
        self._free_at = 0.0
        self._waiting: deque[tuple[float, bytes]] = deque()
        self.passed_bytes = self.dropped = 0

    def offer(self, packet: bytes, now: float) -> None:
        """Take a packet that begins to queue at ``now``, in seconds."""
        begin = max(self._free_at, now)
        if begin - now > self._queue_s:
            self.dropped += 1
            return
        self._free_at = begin + len(packet) * self._s_per_byte
        self._waiting.append((self._free_at + self._delay_s, packet))
        self.passed_bytes += len(packet)

    def arrived(self, now: float) -> list[bytes]:
        """Return the packets that have arrived by ``now``."""
        found = []
        while self._waiting and self._waiting[0][0] <= now:
            found.append(self._waiting.popleft()[1])
        return found

    def next_at(self) -> float | None:
        """Return when the next packet arrives."""
        return self._waiting[0][0] if self._waiting else None


def open_tun(namespace: str) -> int:
    """Make the device in a namespace and return its descriptor. Raises: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open("rb") as home:
        with Path(f"/run/netns/{namespace}").open("rb") as there:
            _enter(libc, there.fileno())
        try:
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            wanted = struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI)
            fcntl.ioctl(tun, _TUNSETIFF, wanted)
        finally:
            _enter(libc, home.fileno())
    return tun


def shape(tuns: tuple[int, int], directions: tuple[Direction, Direction]) -> None:
    """Pass packets on until killed."""
    poller = select.epoll()
    for tun in tuns:
        poller.register(tun, select.EPOLLIN)
    while True:
        due = [at for way in directions if (at := way.next_at()) is not None]
        poller.poll(max(0.0, min(due) - time.monotonic()) if due else None)
        for source, target, way in ((*tuns, directions[0]), (*reversed(tuns), directions[1])):
            _take(source, way)
            for packet in way.arrived(time.monotonic()):
                try:
                    os.write(target, packet)
                except OSError:  # the device is down: as if the cable were out
                    way.dropped += 1


def _take(tun: int, way: Direction) -> None:
    for _ in range(64):
        try:
            packet = os.read(tun, _MAX_PACKET)
        except BlockingIOError:
            return
        way.offer(packet, time.monotonic())


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main(one: str, other: str, mbit: str, delay_ms: str, queue_kib: str) -> None:
    """Join two namespaces until killed; says READY when both devices are there."""
    ways = [
        Direction(float(mbit) * 1e6, float(delay_ms) / 1e3, int(queue_kib) * 1024) for _ in "ab"
    ]
    tuns = open_tun(one), open_tun(other)
    print("READY", flush=True)
    shape(tuns, (ways[0], ways[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
