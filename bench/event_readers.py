"""Readers of a status page's event stream, for benches: each holds one connection and counts."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

_PATIENCE_S = 60.0
"""A stream says at least that it is still there far more often."""


@dataclass(slots=True)
class EventReader:
    """One open event stream, read by a thread of its own."""

    connection: http.client.HTTPConnection
    num_bytes: int = 0
    num_events: int = 0
    ended: str = ""
    """Why it reads no more; empty while it does."""

    def follow(self, answer: http.client.HTTPResponse) -> None:
        """Read until the stream ends or the connection is closed."""
        self.ended = "the stream has ended"
        try:
            self.ended = ""
            while data := answer.read1(65536):
                self.num_bytes += len(data)
                self.num_events += data.count(b"\nevent:") + data.startswith(b"event:")
            self.ended = "the stream has ended"
        except (OSError, ValueError, AttributeError) as error:  # closed below, perhaps
            self.ended = repr(error)


@contextmanager
def event_readers(url: str, count: int) -> Iterator[list[EventReader]]:
    """Hold ``count`` event streams of the page at ``url`` open.

    Raises: SystemExit if the page serves none.
    """
    readers: list[EventReader] = []
    try:
        for _ in range(count):
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE_S)
            readers.append(EventReader(connection))
            connection.request("GET", "/api/v1/events")
            answer = connection.getresponse()
            if answer.status != 200:
                raise SystemExit(f"no event stream: {answer.status}")
            threading.Thread(target=readers[-1].follow, args=(answer,), daemon=True).start()
        yield readers
    finally:
        for reader in readers:
            reader.connection.close()
