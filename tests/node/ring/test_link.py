"""One stream between two neighbours, in memory and on virtual time: what waits for what."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from ring_swarm import RUN, new_peer

from skerry.node.ring.link import Carried, NeighbourLink
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.memory import Limits, Link, VirtualNetwork
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.frames import RING_PROTOCOL, Lane
from skerry.protocol.rings.lanes import Arrived, LaneLimits, SizeRange
from skerry.protocol.transport import ByteStream
from skerry.protocol.virtual_time import run_virtual

SIZE = 100_000
WINDOW = 2**20
WHOLE = SizeRange(SIZE, SIZE)
LIMITS = LaneLimits(WHOLE, WHOLE, WINDOW, backlog_frames=200, backlog_data=100)
STALL_S = 60.0
FENCE = fr.Fence(RUN, 1, 0, 1, 0)


def frame(body: fr.Body, microbatch: int = 0) -> fr.Frame:
    return fr.Frame(FENCE, fr.Place(microbatch, 1, 1), body)


ACTIVATION = fr.Activation((), 10, fr.Pace())
GRADIENT = fr.Gradient(fr.Pace())


@dataclass
class End:
    """One side: its link, and what arrived when."""

    link: NeighbourLink
    arrived: list[tuple[float, Arrived]] = field(default_factory=list)
    sent: list[tuple[fr.Frame, float]] = field(default_factory=list)
    take: asyncio.Event = field(default_factory=asyncio.Event)
    """While clear, nothing is taken."""
    carried: list[Carried] = field(default_factory=list)
    """What the link has told of its bytes."""
    ended: ProtocolError | None = None
    """Why the link has ended, if by an error."""

    async def run(self) -> None:
        try:
            await self.link.run()
        except ProtocolError as error:
            self.ended = error

    def sent_bytes(self, lane: Lane) -> int:
        return sum(one.sent for one in self.carried if one.lane is lane)

    def bodies(self) -> list[str]:
        return [type(arrived.frame.body).__name__ for _, arrived in self.arrived]


def end_of(stream: ByteStream) -> End:
    async def deliver(arrived: Arrived) -> None:
        if arrived.payload:
            await end.take.wait()
        end.arrived.append((asyncio.get_running_loop().time(), arrived))

    async def sent(done: fr.Frame, seconds: float) -> None:
        end.sent.append((done, seconds))

    def count(peer: PeerId, carried: Carried) -> None:
        assert peer == stream.peer
        end.carried.append(carried)

    end = End(NeighbourLink(stream, LIMITS, deliver, sent, STALL_S, count))
    end.take.set()
    return end


def link_test(scenario: Callable[[End, End], Awaitable[None]], link: Link) -> None:
    """Join two peers by one stream and let ``scenario`` use both ends."""

    async def main() -> None:
        network = VirtualNetwork(seed=1, link=link, limits=Limits(stall_s=60.0))
        near, far = (network.transport(new_peer()) for _ in range(2))
        streams: asyncio.Queue[ByteStream] = asyncio.Queue()

        async def accept(stream: ByteStream) -> None:
            await streams.put(stream)
            await asyncio.Event().wait()

        await far.handle(RING_PROTOCOL, accept)
        await near.connect(far.peer_id, far.addresses)
        ends = [end_of(await near.open_stream(far.peer_id, RING_PROTOCOL))]
        ends.append(end_of(await streams.get()))
        running = [asyncio.create_task(end.run()) for end in ends]
        try:
            await scenario(*ends)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            await near.close()
            await far.close()

    run_virtual(main())


def test_a_control_frame_does_not_wait_for_the_activations_before_it():
    async def scenario(near: End, far: End) -> None:
        for number in range(5):
            near.link.send(frame(ACTIVATION, number), bytes(SIZE))
        await asyncio.sleep(0.05)
        near.link.send(frame(fr.Passed()))
        await asyncio.sleep(10.0)
        assert far.bodies() == ["Passed"] + ["Activation"] * 5
        # 100 kB take 1 s of this link; the control frame waits for less than that.
        assert far.arrived[0][0] < 1.0

    link_test(scenario, Link(bytes_per_s=100_000))


def test_a_long_fast_link_is_kept_busy():
    async def scenario(near: End, far: End) -> None:
        for number in range(100):
            near.link.send(frame(ACTIVATION, number), bytes(SIZE))
        await asyncio.sleep(4.0)
        # 10 MB at 2.5 MB/s take 4 s, were there no delay of 50 ms each way and nothing to learn.
        assert len(far.arrived) >= 80

    link_test(scenario, Link(delay_s=0.05, bytes_per_s=2_500_000))


def test_a_gradient_overtakes_the_activations_before_it():
    async def scenario(near: End, far: End) -> None:
        for number in range(3):
            near.link.send(frame(ACTIVATION, number), bytes(SIZE))
        near.link.send(frame(GRADIENT), bytes(SIZE))
        await asyncio.sleep(10.0)
        assert far.bodies() == ["Gradient"] + ["Activation"] * 3

    link_test(scenario, Link(bytes_per_s=100_000))


def test_a_slow_reader_stops_the_data_but_not_the_control_frames():
    async def scenario(near: End, far: End) -> None:
        far.take.clear()
        for number in range(50):
            near.link.send(frame(ACTIVATION, number), bytes(SIZE))
        await asyncio.sleep(30.0)
        waiting = near.link.backlog
        assert 46 <= waiting < 50  # a window and two frames have left, and no more
        far.link.send(frame(fr.Passed()))
        near.link.send(frame(fr.Passed()))
        await asyncio.sleep(1.0)
        assert near.bodies() == ["Passed"]
        far.take.set()
        await asyncio.sleep(60.0)
        assert near.link.backlog == 0
        numbers = [a.frame.place.microbatch for _, a in far.arrived if a.payload]
        assert numbers == list(range(50))

    link_test(scenario, Link(delay_s=0.02))


def test_the_time_of_an_upload_is_told():
    async def scenario(near: End, far: End) -> None:
        near.link.send(frame(ACTIVATION), bytes(SIZE))
        await asyncio.sleep(10.0)
        near.link.send(frame(fr.Passed()))
        await asyncio.sleep(1.0)
        [(done, seconds)] = near.sent
        assert done == frame(ACTIVATION)
        assert 0.0 <= seconds < 2.0

    link_test(scenario, Link(bytes_per_s=100_000))


@pytest.mark.parametrize(
    ("body", "payload", "most"),
    [(ACTIVATION, SIZE, 100), (GRADIENT, SIZE, 100), (fr.Passed(), 0, 200)],
)
def test_too_many_waiting_frames_are_named(body, payload, most):
    async def scenario(near: End, far: End) -> None:
        far.take.clear()
        for number in range(most):
            near.link.send(frame(body, number), bytes(payload))
        with pytest.raises(ProtocolError) as caught:
            near.link.send(frame(body, most), bytes(payload))
        assert caught.value.reason == "stalled"

    link_test(scenario, Link())


def test_a_neighbour_that_gives_no_credit_is_given_up_whatever_else_it_says():
    async def scenario(near: End, far: End) -> None:
        far.take.clear()
        for number in range(30):  # three windows
            near.link.send(frame(ACTIVATION, number), bytes(SIZE))
        await asyncio.sleep(10.0)
        assert 0 < near.link.backlog < 30
        for _ in range(9):
            far.link.send(frame(fr.Passed()))
            await asyncio.sleep(STALL_S / 10)
        assert len(near.bodies()) == 9
        await asyncio.sleep(STALL_S / 10)
        assert near.ended is not None and near.ended.reason == "stalled"

    link_test(scenario, Link())


def test_a_neighbour_that_is_idle_for_long_is_not_given_up():
    async def scenario(near: End, far: End) -> None:
        for number in range(3):
            near.link.send(frame(ACTIVATION, number), bytes(SIZE))
            await asyncio.sleep(2 * STALL_S)
        assert near.ended is None
        assert len(far.arrived) == 3

    link_test(scenario, Link())


def test_all_bytes_are_counted_by_lane_and_activations_by_their_text_tokens():
    async def scenario(near: End, far: End) -> None:
        for number in range(3):
            near.link.send(frame(ACTIVATION, number), bytes(SIZE))
        far.link.send(frame(GRADIENT), bytes(SIZE))
        near.link.send(frame(fr.Passed()))
        await asyncio.sleep(10.0)
        assert (len(far.arrived), len(near.arrived)) == (4, 1)
        for end, other in ((near, far), (far, near)):
            assert sum(one.sent for one in end.carried) == sum(o.received for o in other.carried)
            assert end.sent_bytes(Lane.CONTROL) > 0  # the credit, if nothing else
        # Five bytes for each chunk of 16 KiB, and the frames' heads.
        assert 3 * SIZE + 3 * 7 * 5 < near.sent_bytes(Lane.FORWARD) < 1.01 * 3 * SIZE
        assert SIZE + 7 * 5 < far.sent_bytes(Lane.BACKWARD) < 1.01 * SIZE
        assert near.sent_bytes(Lane.BACKWARD) == far.sent_bytes(Lane.FORWARD) == 0
        tokens = [sum(one.text_tokens for one in end.carried) for end in (near, far)]
        assert tokens == [3 * ACTIVATION.text_tokens, 0]

    link_test(scenario, Link())


def test_text_tokens_count_once_the_whole_activation_is_out():
    async def scenario(near: End, far: End) -> None:
        far.take.clear()
        for number in range(30):  # three windows
            near.link.send(frame(ACTIVATION, number), bytes(SIZE))
        await asyncio.sleep(10.0)
        tokens = sum(one.text_tokens for one in near.carried)
        assert 0 < tokens == (30 - near.link.backlog) * ACTIVATION.text_tokens
        assert near.sent_bytes(Lane.FORWARD) > (30 - near.link.backlog) * SIZE

    link_test(scenario, Link())


class Stuck:
    """A stream whose other side takes nothing, as behind a full pipe."""

    peer = new_peer()

    def __init__(self) -> None:
        self.closed = False

    async def read(self, max_bytes: int) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def write(self, data: bytes) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True


def test_a_stream_that_takes_no_byte_is_given_up():
    async def main() -> None:
        stream = Stuck()
        end = end_of(stream)
        end.link.send(frame(fr.Passed()))
        with pytest.raises(ProtocolError, match="has taken nothing for 60 s"):
            await end.link.run()
        assert stream.closed

    run_virtual(main())


def test_both_directions_are_full_at_once_and_nothing_locks_up():
    async def scenario(near: End, far: End) -> None:
        for number in range(20):
            near.link.send(frame(ACTIVATION, number), bytes(SIZE))
            far.link.send(frame(GRADIENT, number), bytes(SIZE))
        await asyncio.sleep(30.0)
        assert far.bodies() == ["Activation"] * 20
        assert near.bodies() == ["Gradient"] * 20

    link_test(scenario, Link(delay_s=0.05, bytes_per_s=1_000_000))
