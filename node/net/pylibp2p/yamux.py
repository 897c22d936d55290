"""The yamux multiplexer without I/O: what arrived goes in, what is to be sent comes out.

Spec: https://github.com/hashicorp/yamux/blob/master/spec.md. py-libp2p's own multiplexer is not
used: it resets a stream whose reader pauses for five seconds, stops at 254 streams, and stores
frames of any length and whatever exceeds a window (0.8.1). Here a peer that breaks the rules
ends its connection, and what it can make us store is bounded by windows that grow only while
somebody reads.

The network's thread calls ``receive`` and ``take``; streams may belong to another thread. All
callbacks are called with the session locked: they may wake somebody, and nothing else.
"""

import struct
import threading
from collections import deque
from collections.abc import Callable

from skerry.node.net.pylibp2p.yamux_stream import INITIAL_WINDOW, Flag, Kind, YamuxStream
from skerry.protocol.errors import PeerUnavailable, ProtocolError

PROTOCOL = "/yamux/1.0.0"
MAX_MESSAGE = 65519
"""Most bytes that ``take`` returns at once: what fits into one Noise message."""
MAX_INBOUND = 512
"""Streams that the other side may have open."""
MAX_WINDOW = 4 * 2**20
"""Largest window of a stream, in bytes: 80 MB/s over a round trip of 50 ms."""
MAX_GROWTH = 16 * 2**20
"""By how much all windows of a session may exceed the initial ones."""

_HEADER = struct.Struct("!BBHII")
_MAX_DATA = MAX_MESSAGE - _HEADER.size
# Data on its way to the socket: enough to keep it busy, little enough not to delay a heartbeat.
_MAX_QUEUED = 4 * MAX_MESSAGE
# Answers to pings and the like.
_MAX_CONTROL = 2**16
_UNANSWERED_CLOSE_SECONDS = 60.0
_MIN_RTT_SECONDS = 0.001


class YamuxSession:
    """One end of a multiplexed connection."""

    def __init__(
        self, initiator: bool, clock: Callable[[], float], on_output: Callable[[], None]
    ) -> None:
        """Begin; ``on_output`` is called when there is something to ``take`` again."""
        self._lock = threading.Lock()
        self._clock, self._on_output = clock, on_output
        self._next_id = 1 if initiator else 2
        self._streams: dict[int, YamuxStream] = {}
        self._inbound = 0
        self._control: deque[bytes] = deque()
        self._data: deque[bytes] = deque()
        self._control_bytes = self._data_bytes = 0
        self._writers: deque[YamuxStream] = deque()
        self._taken_up = True
        self._head = b""
        self._body: YamuxStream | None = None
        self._body_left = self._body_flags = 0
        self._growth = 0
        self._ping_sent_at: float | None = None
        self._lost: str | None = None
        self._going_away = False
        self.rtt_s = 0.0
        """Newest round trip, 0 until one was measured."""
        self.received_at = clock()
        """When bytes arrived last, in the clock's seconds."""

    # -- the network's side ----------------------------------------------------------------

    def receive(self, data: bytes) -> list[YamuxStream]:
        """Take in bytes of the other side; returns the streams that it opened.

        Raises: ProtocolError if it breaks the rules; the connection must be ended then.
        """
        opened: list[YamuxStream] = []
        with self._lock:
            self.received_at = self._clock()
            at = 0
            while at < len(data):
                if self._body_left:
                    piece = data[at : at + self._body_left]
                    at += len(piece)
                    self._take_body(piece)
                    continue
                piece = data[at : at + _HEADER.size - len(self._head)]
                at += len(piece)
                self._head += piece
                if len(self._head) == _HEADER.size:
                    head, self._head = self._head, b""
                    self._begin_frame(opened, *_HEADER.unpack(head))
        return opened

    def take(self) -> bytes:
        """Return up to MAX_MESSAGE bytes to send next, b"" if there are none now."""
        with self._lock:
            parts, size = [], 0
            for queue in (self._control, self._data):
                while queue and size + len(queue[0]) <= MAX_MESSAGE:
                    parts.append(queue.popleft())
                    size += len(parts[-1])
                    if queue is self._control:
                        self._control_bytes -= len(parts[-1])
                    else:
                        self._data_bytes -= len(parts[-1])
            self._taken_up = not parts
            self._admit_writers()
        return b"".join(parts)

    def ping(self) -> None:
        """Ask for a sign of life, which also measures the round trip."""
        with self._lock:
            self._ping_sent_at = self._clock()
            self._say(Kind.PING, Flag.SYN, 0, 0)

    def go_away(self) -> None:
        """Tell the other side that no stream will be accepted any more."""
        with self._lock:
            self._going_away = True
            self._say(Kind.GO_AWAY, 0, 0, 0)

    def forget_unanswered(self) -> None:
        """Reset streams that we closed long ago and the other side never did."""
        with self._lock:
            limit = self._clock() - _UNANSWERED_CLOSE_SECONDS
            for stream in list(self._streams.values()):
                if stream.closed_at is not None and stream.closed_at < limit:
                    self._reset(stream)

    def fail(self, why: str) -> None:
        """End all streams, because the connection is gone."""
        with self._lock:
            self._lost = why
            for stream in self._streams.values():
                stream.lose(why)
            self._streams.clear()
            self._writers.clear()
            self._data.clear()
            self._control.clear()
            self._data_bytes = self._control_bytes = 0

    @property
    def num_streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    # -- the streams' side -----------------------------------------------------------------

    def open(self) -> YamuxStream:
        """Open a stream. Raises: PeerUnavailable if the connection is gone or going."""
        with self._lock:
            if self._lost is not None or self._going_away:
                raise PeerUnavailable("SK-NET-003", self._lost or "the other side is closing")
            stream = YamuxStream(self._next_id, self)
            self._next_id += 2
            self._streams[stream.number] = stream
            self._queue(Kind.WINDOW, Flag.SYN, stream.number, 0)
            return stream

    def read(self, stream: YamuxStream, max_bytes: int) -> bytes | None:
        """Serve ``YamuxStream.read``."""
        with self._lock:
            data = stream.take_in(max_bytes)
            if data:
                self._grant(stream)
            return data

    def write(self, stream: YamuxStream, data: memoryview) -> int:
        """Serve ``YamuxStream.write``."""
        with self._lock:
            stream.check_writable()
            sent = 0
            while sent < len(data) and stream.credit and self._data_bytes < _MAX_QUEUED:
                piece = data[sent : sent + min(stream.credit, _MAX_DATA)]
                stream.credit -= len(piece)
                sent += len(piece)
                self._queue(Kind.DATA, 0, stream.number, len(piece), piece)
            if sent < len(data):
                stream.wants_to_write = True
                if stream.credit and stream not in self._writers:
                    self._writers.append(stream)
            return sent

    def close(self, stream: YamuxStream) -> None:
        """Serve ``YamuxStream.close``."""
        with self._lock:
            if stream.closed_at is None and not stream.over:
                stream.closed_at = self._clock()
                self._queue(Kind.WINDOW, Flag.FIN, stream.number, 0)
                stream.inbox.clear()
                self._end_if_useless(stream)

    def reset(self, stream: YamuxStream) -> None:
        """Serve ``YamuxStream.reset``."""
        with self._lock:
            if not stream.over:
                self._reset(stream)

    # -- what arrives (locked) -------------------------------------------------------------

    def _begin_frame(
        self,
        opened: list[YamuxStream],
        version: int,
        kind: int,
        flags: int,
        number: int,
        length: int,
    ) -> None:
        if version != 0 or kind not in (Kind.DATA, Kind.WINDOW, Kind.PING, Kind.GO_AWAY):
            raise ProtocolError("yamux", f"frame of version {version}, type {kind}")
        if self._control_bytes > _MAX_CONTROL or self._data_bytes > 2 * _MAX_QUEUED:
            raise ProtocolError("yamux", "it asks for answers that it does not read")
        if kind == Kind.PING:
            self._take_ping(flags, length)
        elif kind == Kind.GO_AWAY:
            self._going_away = True
        else:
            if flags & Flag.SYN:
                self._accept(number, opened)
            stream = self._streams.get(number)
            if kind == Kind.DATA and length:
                self._begin_body(stream, flags, length)
                return
            if stream is not None:
                if kind == Kind.WINDOW:
                    stream.add_credit(length)
                self._end_frame(stream, flags)

    def _begin_body(self, stream: YamuxStream | None, flags: int, length: int) -> None:
        # Of a stream that is over here, the other side may still send what its window allows.
        allowed = MAX_WINDOW if stream is None else stream.window
        if length > allowed:
            raise ProtocolError("yamux", f"frame of {length} bytes, {allowed} allowed")
        if stream is not None:
            stream.window -= length
        self._body, self._body_left, self._body_flags = stream, length, flags

    def _take_body(self, piece: bytes) -> None:
        self._body_left -= len(piece)
        stream = self._body
        if stream is not None:
            stream.put(piece)
            if not self._body_left:
                self._end_frame(stream, self._body_flags)

    def _end_frame(self, stream: YamuxStream, flags: int) -> None:
        if flags & Flag.RST:
            stream.refuse("reset by the other side")
            self._drop(stream)
            return
        if flags & Flag.FIN:
            stream.finish()
        self._end_if_useless(stream)

    def _accept(self, number: int, opened: list[YamuxStream]) -> None:
        if number % 2 == self._next_id % 2 or number == 0 or number in self._streams:
            raise ProtocolError("yamux", f"stream {number} cannot be opened")
        if self._inbound >= MAX_INBOUND or self._going_away:
            self._say(Kind.WINDOW, Flag.RST, number, 0)
            return
        self._inbound += 1
        stream = self._streams[number] = YamuxStream(number, self)
        self._say(Kind.WINDOW, Flag.ACK, number, 0)
        opened.append(stream)

    def _take_ping(self, flags: int, value: int) -> None:
        if flags & Flag.SYN:
            self._say(Kind.PING, Flag.ACK, 0, value)
        elif self._ping_sent_at is not None:
            self.rtt_s = max(self._clock() - self._ping_sent_at, _MIN_RTT_SECONDS)
            self._ping_sent_at = None

    # -- what leaves (locked) --------------------------------------------------------------

    def _grant(self, stream: YamuxStream) -> None:
        """Give back what was read, once it is half of the window; a busy window grows."""
        if stream.finished or stream.read_bytes < stream.window_size // 2:
            return
        now, amount = self._clock(), stream.read_bytes
        if now - stream.granted_at < 4 * self.rtt_s:  # it, and not the reader, was the limit
            more = min(stream.window_size, MAX_WINDOW - stream.window_size)
            more = min(more, MAX_GROWTH - self._growth)
            self._growth += more
            stream.window_size += more
            amount += more
        stream.granted_at, stream.read_bytes = now, 0
        stream.window += amount
        self._say(Kind.WINDOW, 0, stream.number, amount)

    def _end_if_useless(self, stream: YamuxStream) -> None:
        """Drop a stream that both sides closed; reset one that would make its writer wait."""
        if stream.closed_at is None:
            return
        if stream.finished:
            self._drop(stream)
        elif stream.window < stream.window_size // 2:
            self._reset(stream)

    def _reset(self, stream: YamuxStream) -> None:
        # In line with its data: before its opening it would reset nothing.
        self._queue(Kind.WINDOW, Flag.RST, stream.number, 0)
        stream.refuse("reset here")
        self._drop(stream)

    def _drop(self, stream: YamuxStream) -> None:
        if self._streams.pop(stream.number, None) is not None:
            self._growth -= stream.window_size - INITIAL_WINDOW
            self._inbound -= stream.number % 2 != self._next_id % 2

    def _say(self, kind: int, flags: int, number: int, length: int) -> None:
        """Queue a frame that goes out before all data."""
        self._control.append(_HEADER.pack(0, kind, flags, number, length))
        self._control_bytes += _HEADER.size
        self._signal()

    def _queue(
        self, kind: int, flags: int, number: int, length: int, data: memoryview | bytes = b""
    ) -> None:
        """Queue a frame that must keep its place among the data."""
        frame = b"".join((_HEADER.pack(0, kind, flags, number, length), data))
        self._data.append(frame)
        self._data_bytes += len(frame)
        self._signal()

    def _signal(self) -> None:
        if self._taken_up:
            self._taken_up = False
            self._on_output()

    def _admit_writers(self) -> None:
        """Wake those who wait for room, as many as there is room for, first come first."""
        room = _MAX_QUEUED - self._data_bytes if self._data else len(self._writers) * MAX_MESSAGE
        while self._writers and room > 0:
            self._writers.popleft().wake_writer()
            room -= MAX_MESSAGE
