"""The in-memory transport: streams that keep their promises on a network that does not."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.memory import (
    Delivery,
    Limits,
    Link,
    Mark,
    MemoryTransport,
    VirtualNetwork,
)
from skerry.protocol.transport import ByteStream
from skerry.protocol.virtual_time import run_virtual

A, B, C = PeerId("peer-a"), PeerId("peer-b"), PeerId("peer-c")
ECHO, SINK = "/echo/1", "/sink/1"


async def echo(stream: ByteStream) -> None:
    while data := await stream.read(1000):
        await stream.write(data)


async def read_exactly(stream: ByteStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await stream.read(count - len(data))
        assert part, f"ended after {len(data)} of {count} bytes"
        data += part
    return data


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Pair:
    """A network on which A is connected to B, and B echoes."""

    network: VirtualNetwork
    a: MemoryTransport
    b: MemoryTransport
    trace: list[Delivery] = field(default_factory=list)


def on_pair(
    scenario: Callable[[Pair], Awaitable[None]],
    link: Link | None = None,
    limits: Limits | None = None,
    seed: int = 0,
) -> list[Delivery]:
    """Run a scenario in virtual time and return the trace of all that arrived."""
    trace: list[Delivery] = []

    async def main() -> None:
        network = VirtualNetwork(seed, link, limits, trace.append)
        a, b = network.transport(A), network.transport(B)
        await b.handle(ECHO, echo)
        await a.connect(B, b.addresses)
        await scenario(Pair(network, a, b, trace))
        await a.close()
        await b.close()

    run_virtual(main())
    return trace


def test_bytes_come_back_in_order() -> None:
    sent = Random(1).randbytes(300_000)

    async def scenario(pair: Pair) -> None:
        stream = await pair.a.open_stream(B, ECHO)
        assert stream.peer == B
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.write(sent))
            assert await read_exactly(stream, len(sent)) == sent

    on_pair(scenario, Link(0.01, 0.05, loss=0.1, bytes_per_s=1e6), seed=3)


@given(
    st.integers(0, 2**32),
    st.lists(st.integers(0, 40_000), max_size=8),
    st.floats(0.0, 0.3),
    st.floats(0.0, 1.0),
)
@settings(max_examples=40, deadline=None)
def test_any_link_keeps_the_bytes_whole(
    seed: int, sizes: list[int], loss: float, jitter_s: float
) -> None:
    sent = [Random(seed + number).randbytes(size) for number, size in enumerate(sizes)]

    async def scenario(pair: Pair) -> None:
        received = bytearray()
        done = asyncio.Event()

        async def sink(stream: ByteStream) -> None:
            while data := await stream.read(777):
                received.extend(data)
            done.set()

        await pair.b.handle(SINK, sink)
        stream = await pair.a.open_stream(B, SINK)
        for part in sent:
            await stream.write(part)
        await stream.close()
        await done.wait()
        assert bytes(received) == b"".join(sent)

    on_pair(scenario, Link(0.01, jitter_s, loss, max_retransmits=60), Limits(connect_s=1e9), seed)


def busy_scenario(pair: Pair) -> Awaitable[None]:
    async def talk(number: int) -> None:
        stream = await pair.a.open_stream(B, ECHO)
        for size in range(1, 40):
            await stream.write(bytes([number]) * size * 100)
            await read_exactly(stream, size * 100)
        await stream.close()

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(talk(number))

    return scenario()


def test_same_seed_same_trace() -> None:
    link = Link(0.02, 0.03, loss=0.1, bytes_per_s=1e6)
    first, again, other = (on_pair(busy_scenario, link, seed=seed) for seed in (7, 7, 8))
    assert len(first) > 300
    assert first == again
    assert first != other


def test_streams_overtake_each_other_but_not_themselves() -> None:
    trace = on_pair(busy_scenario, Link(0.02, 0.5), seed=1)
    sent = [d.stream for d in trace if d.item is Mark.OPEN]
    assert sorted(sent) == [1, 2, 3, 4, 5]
    assert sent != sorted(sent)


def test_hundred_virtual_seconds_are_exact() -> None:
    async def scenario(pair: Pair) -> None:
        stream = await pair.a.open_stream(B, ECHO)
        start = now()
        for _ in range(100):
            await stream.write(b"x")
            assert await stream.read(10) == b"x"
        assert now() - start == pytest.approx(100.0)

    on_pair(scenario, Link(delay_s=0.5))


def test_connect_and_open_take_a_round_trip_each() -> None:
    async def main() -> None:
        network = VirtualNetwork(link=Link(delay_s=0.25))
        a, b = network.transport(A), network.transport(B)
        await b.handle(ECHO, echo)
        await a.connect(B, ())
        assert now() == pytest.approx(0.5)
        await a.connect(B, ())
        await b.connect(A, ())
        assert now() == pytest.approx(0.5)
        await a.open_stream(B, ECHO)
        assert now() == pytest.approx(1.0)
        await a.close()
        await b.close()

    run_virtual(main())


def test_bandwidth_limits_one_direction_only() -> None:
    async def scenario(pair: Pair) -> None:
        pair.network.set_link(A, B, Link(bytes_per_s=1000.0))
        stream = await pair.a.open_stream(B, ECHO)
        start = now()
        await stream.write(bytes(5000))
        await read_exactly(stream, 5000)
        assert now() - start == pytest.approx(5.0)

    on_pair(scenario)


def test_writer_waits_for_a_reader_that_does_not_read() -> None:
    limits = Limits(window_bytes=10_000, segment_bytes=1000)

    async def scenario(pair: Pair) -> None:
        reads, read_some = [], asyncio.Event()

        async def lazy(stream: ByteStream) -> None:
            await read_some.wait()
            while data := await stream.read(10**6):
                reads.append(len(data))

        await pair.b.handle(SINK, lazy)
        stream = await pair.a.open_stream(B, SINK)
        writing = asyncio.create_task(stream.write(bytes(25_000)))
        await asyncio.sleep(100.0)
        assert not writing.done()
        arrived = [d.item for d in pair.trace if d.target == B and isinstance(d.item, bytes)]
        assert sum(map(len, arrived)) == 10_000
        read_some.set()
        await writing
        await stream.close()
        await asyncio.sleep(1.0)
        assert sum(reads) == 25_000
        assert max(reads) <= 10_000

    on_pair(scenario, limits=limits)


def test_read_never_returns_more_than_asked() -> None:
    async def scenario(pair: Pair) -> None:
        stream = await pair.a.open_stream(B, ECHO)
        await stream.write(b"abcdef")
        assert [await stream.read(n) for n in (1, 2, 3)] == [b"a", b"bc", b"def"]

    on_pair(scenario)


def test_close_ends_the_other_side_after_what_was_written() -> None:
    async def scenario(pair: Pair) -> None:
        async def greeter(stream: ByteStream) -> None:
            await stream.write(b"bye")

        await pair.b.handle(SINK, greeter)
        stream = await pair.a.open_stream(B, SINK)
        assert await stream.read(10) == b"bye"
        assert await stream.read(10) == b""
        assert await stream.read(10) == b""
        await stream.write(b"nobody knows yet that this is too late")
        await asyncio.sleep(0.19)
        await stream.write(b"still not")
        await asyncio.sleep(0.02)
        with pytest.raises(PeerUnavailable, match="has closed it"):
            await stream.write(b"now it is")
        assert await stream.read(10) == b""
        await stream.close()
        await stream.close()
        with pytest.raises(PeerUnavailable):
            await stream.read(1)

    on_pair(scenario, Link(delay_s=0.1))


def test_what_a_closed_end_wrote_survives_late_writes_to_it() -> None:
    async def scenario(pair: Pair) -> None:
        async def greeter(stream: ByteStream) -> None:
            await stream.write(b"bye")

        await pair.b.handle(SINK, greeter)
        stream = await pair.a.open_stream(B, SINK)
        await stream.write(b"crossing")
        await asyncio.sleep(10.0)
        assert await stream.read(10) == b"bye"
        assert await stream.read(10) == b""

    on_pair(scenario, Link(delay_s=0.1))


def test_writer_blocked_by_a_closed_reader_is_woken() -> None:
    async def scenario(pair: Pair) -> None:
        async def leaves(stream: ByteStream) -> None:
            await asyncio.sleep(5.0)

        await pair.b.handle(SINK, leaves)
        stream = await pair.a.open_stream(B, SINK)
        with pytest.raises(PeerUnavailable):
            await stream.write(bytes(30_000))

    on_pair(scenario, limits=Limits(window_bytes=10_000, segment_bytes=1000))


def test_handler_that_refuses_closes_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(pair: Pair) -> None:
        async def refuses(stream: ByteStream) -> None:
            raise ProtocolError("size", "too much")

        await pair.b.handle(SINK, refuses)
        stream = await pair.a.open_stream(B, SINK)
        assert await stream.read(1) == b""

    on_pair(scenario)
    assert not caplog.records


def test_handler_that_fails_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(pair: Pair) -> None:
        async def broken(stream: ByteStream) -> None:
            raise ZeroDivisionError

        await pair.b.handle(SINK, broken)
        stream = await pair.a.open_stream(B, SINK)
        assert await stream.read(1) == b""

    on_pair(scenario)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_only_connected_peers_and_served_protocols() -> None:
    async def scenario(pair: Pair) -> None:
        with pytest.raises(PeerUnavailable, match="reset by the other side"):
            await pair.a.open_stream(B, "/unknown/1")
        with pytest.raises(PeerUnavailable, match="not connected"):
            await pair.a.open_stream(C, ECHO)
        for peer in (A, C):
            with pytest.raises(PeerUnavailable):
                await pair.a.connect(peer, ())

    on_pair(scenario)


def test_partition_that_heals_only_delays() -> None:
    async def scenario(pair: Pair) -> None:
        stream = await pair.a.open_stream(B, ECHO)
        await stream.write(b"on its way")
        pair.network.set_partition([[A], [B]])
        await stream.write(b" and more")
        await asyncio.sleep(10.0)
        assert not [d for d in pair.trace if isinstance(d.item, bytes)]
        pair.network.heal()
        assert await read_exactly(stream, 19) == b"on its way and more"
        assert now() == pytest.approx(0.8 + 10.0 + 0.4)
        await asyncio.sleep(100.0)
        await stream.write(b"still there")
        assert await read_exactly(stream, 11) == b"still there"

    on_pair(scenario, Link(delay_s=0.2), Limits(stall_s=15.0))


def test_partition_that_stays_resets_both_ends() -> None:
    async def scenario(pair: Pair) -> None:
        ended_at: list[float] = []

        async def waits(stream: ByteStream) -> None:
            try:
                await stream.read(1)
            finally:
                ended_at.append(now())

        await pair.b.handle(SINK, waits)
        stream = await pair.a.open_stream(B, SINK)
        start = now()
        pair.network.set_partition([[A], [B]])
        with pytest.raises(PeerUnavailable, match="stalled"):
            await stream.read(1)
        assert now() - start == pytest.approx(15.0)
        await asyncio.sleep(0.0)
        assert ended_at == [now()]
        with pytest.raises(PeerUnavailable):
            await pair.a.open_stream(B, ECHO)
        with pytest.raises(PeerUnavailable):
            await pair.a.connect(B, ())
        pair.network.heal()
        await pair.a.connect(B, ())
        await pair.a.open_stream(B, ECHO)

    on_pair(scenario, limits=Limits(stall_s=15.0))


def test_peers_not_named_stay_together() -> None:
    async def main() -> None:
        network = VirtualNetwork()
        a, b, c = (network.transport(peer) for peer in (A, B, C))
        network.set_partition([[C]])
        await a.connect(B, ())
        with pytest.raises(PeerUnavailable):
            await a.connect(C, ())
        network.set_partition([[A, C], [B]])
        await a.connect(C, ())
        for transport in (a, b, c):
            await transport.close()

    run_virtual(main())


def test_kill_resets_the_streams_of_others_when_the_news_arrives() -> None:
    async def scenario(pair: Pair) -> None:
        stream = await pair.a.open_stream(B, ECHO)
        start = now()
        pair.network.crash(B)
        with pytest.raises(PeerUnavailable):
            await stream.read(1)
        assert now() - start == pytest.approx(0.3)
        with pytest.raises(PeerUnavailable):
            await pair.a.open_stream(B, ECHO)
        with pytest.raises(PeerUnavailable):
            await pair.b.connect(A, ())
        reborn = pair.network.transport(B)
        await reborn.handle(ECHO, echo)
        await pair.a.connect(B, ())
        again = await pair.a.open_stream(B, ECHO)
        await again.write(b"hi")
        assert await again.read(2) == b"hi"
        await reborn.close()

    on_pair(scenario, Link(delay_s=0.3))


def test_power_cut_is_silent_until_patience_ends() -> None:
    async def scenario(pair: Pair) -> None:
        stream = await pair.a.open_stream(B, ECHO)
        start = now()
        pair.network.crash(B, power=True)
        with pytest.raises(PeerUnavailable, match="accept"):
            await pair.a.open_stream(B, ECHO)
        assert now() - start == pytest.approx(10.0)
        with pytest.raises(PeerUnavailable, match="stalled"):
            await stream.read(1)
        assert now() - start == pytest.approx(15.0)

    on_pair(scenario, limits=Limits(connect_s=10.0, stall_s=15.0))


def test_machine_that_is_back_resets_old_streams() -> None:
    async def scenario(pair: Pair) -> None:
        stream = await pair.a.open_stream(B, ECHO)
        pair.network.crash(B, power=True)
        await stream.write(b"into the dark")
        await asyncio.sleep(5.0)
        reborn = pair.network.transport(B)
        with pytest.raises(PeerUnavailable, match="reset by the other side"):
            await stream.read(1)
        assert now() < 6.0
        await reborn.close()

    on_pair(scenario, Link(delay_s=0.1), Limits(stall_s=15.0))


def test_hopeless_link_resets_and_delivers_nothing_past_the_gap() -> None:
    async def scenario(pair: Pair) -> None:
        stream = await pair.a.open_stream(B, ECHO)
        pair.network.set_link(A, B, Link(loss=1.0))
        await stream.write(b"lost")
        pair.network.set_link(A, B, Link())
        await stream.write(b"follows")
        with pytest.raises(PeerUnavailable, match="losses"):
            await stream.read(1)
        assert not [d for d in pair.trace if isinstance(d.item, bytes)]

    on_pair(scenario)


def test_closing_a_transport_ends_its_handlers_and_streams() -> None:
    async def scenario(pair: Pair) -> None:
        stream = await pair.a.open_stream(B, ECHO)
        await pair.b.close()
        assert await stream.read(1) == b""
        with pytest.raises(PeerUnavailable):
            await pair.b.handle(ECHO, echo)
        with pytest.raises(PeerUnavailable):
            await pair.a.open_stream(B, ECHO)
        assert [t for t in asyncio.all_tasks() if t.get_name().startswith("stream")] == []

    on_pair(scenario)


def test_one_live_endpoint_per_peer() -> None:
    network = VirtualNetwork()
    network.transport(A)
    with pytest.raises(ValueError, match="already"):
        network.transport(A)


def test_cancelled_open_leaves_nothing_behind() -> None:
    async def scenario(pair: Pair) -> None:
        opening = asyncio.create_task(pair.a.open_stream(B, ECHO))
        await asyncio.sleep(0.1)
        opening.cancel()
        await asyncio.sleep(5.0)
        assert opening.cancelled()
        assert [t for t in asyncio.all_tasks() if t.get_name().startswith("stream")] == []

    on_pair(scenario, Link(delay_s=1.0))
