"""Serves the real page with answers that a test has made, as the daemon would."""

import mimetypes
import queue
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel

from skerry.node.page.models import Answer, Problem

STATIC = Path(__file__).parents[2] / "node" / "page" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_KEEP_ALIVE_S = 0.2


class PageServer:
    """A context. ``answers`` may be changed; ``rounds?before=N`` is a path of its own."""

    def __init__(self, answers: dict[str, Answer | Problem]) -> None:
        """Serve on a free port of loopback, once entered."""
        self.answers = answers
        self.told: list[str] = []
        """Paths that were posted to."""
        self.wishes: list[str] = []
        """What was posted there; empty texts where nothing was."""
        self.closing = threading.Event()
        self._readers: list[queue.Queue[str]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def publish(self, event: str, data: BaseModel, number: int | None = None) -> None:
        """Send one event of the stream, with an id if it is a line of the log."""
        text = _event(event, data, number)
        with self._lock:
            for reader in self._readers:
                reader.put(text)

    def cut(self) -> None:
        """Close every stream, as a daemon that ends does."""
        with self._lock:
            for reader in self._readers:
                reader.put("")

    def subscribe(self) -> "queue.Queue[str]":
        """Add a reader of the stream."""
        reader: queue.Queue[str] = queue.Queue()
        with self._lock:
            self._readers.append(reader)
        return reader

    def unsubscribe(self, reader: "queue.Queue[str]") -> None:
        """Remove a reader."""
        with self._lock:
            self._readers.remove(reader)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(_Handler):
            owner = server

        return Handler


class _Handler(BaseHTTPRequestHandler):
    owner: PageServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = parts.path
        if path == "/api/v1/events":
            self._stream()
        elif path.startswith("/api/v1/"):
            before = parse_qs(parts.query).get("before")
            name = path.removeprefix("/api/v1/")
            self._answer(f"{name}?before={before[0]}" if before else name)
        else:
            self._file("index.html" if path == "/" else path.removeprefix("/static/"))

    def do_POST(self) -> None:
        path = urlsplit(self.path).path.removeprefix("/api/v1/")
        wish = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.owner.wishes.append(wish.decode())
        self.owner.told.append(path)
        self._answer(path)

    def _answer(self, name: str) -> None:
        missing = Problem(status=404, title="No such path", detail="See the API's description.")
        answer = self.owner.answers.get(name, missing)
        status = answer.status if isinstance(answer, Problem) else 200
        self._send(status, "application/json", answer.model_dump_json().encode())

    def _file(self, name: str) -> None:
        path = (STATIC / name).resolve()
        if not path.is_relative_to(STATIC) or not path.is_file():
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"not found")
            return
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self._send(HTTPStatus.OK, kind, path.read_bytes())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        if any(isinstance(answer, Problem) for answer in self.owner.answers.values()):
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for event in ("run", "peers"):
            self.wfile.write(_event(event, self.owner.answers[event]).encode())
        reader = self.owner.subscribe()
        try:
            while not self.owner.closing.is_set() and (text := self._next(reader)):
                self.wfile.write(text.encode())
        except OSError:  # the reader has gone
            pass
        finally:
            self.owner.unsubscribe(reader)

    def _next(self, reader: "queue.Queue[str]") -> str:
        try:
            return reader.get(timeout=_KEEP_ALIVE_S)
        except queue.Empty:
            return ": still here\n\n"


def _event(name: str, data: BaseModel, number: int | None = None) -> str:
    text = f"event: {name}\ndata: {data.model_dump_json()}\n"
    return text + ("\n" if number is None else f"id: {number}\n\n")
