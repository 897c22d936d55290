import pytest
import ring_strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_world import RUN

from skerry.protocol.errors import ProtocolError
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.frames import Lane
from skerry.protocol.rings.lanes import CHUNK_BYTES, Arrived, Inbox, LaneLimits, Outbox, SizeRange

FENCE = fr.Fence(RUN, 1, 0, 1, 0)
SMALL = LaneLimits(SizeRange(0, 5000), SizeRange(0, 5000), window_bytes=8000)
LARGE = LaneLimits(SizeRange(1, 2**20), SizeRange(1, 2**20), window_bytes=2**18)


def activation(microbatch: int = 0) -> fr.Frame:
    return fr.Frame(FENCE, fr.Place(microbatch, 1, 1), fr.Activation((), 10, fr.Pace()))


def gradient(microbatch: int = 0) -> fr.Frame:
    return fr.Frame(FENCE, fr.Place(microbatch, 1, 1), fr.Gradient(fr.Pace()))


def control(microbatch: int = 0) -> fr.Frame:
    return fr.Frame(FENCE, fr.Place(microbatch, 1, 1), fr.Passed())


def drain(outbox: Outbox) -> tuple[bytes, list[fr.Frame]]:
    data, sent = b"", []
    while (chunk := outbox.next_chunk(0.0)) is not None:
        data += chunk.data
        sent += [chunk.completes] if chunk.completes else []
    return data, sent


def refused(inbox: Inbox, data: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        inbox.feed(data)
    return caught.value.reason


class Pipe:
    """Both directions of a stream between two peers, one of which only answers with credit."""

    def __init__(self, limits: LaneLimits) -> None:
        self.now = 0.0
        self.near, self.back = Outbox(limits), Inbox(limits)
        self.far, self.into = Outbox(limits), Inbox(limits)

    def move(self, size: int = 2**16) -> list[Arrived]:
        data, _ = drain(self.near)
        found: list[Arrived] = []
        for start in range(0, len(data), size):
            found += self.into.feed(data[start : start + size])
        return found

    def answer(self) -> None:
        for lane, size in self.into.due_credit():
            self.far.give_credit(lane, size)
        self.back.feed(drain(self.far)[0])
        for lane, size in self.back.received_credit():
            self.now += 0.01
            self.near.take_credit(lane, size, self.now)


@st.composite
def loads(draw: st.DrawFn) -> list[tuple[fr.Frame, bytes]]:
    some = draw(st.lists(own.frames, max_size=8))
    plain = st.binary(max_size=5000)
    return [(f, b"" if f.lane is Lane.CONTROL else draw(plain)) for f in some]


@settings(max_examples=25)
@given(loads(), st.integers(1, 3000))
def test_every_frame_arrives_whole_and_in_its_lanes_order(load, cut):
    pipe, found = Pipe(SMALL), []
    for frame, payload in load:
        pipe.near.put(frame, payload)
    for _ in range(3 * len(load) + 1):
        for arrived in pipe.move(cut):
            found.append((arrived.frame, arrived.payload))
            pipe.into.taken(arrived.frame.lane)
        pipe.answer()
    for lane in Lane:
        assert [x for x in found if x[0].lane is lane] == [x for x in load if x[0].lane is lane]
    assert len(pipe.near) == 0
    assert pipe.into.held_bytes == 0


def test_a_control_frame_waits_for_one_chunk_at_most():
    outbox = Outbox(LARGE)
    outbox.put(activation(), bytes(200_000))
    first = outbox.next_chunk(0.0)
    outbox.put(control())
    chunk = outbox.next_chunk(0.0)
    assert first is not None and len(first.data) <= CHUNK_BYTES + 5
    assert chunk is not None and chunk.completes == control()


def test_gradients_overtake_activations_already_begun():
    outbox = Outbox(LARGE)
    outbox.put(activation(), bytes(30_000))
    outbox.next_chunk(0.0)
    outbox.put(gradient(), bytes(30_000))
    assert drain(outbox)[1] == [gradient(), activation()]


def test_without_credit_data_stops_and_control_goes_on():
    pipe = Pipe(LARGE)
    for number in range(4):
        pipe.near.put(activation(number), bytes(30_000))
    arrived = pipe.move()
    assert [a.frame for a in arrived] == [activation(0), activation(1)]
    assert pipe.near.next_chunk(0.0) is None
    pipe.near.put(control())
    assert [a.frame for a in pipe.move()] == [control()]


def test_a_slow_reader_holds_a_window_and_two_frames_whatever_is_sent():
    pipe, held = Pipe(LARGE), 0
    for number in range(50):
        pipe.near.put(activation(number), bytes(100_000))
    for _ in range(100):
        held += sum(len(a.payload) for a in pipe.move())
        pipe.answer()
    assert 0 < held + pipe.into.held_bytes <= LARGE.window_bytes + 3 * 100_000
    assert pipe.into.untaken(Lane.FORWARD) >= 2
    assert len(pipe.near) > 40


def test_when_the_slow_reader_takes_its_frames_the_rest_comes():
    pipe, waiting, found = Pipe(LARGE), [], []
    for number in range(20):
        pipe.near.put(activation(number), bytes(100_000))
    for _ in range(60):
        waiting += pipe.move()
        pipe.answer()
        if waiting:
            found.append(waiting.pop(0).frame.place.microbatch)
            pipe.into.taken(Lane.FORWARD)
    assert found == list(range(20))


def test_a_stalled_neighbour_is_named_before_memory_is_gone():
    outbox = Outbox(LaneLimits(SizeRange(0, 10), SizeRange(0, 10), backlog_frames=5))
    for number in range(5):
        outbox.put(control(number))
    with pytest.raises(ProtocolError) as caught:
        outbox.put(control())
    assert caught.value.reason == "stalled"


@pytest.mark.parametrize(
    ("frame", "size", "reason"),
    [
        (activation(), 5001, "shape"),
        (gradient(), 5001, "shape"),
    ],
)
def test_a_payload_of_the_wrong_shape_is_refused_at_both_ends(frame, size, reason):
    loose = LaneLimits(SizeRange(0, 2**30), SizeRange(0, 2**30), window_bytes=2**30)
    outbox, inbox = Outbox(loose), Inbox(SMALL)
    with pytest.raises(ProtocolError, match="bytes, allowed"):
        Outbox(SMALL).put(frame, bytes(size))
    outbox.put(frame, bytes(size))
    chunk = outbox.next_chunk(0.0)
    assert chunk is not None
    assert refused(inbox, chunk.data) == reason


def test_the_announced_size_is_checked_before_the_payload_comes():
    loose = LaneLimits(SizeRange(0, 2**30), SizeRange(0, 2**30), window_bytes=2**30)
    outbox, inbox = Outbox(loose), Inbox(LARGE)
    outbox.put(activation(), bytes(2**20 + 1))
    chunk = outbox.next_chunk(0.0)
    assert chunk is not None
    assert refused(inbox, chunk.data) == "shape"
    assert inbox.held_bytes <= CHUNK_BYTES


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x07\x00\x00\x00\x01x", "lane"),
        (b"\x10\x00\x00\x00\x01", "lane"),
        (b"\x00\x00\x00\x00\x00", "size"),
        (b"\x00\xff\xff\xff\xff", "size"),
        (b"\x00\x00\x00\x00\x04\xff\xff\xff\xff", "size"),
        (b"\x00\x00\x00\x00\x06\x00\x00\x00\x02\xff\xff", "malformed"),
    ],
)
def test_what_is_no_chunk_or_no_frame_is_refused(data, reason):
    assert refused(Inbox(SMALL), data) == reason


def test_a_frame_on_the_wrong_lane_is_refused():
    outbox = Outbox(SMALL)
    outbox.put(control())
    data, _ = drain(outbox)
    assert refused(Inbox(SMALL), b"\x02" + data[1:]) == "lane"


def test_more_than_the_window_is_refused():
    loose = LaneLimits(SizeRange(0, 5000), SizeRange(0, 5000), window_bytes=2**20)
    outbox, inbox = Outbox(loose), Inbox(SMALL)
    for number in range(3):
        outbox.put(activation(number), bytes(4000))
    assert refused(inbox, drain(outbox)[0]) == "credit"


def test_credit_that_was_never_used_is_refused():
    outbox = Outbox(SMALL)
    for lane in (Lane.FORWARD, Lane.CONTROL):
        with pytest.raises(ProtocolError) as caught:
            outbox.take_credit(lane, 1, 0.0)
        assert caught.value.reason == "credit"


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes_are_taken_or_refused_in_bounded_memory(parts):
    inbox = Inbox(SMALL)
    try:
        for part in parts:
            inbox.feed(part)
    except ProtocolError:
        return
    assert inbox.held_bytes <= sum(map(len, parts))
