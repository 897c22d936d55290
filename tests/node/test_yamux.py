"""The yamux multiplexer: two sessions joined by hand, and one that a hostile peer talks to."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.node.net.pylibp2p.yamux import (
    MAX_INBOUND,
    MAX_MESSAGE,
    MAX_WINDOW,
    YamuxSession,
)
from skerry.node.net.pylibp2p.yamux_stream import INITIAL_WINDOW, Flag, Kind, YamuxStream
from skerry.protocol.errors import PeerUnavailable, ProtocolError

HEADER = struct.Struct("!BBHII")


def frame(kind: int, flags: int, number: int, length: int, data: bytes = b"", version: int = 0):
    return HEADER.pack(version, kind, flags, number, length) + data


class Ends:
    """Two sessions, and what lies between them."""

    def __init__(self) -> None:
        self.now, self.woken = 0.0, 0
        self.near = YamuxSession(True, lambda: self.now, self._wake)
        self.far = YamuxSession(False, lambda: self.now, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def move(self, cut: int = MAX_MESSAGE) -> list[YamuxStream]:
        """Deliver in pieces of ``cut`` bytes until both are silent; return the streams opened."""
        accepted: list[YamuxStream] = []
        moved = True
        while moved:
            moved = False
            for source, target in ((self.near, self.far), (self.far, self.near)):
                while data := source.take():
                    moved = True
                    assert len(data) <= MAX_MESSAGE
                    for at in range(0, len(data), cut):
                        opened = target.receive(data[at : at + cut])
                        accepted += opened if target is self.far else []
        return accepted

    def open(self) -> tuple[YamuxStream, YamuxStream]:
        stream = self.near.open()
        (other,) = self.move()
        return stream, other


def send(stream: YamuxStream, data: bytes) -> int:
    return stream.write(memoryview(data))


def drain(stream: YamuxStream) -> bytes:
    data = b""
    while more := stream.read(2**20):
        data += more
    return data


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.binary(max_size=300)), max_size=40),
    st.integers(1, 50),
)
def test_whatever_is_written_arrives_in_order_however_it_is_cut(steps, cut: int) -> None:
    ends = Ends()
    pairs = [ends.open() for _ in range(4)]
    sent = {(way, which): b"" for way in (0, 1) for which in range(4)}
    for way, which, data in steps:
        assert send(pairs[which][way], data) == len(data)
        sent[int(way), which] += data
    ends.move(cut)
    for which, (near, far) in enumerate(pairs):
        assert drain(far) == sent[0, which]
        assert drain(near) == sent[1, which]
        near.close()
        ends.move(cut)
        assert far.read(1) == b""
        far.close()
    ends.move(cut)
    assert ends.near.num_streams == ends.far.num_streams == 0


@given(st.binary(max_size=200))
def test_rubbish_is_refused_or_ignored(data: bytes) -> None:
    session = YamuxSession(False, lambda: 0.0, lambda: None)
    try:
        session.receive(data)
    except ProtocolError as error:
        assert error.reason == "yamux"


def test_writer_is_held_by_the_window_until_the_reader_reads() -> None:
    ends = Ends()
    near, far = ends.open()
    called: list[str] = []
    near.on_writable = lambda: called.append("writable")
    data = bytes(INITIAL_WINDOW)
    sent = 0
    while taken := send(near, data):  # what is queued is bounded, too
        sent += taken
        ends.move()
    assert sent == INITIAL_WINDOW
    called.clear()
    ends.now += 1000.0  # however long the reader pauses
    ends.move()
    assert called == []
    assert len(far.read(1000) or b"") == 1000
    ends.move()
    assert called == []  # not for every crumb
    drain(far)
    ends.move()
    assert called == ["writable"]
    assert send(near, b"x") == 1


def test_queue_to_the_socket_is_bounded_over_all_streams() -> None:
    ends = Ends()
    streams = [ends.open()[0] for _ in range(50)]
    called: list[int] = []
    for number, stream in enumerate(streams):
        stream.on_writable = lambda number=number: called.append(number)
    sent = [send(stream, bytes(INITIAL_WINDOW)) for stream in streams]
    assert sum(sent) < 6 * MAX_MESSAGE
    held = [number for number, size in enumerate(sent) if size == 0]
    while ends.near.take():
        pass
    assert sorted(called) == sorted({*called})
    assert set(held) <= set(called)  # nobody is forgotten


def test_window_grows_while_the_round_trip_and_not_the_reader_is_the_limit() -> None:
    ends = Ends()
    near, far = ends.open()
    ends.far.ping()
    ends.near.receive(ends.far.take())
    ends.now += 0.05
    ends.far.receive(ends.near.take())
    assert ends.far.rtt_s == pytest.approx(0.05)
    for _ in range(40):
        send(near, bytes(2 * MAX_WINDOW))
        ends.move()
        drain(far)
    assert far.window_size == MAX_WINDOW
    slow_near, slow_far = ends.open()
    for _ in range(20):
        send(slow_near, bytes(INITIAL_WINDOW))
        ends.move()
        ends.now += 1.0
        drain(slow_far)
    assert slow_far.window_size == INITIAL_WINDOW


def test_windows_of_all_streams_together_are_bounded() -> None:
    ends = Ends()
    ends.far.rtt_s = 1.0
    pairs = [ends.open() for _ in range(12)]
    for _ in range(20):
        for near, far in pairs:
            send(near, bytes(MAX_WINDOW))
            ends.move()
            drain(far)
    total = sum(far.window_size - INITIAL_WINDOW for _, far in pairs)
    assert total <= 16 * 2**20
    for near, far in pairs:
        near.close()
        far.close()
    ends.move()
    assert ends.far._growth == 0


def test_close_delivers_what_was_written_and_then_an_end() -> None:
    ends = Ends()
    near, far = ends.open()
    send(near, b"last words")
    near.close()
    near.close()
    ends.move()
    assert far.read(100) == b"last words"
    assert far.read(100) == far.read(100) == b""
    with pytest.raises(PeerUnavailable, match="closed by the other side"):
        send(far, b"x")
    with pytest.raises(PeerUnavailable, match="closed here"):
        near.read(1)


def test_writer_to_a_closed_end_is_told_before_it_would_wait() -> None:
    session = YamuxSession(True, lambda: 0.0, lambda: None)
    stream = session.open()
    session.take()
    stream.close()
    session.take()
    half = INITIAL_WINDOW // 2 + 1  # of one who did not see our end yet
    session.receive(frame(Kind.DATA, 0, 1, half, bytes(half)))
    assert session.take() == frame(Kind.WINDOW, Flag.RST, 1, 0)
    assert session.num_streams == 0


def test_reset_ends_both_ends_at_once() -> None:
    ends = Ends()
    near, far = ends.open()
    called: list[str] = []
    far.on_readable = lambda: called.append("readable")
    send(near, b"never read")
    assert far.read(10) is None
    near.reset()
    ends.move()
    assert called == ["readable"]
    with pytest.raises(PeerUnavailable, match="reset by the other side"):
        far.read(10)
    with pytest.raises(PeerUnavailable, match="reset here"):
        send(near, b"x")
    assert ends.near.num_streams == ends.far.num_streams == 0


def test_lost_connection_ends_all_streams_after_what_has_arrived() -> None:
    ends = Ends()
    near, far = ends.open()
    done_near, done_far = ends.open()
    send(near, b"arrived")
    done_near.close()
    ends.move()
    ends.far.fail("cable cut")
    assert far.read(100) == b"arrived"
    with pytest.raises(PeerUnavailable, match="cable cut"):
        far.read(100)
    assert done_far.read(100) == b""
    with pytest.raises(PeerUnavailable, match="cable cut"):
        ends.far.open()


def test_end_that_the_other_side_never_answers_is_forgotten() -> None:
    ends = Ends()
    near, _ = ends.open()
    near.close()
    ends.now += 59.0
    ends.near.forget_unanswered()
    assert ends.near.num_streams == 1
    ends.now += 2.0
    ends.near.forget_unanswered()
    assert ends.near.num_streams == 0


def test_after_going_away_nothing_is_accepted() -> None:
    ends = Ends()
    ends.near.go_away()
    ends.move()
    with pytest.raises(PeerUnavailable):
        ends.far.open()
    ends.near.receive(frame(Kind.WINDOW, Flag.SYN, 2, 0))
    assert ends.near.take() == frame(Kind.WINDOW, Flag.RST, 2, 0)


def test_output_is_announced_once_after_each_silence() -> None:
    ends = Ends()
    assert ends.near.take() == b""
    ends.woken = 0
    ends.near.ping()
    ends.near.ping()
    assert ends.woken == 1
    while ends.near.take():
        pass
    ends.near.ping()
    assert ends.woken == 2


@pytest.mark.parametrize(
    "data",
    [
        frame(Kind.DATA, 0, 0, 0, version=1),
        frame(9, 0, 0, 0),
        frame(Kind.DATA, Flag.SYN, 1, INITIAL_WINDOW + 1),
        frame(Kind.DATA, 0, 77, MAX_WINDOW + 1),
        frame(Kind.WINDOW, Flag.SYN, 2, 0),
        frame(Kind.WINDOW, Flag.SYN, 0, 0),
        frame(Kind.WINDOW, Flag.SYN, 1, 0) * 2,
        frame(Kind.DATA, Flag.SYN, 1, INITIAL_WINDOW, bytes(INITIAL_WINDOW))
        + frame(Kind.DATA, 0, 1, 1, b"x"),
        frame(Kind.PING, Flag.SYN, 0, 1) * 6000,
        b"".join(frame(Kind.WINDOW, Flag.SYN, number, 0) for number in range(1, 12001, 2)),
    ],
    ids=[
        "version",
        "type",
        "oversize",
        "oversize for nobody",
        "our own number",
        "number zero",
        "opened twice",
        "beyond the window",
        "flood of pings",
        "flood of openings",
    ],
)
def test_breaking_the_rules_is_refused(data: bytes) -> None:
    session = YamuxSession(False, lambda: 0.0, lambda: None)
    with pytest.raises(ProtocolError) as caught:
        session.receive(data)
    assert caught.value.reason == "yamux"


def test_streams_beyond_the_limit_are_refused_one_by_one() -> None:
    session = YamuxSession(False, lambda: 0.0, lambda: None)
    numbers = range(1, 2 * MAX_INBOUND + 3, 2)
    opened = session.receive(b"".join(frame(Kind.WINDOW, Flag.SYN, n, 0) for n in numbers))
    assert len(opened) == session.num_streams == MAX_INBOUND
    said = session.take()
    assert said.endswith(frame(Kind.WINDOW, Flag.RST, numbers[-1], 0))
