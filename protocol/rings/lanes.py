"""Frames of three lanes over one byte stream, in chunks: what is urgent overtakes what is long.

A chunk is a byte that says what it is, a 4-byte big-endian number, and data:

- a lane's number, then the length of the data: the next bytes of that lane. Each lane is a
  sequence of frames: a 4-byte length, the head of that length, the payload that the head announces;
- 16 plus a lane's number, then how many more bytes of it the other side may send: **credit**.

Control frames need no credit. A data lane starts with a window of credit; the receiver gives back
what it has taken in as long as few complete frames wait to be taken, so a slow reader stops the
sender's data while control still passes. Sans-I/O: bytes and frames go in, chunks and frames come
out. Memory is bounded by the limits given; a payload's announced size is checked before any of
it is kept.
"""

import struct
from collections import deque
from dataclasses import dataclass, field

from skerry.protocol.errors import ProtocolError
from skerry.protocol.rings.codec import MAX_HEAD_BYTES, decode_frame, encode_frame
from skerry.protocol.rings.flow import Flow
from skerry.protocol.rings.frames import Activation, Frame, Gradient, Lane

CHUNK_BYTES = 16 * 1024
_HEADER = struct.Struct(">BI")
CHUNK_HEADER_BYTES = _HEADER.size
_LENGTH = struct.Struct(">I")
_CREDIT = 16
STALLED = "stalled"
"""Why a stream is given up whose other side takes too little."""
_UNTAKEN = 2
"""Complete frames of a data lane that may wait before its credit is withheld."""


@dataclass(frozen=True, slots=True)
class SizeRange:
    """Which sizes of payload are allowed, bytes."""

    least: int
    most: int

    def check(self, size: int, what: str) -> None:
        """Refuse a payload of the wrong shape. Raises: ProtocolError."""
        if not self.least <= size <= self.most:
            detail = f"{what} of {size} bytes, allowed are {self.least} to {self.most}"
            raise ProtocolError("shape", detail)


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """What one stream may hold."""

    forward: SizeRange
    backward: SizeRange
    window_bytes: int = 1024 * 1024
    """Of each data lane: the most that is sent and not yet credited."""
    backlog_frames: int = 8192
    """Control frames that may wait to be sent before the neighbour counts as stalled."""
    backlog_data: int = 256
    """Activations that may wait to be sent, and gradients, before it does."""

    def check(self, frame: Frame, size: int) -> None:
        """Refuse a payload that its kind of frame does not have. Raises: ProtocolError."""
        match frame.body:
            case Activation():
                self.forward.check(size, "activation")
            case Gradient():
                self.backward.check(size, "gradient")
            case _:
                SizeRange(0, 0).check(size, "payload of a control frame")


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next bytes to send."""

    data: bytes
    lane: Lane | None
    """None: it gives credit."""
    completes: Frame | None = None
    """The frame of which these are the last bytes."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A complete frame."""

    frame: Frame
    payload: bytes


@dataclass(slots=True)
class _Outgoing:
    frame: Frame
    parts: tuple[memoryview, memoryview]
    sent: int = 0

    @property
    def left(self) -> int:
        return len(self.parts[0]) + len(self.parts[1]) - self.sent

    def take(self, size: int) -> bytes:
        head, payload = self.parts
        at, self.sent = self.sent, self.sent + size
        behind = max(at - len(head), 0)
        first = head[at : at + size]
        return bytes(first) + bytes(payload[behind : behind + size - len(first)])


class Outbox:
    """What one side has to send, most urgent first."""

    def __init__(self, limits: LaneLimits) -> None:
        """Start empty, with a window of credit for each data lane."""
        self._limits = limits
        self._lanes: dict[Lane, deque[_Outgoing]] = {lane: deque() for lane in Lane}
        self._credit = dict.fromkeys((Lane.BACKWARD, Lane.FORWARD), limits.window_bytes)
        self._owed = dict.fromkeys((Lane.BACKWARD, Lane.FORWARD), 0)
        self._flow = Flow()

    def __len__(self) -> int:
        """How many frames wait."""
        return sum(len(lane) for lane in self._lanes.values())

    @property
    def holds_data(self) -> bool:
        """Whether activations or gradients wait."""
        return any(self._lanes[lane] for lane in self._credit)

    def put(self, frame: Frame, payload: bytes = b"") -> None:
        """Add a frame. Raises: ProtocolError("stalled") if too many wait already."""
        waiting, limits = len(self._lanes[frame.lane]), self._limits
        most = limits.backlog_data if frame.lane in self._credit else limits.backlog_frames
        if waiting >= most:
            raise ProtocolError(STALLED, f"{waiting} frames of {frame.lane.name} wait to be sent")
        self._limits.check(frame, len(payload))
        head = encode_frame(frame, len(payload))
        parts = (memoryview(_LENGTH.pack(len(head)) + head), memoryview(payload))
        self._lanes[frame.lane].append(_Outgoing(frame, parts))

    def give_credit(self, lane: Lane, size: int) -> None:
        """Let the other side send ``size`` more bytes of a data lane."""
        self._owed[lane] += size

    def take_credit(self, lane: Lane, size: int, now: float) -> None:
        """The other side has taken in ``size`` bytes. Raises: ProtocolError if never sent."""
        if lane not in self._credit or self._credit[lane] + size > self._limits.window_bytes:
            raise ProtocolError("credit", f"{size} bytes of credit that were never used")
        self._credit[lane] += size
        self._flow.taken(size, now)

    def next_chunk(self, now: float) -> Chunk | None:
        """Return what to send next; None if there is nothing that may be sent.

        ``now`` is monotonic seconds.
        """
        for lane, size in self._owed.items():
            if size:
                self._owed[lane] = 0
                return Chunk(_HEADER.pack(_CREDIT + lane, size), None)
        for lane, waiting in self._lanes.items():
            if not waiting:
                continue
            room = min(self._credit[lane], self._flow.room()) if lane else CHUNK_BYTES
            if room > 0:
                return self._cut(lane, waiting, room, now)
        return None

    def _cut(self, lane: Lane, waiting: deque[_Outgoing], room: int, now: float) -> Chunk:
        outgoing = waiting[0]
        size = min(outgoing.left, room, CHUNK_BYTES)
        data = _HEADER.pack(lane, size) + outgoing.take(size)
        if lane in self._credit:
            self._credit[lane] -= size
            self._flow.sent(size, now)
        if outgoing.left:
            return Chunk(data, lane)
        waiting.popleft()
        return Chunk(data, lane, outgoing.frame)


@dataclass(slots=True)
class _Assembly:
    """One lane's frame that is coming in."""

    buffer: bytearray = field(default_factory=bytearray)
    head: Frame | None = None
    wanted: int = _LENGTH.size
    """Bytes of what is being read: the length, the head or the payload."""
    length_read: bool = False

    @property
    def begun(self) -> bool:
        """Whether a part of a frame is here."""
        return self.length_read or bool(self.buffer)

    def reset(self) -> None:
        self.head, self.wanted, self.length_read = None, _LENGTH.size, False


class Inbox:
    """What comes in from one neighbour."""

    def __init__(self, limits: LaneLimits) -> None:
        """Start with nothing received."""
        self._limits = limits
        self._buffer = bytearray()
        self._lanes = {lane: _Assembly() for lane in Lane}
        self._uncredited = dict.fromkeys((Lane.BACKWARD, Lane.FORWARD), 0)
        self._untaken = dict.fromkeys(Lane, 0)
        self._credit: list[tuple[Lane, int]] = []

    @property
    def held_bytes(self) -> int:
        """Bytes kept here of frames and chunks that are not complete."""
        return len(self._buffer) + sum(len(lane.buffer) for lane in self._lanes.values())

    def feed(self, data: bytes) -> list[Arrived]:
        """Take in bytes of the stream. Raises: ProtocolError, after which the stream is useless."""
        self._buffer += data
        arrived: list[Arrived] = []
        while len(self._buffer) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(self._buffer)
            if kind in (_CREDIT + Lane.BACKWARD, _CREDIT + Lane.FORWARD):
                self._credit.append((Lane(kind - _CREDIT), size))
                del self._buffer[: _HEADER.size]
                continue
            lane = self._checked_lane(kind, size)
            if len(self._buffer) < _HEADER.size + size:
                break
            chunk = bytes(self._buffer[_HEADER.size : _HEADER.size + size])
            del self._buffer[: _HEADER.size + size]
            arrived += self._take_chunk(lane, chunk)
        return arrived

    def received_credit(self) -> list[tuple[Lane, int]]:
        """Return the credit that came in since the last call."""
        credit, self._credit = self._credit, []
        return credit

    def taken(self, lane: Lane) -> None:
        """A complete frame of this lane was taken from where it waited."""
        self._untaken[lane] -= 1

    def untaken(self, lane: Lane) -> int:
        """Return how many complete frames of a lane wait to be taken."""
        return self._untaken[lane]

    def due_credit(self) -> list[tuple[Lane, int]]:
        """Return the credit to give now; it counts as given."""
        enough = min(2 * CHUNK_BYTES, self._limits.window_bytes // 4)
        due = [
            (lane, size)
            for lane, size in self._uncredited.items()
            if (size >= enough or (size and not self._lanes[lane].begun))
            and self._untaken[lane] < _UNTAKEN
        ]
        for lane, _ in due:
            self._uncredited[lane] = 0
        return due

    def _checked_lane(self, kind: int, size: int) -> Lane:
        if kind not in tuple(Lane):
            raise ProtocolError("lane", f"chunk of unknown kind {kind}")
        if not 0 < size <= CHUNK_BYTES:
            raise ProtocolError("size", f"chunk of {size} bytes, limit {CHUNK_BYTES}")
        lane = Lane(kind)
        limit = self._limits.window_bytes
        if lane in self._uncredited and self._uncredited[lane] + size > limit:
            raise ProtocolError("credit", f"more than {limit} bytes without credit")
        return lane

    def _take_chunk(self, lane: Lane, chunk: bytes) -> list[Arrived]:
        if lane in self._uncredited:
            self._uncredited[lane] += len(chunk)
        assembly, arrived = self._lanes[lane], []
        assembly.buffer += chunk
        while len(assembly.buffer) >= assembly.wanted:
            whole = bytes(memoryview(assembly.buffer)[: assembly.wanted])
            del assembly.buffer[: assembly.wanted]
            if not assembly.length_read:
                self._begin(assembly, whole)
            elif assembly.head is None:
                self._read_head(assembly, lane, whole)
            else:
                arrived.append(Arrived(assembly.head, whole))
                self._untaken[lane] += 1
                assembly.reset()
        return arrived

    def _begin(self, assembly: _Assembly, length: bytes) -> None:
        (assembly.wanted,) = _LENGTH.unpack(length)
        assembly.length_read = True
        if assembly.wanted > MAX_HEAD_BYTES:
            raise ProtocolError("size", f"frame head of {assembly.wanted} bytes")

    def _read_head(self, assembly: _Assembly, lane: Lane, head: bytes) -> None:
        frame, size = decode_frame(head)
        if frame.lane is not lane:
            raise ProtocolError("lane", f"{type(frame.body).__name__} on lane {lane.name}")
        self._limits.check(frame, size)
        assembly.head, assembly.wanted = frame, size
