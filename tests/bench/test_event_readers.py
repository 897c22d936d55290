"""A reader of a stream counts what comes and says when it ends."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from event_readers import event_readers

PATIENCE_S = 120.0


class Stream(BaseHTTPRequestHandler):
    """Sends two events and waits to be told to end."""

    status = 200
    end = threading.Event()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        assert self.path == "/api/v1/events"
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"event: run\ndata: {}\n\nid: 4\nevent: log\ndata: {}\n\n")
        self.end.wait(PATIENCE_S)


@pytest.fixture
def url() -> Iterator[str]:
    Stream.end.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Stream) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        Stream.end.set()
        server.shutdown()
        serving.join()


def test_events_are_counted_until_the_stream_ends(url: str) -> None:
    with event_readers(url, 1) as (reader,):
        Stream.end.set()
        reader.thread.join(PATIENCE_S)
        assert reader.num_events == 2
        assert reader.num_bytes == 48
        assert reader.ended == "the stream has ended"


def test_page_without_a_stream_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "status", 404)
    Stream.end.set()
    with pytest.raises(SystemExit, match="404"), event_readers(url, 1):
        pass
