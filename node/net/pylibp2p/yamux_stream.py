"""One stream of a yamux session: what has arrived, what may be sent, and how it ended."""

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from skerry.protocol.errors import PeerUnavailable

INITIAL_WINDOW = 256 * 1024
"""Bytes that each side may send before it is granted more; fixed by the spec."""


class Kind:
    """Types of frames."""

    DATA = 0
    WINDOW = 1
    PING = 2
    GO_AWAY = 3


class Flag:
    """Flags of frames."""

    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class Session(Protocol):
    """What a stream asks of its session, which locks itself."""

    def read(self, stream: "YamuxStream", max_bytes: int) -> bytes | None:
        """Take from the stream's inbox."""

    def write(self, stream: "YamuxStream", data: memoryview) -> int:
        """Queue what fits."""

    def close(self, stream: "YamuxStream") -> None:
        """Close both directions."""

    def reset(self, stream: "YamuxStream") -> None:
        """End at once."""


def _nobody() -> None:
    """Stand for a user who has not said yet how to wake it."""


class YamuxStream:
    """Never blocks: who cannot go on is called back when it can. For one reader and one writer.

    The first four methods and the callbacks are for the stream's user; all others, and the
    fields, belong to the session and are used with the session locked.
    """

    def __init__(self, number: int, session: Session) -> None:
        """Be the stream ``number`` of ``session``."""
        self.number, self._session = number, session
        self.on_readable: Callable[[], None] = _nobody
        """Called after ``read`` returned None, when it would not any more."""
        self.on_writable: Callable[[], None] = _nobody
        """Called after ``write`` took less than all, when it would take more."""
        self.inbox: deque[bytes] = deque()
        self.credit = INITIAL_WINDOW
        """Bytes that we may send."""
        self.window = self.window_size = INITIAL_WINDOW
        """Bytes that the other side may send now, and after all was read."""
        self.read_bytes = 0
        """Read since the last grant."""
        self.granted_at = -math.inf
        self.finished = False
        """Whether the other side has closed."""
        self.closed_at: float | None = None
        """When this side closed."""
        self.wants_to_read = self.wants_to_write = False
        self._why: str | None = None
        self._lost = False

    def read(self, max_bytes: int) -> bytes | None:
        """Return up to ``max_bytes``, b"" at the end, None if nothing is here yet.

        Raises: PeerUnavailable if the stream was closed here or reset, or the connection lost.
        """
        return self._session.read(self, max_bytes)

    def write(self, data: memoryview) -> int:
        """Queue a beginning of ``data`` and return its length, 0 if there is no room now.

        Raises: PeerUnavailable if the stream was closed at either end or reset, or the connection
            lost. Whoever closes has closed both directions, as with p2pd.
        """
        return self._session.write(self, data)

    def close(self) -> None:
        """Close both directions; what was written still arrives."""
        self._session.close(self)

    def reset(self) -> None:
        """End at once, at both ends."""
        self._session.reset(self)

    @property
    def over(self) -> bool:
        """Whether nothing can be sent any more, not even an end."""
        return self._why is not None

    def take_in(self, max_bytes: int) -> bytes | None:
        """Take from the inbox, as ``read`` does."""
        kept = self.finished or (self._lost and self.inbox)
        if self.closed_at is not None or (self._why is not None and not kept):
            self._raise()
        if not self.inbox:
            self.wants_to_read = not self.finished
            return b"" if self.finished else None
        data = self.inbox.popleft()
        if len(data) > max_bytes:
            self.inbox.appendleft(data[max_bytes:])
            data = data[:max_bytes]
        self.read_bytes += len(data)
        return data

    def check_writable(self) -> None:
        """Raises: PeerUnavailable if nothing can be sent any more."""
        if self._why is not None or self.closed_at is not None or self.finished:
            self._raise()

    def put(self, data: bytes) -> None:
        """Take what has arrived; for an end that was closed it is thrown away."""
        if self.closed_at is None and not self.over:
            self.inbox.append(data)
            self.wake_reader()

    def add_credit(self, amount: int) -> None:
        """Let more be sent."""
        self.credit += amount
        if self.credit:
            self.wake_writer()

    def finish(self) -> None:
        """Note that the other side has closed."""
        self.finished = True
        self.wake_reader()
        self.wake_writer()

    def refuse(self, why: str) -> None:
        """End it; after an orderly end of the other side, what came before can still be read."""
        self._why = why
        if not self.finished:
            self.inbox.clear()
        self.wake_reader()
        self.wake_writer()

    def lose(self, why: str) -> None:
        """End it with the connection; what had arrived can still be read."""
        self._why, self._lost = why, True
        self.wake_reader()
        self.wake_writer()

    def wake_reader(self) -> None:
        """Call back who waits for bytes."""
        if self.wants_to_read:
            self.wants_to_read = False
            self.on_readable()

    def wake_writer(self) -> None:
        """Call back who waits for room."""
        if self.wants_to_write:
            self.wants_to_write = False
            self.on_writable()

    def _raise(self) -> None:
        whose = "closed by the other side" if self.closed_at is None else "closed here"
        why = self._why or whose
        raise PeerUnavailable("SK-NET-003", f"stream {self.number}: {why}")
