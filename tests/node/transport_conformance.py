"""What every Transport must do; each implementation's test module runs it.

Usage: ``class TestMyTransport(TransportConformance)`` with an async fixture ``pair`` that yields
two transports of different peers which can reach one another, connected by ``connect`` below, and
an async fixture ``mortal`` that yields a transport and a ``Mortal`` that it is connected to.
Nothing here knows sockets, processes or the clock.
"""

import asyncio
from typing import Protocol

import pytest

from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId
from skerry.protocol.signing import peer_id_of, public_key_of
from skerry.protocol.transport import ByteStream, Transport

ECHO = "/skerry/test-echo/1"
HOLD = "/skerry/test-hold/1"
Pair = tuple[Transport, Transport]


class Mortal(Protocol):
    """A peer that serves ECHO, and may die without a word and come back as the same."""

    @property
    def peer_id(self) -> PeerId: ...

    @property
    def addresses(self) -> tuple[str, ...]: ...

    async def kill(self) -> None: ...

    async def revive(self) -> None: ...


async def echo(stream: ByteStream) -> None:
    while data := await stream.read(2**16):
        await stream.write(data)


async def read_exactly(stream: ByteStream, size: int) -> bytes:
    parts = []
    while size and (data := await stream.read(min(size, 2**16))):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


async def ended(stream: ByteStream) -> bool:
    """Read until the stream ends in either of the two ways that the interface allows."""
    try:
        while await stream.read(2**16):
            pass
    except PeerUnavailable:
        pass
    return True


async def write_until_refused(stream: ByteStream) -> None:
    """Write until the other side's end of the stream is known here."""
    with pytest.raises(PeerUnavailable):
        while True:
            await stream.write(bytes(2**16))


async def connect(pair: Pair) -> Pair:
    left, right = pair
    await left.connect(right.peer_id, right.addresses)
    return pair


async def exchange(stream: ByteStream, data: bytes) -> bytes:
    """Send ``data`` and return as much of what comes back, both at the same time."""
    async with asyncio.TaskGroup() as group:
        group.create_task(stream.write(data))
        answer = group.create_task(read_exactly(stream, len(data)))
    return answer.result()


class TransportConformance:
    LARGE_BYTES = 2**20
    MANY = 200

    async def test_ids_are_distinct_ed25519_ids(self, pair: Pair) -> None:
        left, right = pair
        assert left.peer_id != right.peer_id
        for transport in pair:
            assert peer_id_of(public_key_of(transport.peer_id)) == transport.peer_id

    async def test_addresses_do_not_name_the_peer(self, pair: Pair) -> None:
        for transport in pair:
            assert transport.addresses
            assert all(transport.peer_id not in address for address in transport.addresses)

    async def test_both_ends_know_the_other(self, pair: Pair) -> None:
        left, right = pair
        seen = asyncio.get_running_loop().create_future()

        async def note(stream: ByteStream) -> None:
            seen.set_result(stream.peer)
            await echo(stream)  # a handler that returns closes the stream

        await right.handle(ECHO, note)
        stream = await left.open_stream(right.peer_id, ECHO)
        assert await exchange(stream, b"x") == b"x"
        assert stream.peer == right.peer_id
        assert await seen == left.peer_id
        await stream.close()

    async def test_streams_open_in_both_directions_of_one_connection(self, pair: Pair) -> None:
        left, right = pair
        await left.handle(ECHO, echo)
        stream = await right.open_stream(left.peer_id, ECHO)
        assert await exchange(stream, b"hello") == b"hello"
        await stream.close()

    async def test_connect_again_is_harmless(self, pair: Pair) -> None:
        left, right = pair
        await left.connect(right.peer_id, right.addresses)
        await left.connect(right.peer_id, ())
        await right.connect(left.peer_id, left.addresses)

    async def test_disconnect_ends_streams_at_both_ends_and_one_may_connect_again(
        self, pair: Pair
    ) -> None:
        left, right = pair
        done = asyncio.get_running_loop().create_future()

        async def hold(stream: ByteStream) -> None:
            await stream.write(b"x")
            done.set_result(await ended(stream))

        await right.handle(HOLD, hold)
        await right.handle(ECHO, echo)
        stream = await left.open_stream(right.peer_id, HOLD)
        assert await stream.read(1) == b"x"
        await right.disconnect(left.peer_id)
        assert await ended(stream)
        assert await done
        await right.disconnect(left.peer_id)  # again: harmless
        again = await self._reopened(left, right)
        assert await exchange(again, b"y") == b"y"
        await again.close()

    async def _reopened(self, transport: Transport, peer: Transport | Mortal) -> ByteStream:
        """Connect until it works: an end may notice late that its connection is gone."""
        while True:
            try:
                await transport.connect(peer.peer_id, peer.addresses)
                return await transport.open_stream(peer.peer_id, ECHO)
            except PeerUnavailable:
                await asyncio.sleep(0.05)

    async def test_malformed_address_hints_are_passed_over(self, pair: Pair) -> None:
        left, right = pair
        await left.connect(right.peer_id, ("", "nonsense", "/ip4/999.0.0.1/tcp/1"))

    async def test_large_transfer_keeps_order_and_content(self, pair: Pair) -> None:
        left, right = pair
        await right.handle(ECHO, echo)
        stream = await left.open_stream(right.peer_id, ECHO)
        pattern = bytes(range(251))  # a prime length, so that no chunking hides a shift
        data = (pattern * (self.LARGE_BYTES // len(pattern) + 1))[: self.LARGE_BYTES]
        assert await exchange(stream, data) == data
        await stream.close()

    async def test_read_returns_at_most_what_was_asked(self, pair: Pair) -> None:
        left, right = pair
        await right.handle(ECHO, echo)
        stream = await left.open_stream(right.peer_id, ECHO)
        await stream.write(b"0123456789")
        first = await stream.read(4)
        assert 1 <= len(first) <= 4
        assert first + await read_exactly(stream, 10 - len(first)) == b"0123456789"
        await stream.close()

    async def test_streams_do_not_mix(self, pair: Pair) -> None:
        left, right = pair
        await right.handle(ECHO, echo)
        streams = [await left.open_stream(right.peer_id, ECHO) for _ in range(8)]
        sent = [bytes([number]) * 50_000 for number in range(8)]
        answers = await asyncio.gather(*map(exchange, streams, sent))
        assert answers == sent
        for stream in streams:
            await stream.close()

    async def test_many_streams_at_once(self, pair: Pair) -> None:
        left, right = pair
        open_now, most = 0, 0

        async def count(stream: ByteStream) -> None:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            await echo(stream)
            open_now -= 1

        await right.handle(ECHO, count)
        opening = [left.open_stream(right.peer_id, ECHO) for _ in range(self.MANY)]
        streams = await asyncio.gather(*opening)
        sent = [number.to_bytes(2, "big") * 1000 for number in range(self.MANY)]
        assert await asyncio.gather(*map(exchange, streams, sent)) == sent
        assert most == self.MANY
        for stream in streams:
            await stream.close()

    async def test_one_oversize_write_arrives_in_pieces(self, pair: Pair) -> None:
        left, right = pair
        size = 4 * self.LARGE_BYTES
        received = asyncio.get_running_loop().create_future()

        async def collect(stream: ByteStream) -> None:
            total = 0
            while data := await stream.read(2**40):
                total += len(data)
            received.set_result(total)

        await right.handle(HOLD, collect)
        stream = await left.open_stream(right.peer_id, HOLD)
        await stream.write(bytes(size))
        await stream.close()
        assert await received == size

    async def test_a_side_that_has_closed_can_be_read_to_its_end_and_stays_ended(
        self, pair: Pair
    ) -> None:
        left, right = pair
        closed, received = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def answer_late(stream: ByteStream) -> None:
            assert await stream.read(1) == b"?"
            await closed.wait()
            received.set_result(await read_exactly(stream, 2**30))
            assert await stream.read(1) == b""

        await right.handle(HOLD, answer_late)
        stream = await left.open_stream(right.peer_id, HOLD)
        await stream.write(b"?" + bytes(50_000))
        await stream.close()
        closed.set()
        assert len(await received) == 50_000

    async def test_writer_learns_that_the_other_side_has_ended_the_stream(self, pair: Pair) -> None:
        left, right = pair

        async def leave(stream: ByteStream) -> None:
            await stream.read(1)

        async def fail(stream: ByteStream) -> None:
            await stream.read(1)
            raise PeerUnavailable("SK-NET-003", "on purpose")

        for handler in (leave, fail):
            await right.handle(HOLD, handler)
            stream = await left.open_stream(right.peer_id, HOLD)
            await write_until_refused(stream)
            await stream.close()

    async def test_close_ends_the_other_side_after_the_data(self, pair: Pair) -> None:
        left, right = pair
        received = asyncio.get_running_loop().create_future()

        async def collect(stream: ByteStream) -> None:
            received.set_result(await read_exactly(stream, 2**30))

        await right.handle(HOLD, collect)
        stream = await left.open_stream(right.peer_id, HOLD)
        await stream.write(b"last words")
        await stream.close()
        assert await received == b"last words"

    async def test_stream_closes_when_its_handler_returns(self, pair: Pair) -> None:
        left, right = pair

        async def greet(stream: ByteStream) -> None:
            await stream.write(b"bye")

        await right.handle(HOLD, greet)
        stream = await left.open_stream(right.peer_id, HOLD)
        assert await read_exactly(stream, 3) == b"bye"
        assert await ended(stream)
        await stream.close()

    async def test_failing_handler_harms_only_its_stream(self, pair: Pair) -> None:
        left, right = pair

        async def fail(stream: ByteStream) -> None:
            raise PeerUnavailable("SK-NET-003", "on purpose")

        await right.handle(HOLD, fail)
        await right.handle(ECHO, echo)
        broken = await left.open_stream(right.peer_id, HOLD)
        assert await ended(broken)
        await broken.close()
        stream = await left.open_stream(right.peer_id, ECHO)
        assert await exchange(stream, b"still here") == b"still here"
        await stream.close()

    async def test_own_close_makes_writes_fail_and_is_repeatable(self, pair: Pair) -> None:
        left, right = pair
        await right.handle(ECHO, echo)
        stream = await left.open_stream(right.peer_id, ECHO)
        await stream.close()
        await stream.close()
        with pytest.raises(PeerUnavailable):
            await stream.write(b"x")

    async def test_writer_waits_for_a_reader_that_does_not_read(self, pair: Pair) -> None:
        left, right = pair
        release = asyncio.Event()

        async def hold(stream: ByteStream) -> None:
            await release.wait()
            await ended(stream)

        await right.handle(HOLD, hold)
        stream = await left.open_stream(right.peer_id, HOLD)
        written = asyncio.Event()

        async def flood() -> None:
            for _ in range(64):
                await stream.write(bytes(2**20))
            written.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(flood())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):  # in which an unbounded writer would be done
                    await written.wait()
            release.set()
        assert written.is_set()
        await stream.close()

    async def test_unknown_protocol_is_refused(self, pair: Pair) -> None:
        left, right = pair
        with pytest.raises(PeerUnavailable):
            await left.open_stream(right.peer_id, "/skerry/nobody-serves-this/1")

    async def test_unknown_peer_is_unavailable(self, pair: Pair) -> None:
        left, _ = pair
        stranger = peer_id_of(bytes(range(32)))
        with pytest.raises(PeerUnavailable):
            await left.connect(stranger, ())
        with pytest.raises(PeerUnavailable):
            await left.open_stream(stranger, ECHO)

    async def test_closing_a_transport_ends_reads_at_the_other_side(self, pair: Pair) -> None:
        left, right = pair
        await right.handle(ECHO, echo)
        stream = await left.open_stream(right.peer_id, ECHO)
        assert await exchange(stream, b"up") == b"up"
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(ended(stream))
            await right.close()
        assert reading.result()
        await stream.close()
        with pytest.raises(PeerUnavailable):
            await left.open_stream(right.peer_id, ECHO)

    async def test_closed_transport_ends_its_own_reads_and_opens_nothing(self, pair: Pair) -> None:
        left, right = pair
        await right.handle(ECHO, echo)
        stream = await left.open_stream(right.peer_id, ECHO)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(ended(stream))
            await left.close()
        assert reading.result()
        await left.close()
        with pytest.raises(PeerUnavailable):
            await left.open_stream(right.peer_id, ECHO)

    async def test_death_in_the_middle_of_a_stream_is_noticed_and_survived(
        self, mortal: tuple[Transport, Mortal]
    ) -> None:
        transport, peer = mortal
        reader = await transport.open_stream(peer.peer_id, ECHO)
        writer = await transport.open_stream(peer.peer_id, ECHO)
        assert await exchange(reader, b"alive") == b"alive"
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(ended(reader))
            group.create_task(write_until_refused(writer))
            await peer.kill()
        assert reading.result()
        for stream in (reader, writer):
            await stream.close()
        await peer.revive()
        again = await self._reopened(transport, peer)
        assert await exchange(again, b"back") == b"back"
        await again.close()
