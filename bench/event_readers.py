"""Readers of a status page's event stream, for benches: each holds one connection and counts."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_PATIENCE_S = 60.0
"""A stream says at least that it is still there far more often."""


class EventReader:
    """One open event stream, read by a thread of its own."""

    def __init__(self, url: str) -> None:
        """Open the stream of the page at ``url``. Raises: SystemExit if it serves none."""
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE_S)
        self._connection.request("GET", "/api/v1/events")
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        if self._answer.status != 200:
            self._connection.close()
            raise SystemExit(f"no event stream: {self._answer.status}")
        self.num_bytes = 0
        self.num_events = 0
        self.ended = ""
        """Why it reads no more; empty while it does."""
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Hang up, and wait until the thread has noticed."""
        with suppress(OSError):  # the other side has hung up already
            self._socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self._answer.close()
        self._connection.close()

    def _follow(self) -> None:
        try:
            while line := self._answer.readline():
                self.num_bytes += len(line)
                self.num_events += line.startswith(b"event:")
            self.ended = "the stream has ended"
        except OSError as error:
            self.ended = repr(error)


@contextmanager
def event_readers(url: str, count: int) -> Iterator[list[EventReader]]:
    """Hold ``count`` event streams open. Raises: SystemExit if the page serves none."""
    readers: list[EventReader] = []
    try:
        readers += (EventReader(url) for _ in range(count))
        yield readers
    finally:
        for reader in readers:
            reader.close()
