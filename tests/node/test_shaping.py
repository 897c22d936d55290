"""A transport with limits: rates hold in both directions, in virtual time; urgent bytes first."""

import asyncio
import math
from datetime import time

import pytest

from skerry.node.config import BandwidthSection
from skerry.node.net.shaping import PIECE_BYTES, PRIORITIES, ShapedTransport, Throttle, rates_at
from skerry.protocol.bandwidth import Priority
from skerry.protocol.memory import VirtualNetwork
from skerry.protocol.signing import peer_id_of
from skerry.protocol.transport import BULK_PROTOCOL, CONTROL_PROTOCOL, STATE_PROTOCOL
from skerry.protocol.virtual_time import run_virtual

NOON = time(12)
MBIT = 125_000.0


async def transfer(limits: BandwidthSection, sender_shaped: bool, size: int = 500_000) -> float:
    """Send ``size`` bytes over a perfect link; return the virtual seconds that it took."""
    network = VirtualNetwork()
    left, right = (network.transport(peer_id_of(bytes([n] * 32))) for n in (1, 2))
    shaped = ShapedTransport(left if sender_shaped else right)
    shaped.set_rates(limits, NOON)
    sender, receiver = (shaped, right) if sender_shaped else (left, shaped)
    loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    async def take(stream) -> None:
        received = 0
        while received < size:
            received += len(await stream.read(2**16))
        done.set_result(loop.time())

    await receiver.handle(BULK_PROTOCOL, take)
    await sender.connect(receiver.peer_id, ())
    stream = await sender.open_stream(receiver.peer_id, BULK_PROTOCOL)
    assert stream.peer == receiver.peer_id
    began = loop.time()
    await stream.write(bytes(size))
    took = await done - began
    await stream.close()
    await left.close()
    await right.close()
    return took


@pytest.mark.parametrize(
    ("limits", "sender_shaped", "seconds"),
    [
        (BandwidthSection(max_upload="1mbit"), True, 4.0),
        (BandwidthSection(max_download="1mbit"), False, 4.0),
        (BandwidthSection(max_download="1mbit"), True, 0.0),
        (BandwidthSection(), True, 0.0),
    ],
)
def test_limits_hold_in_their_direction(limits, sender_shaped, seconds) -> None:
    took = run_virtual(transfer(limits, sender_shaped))
    # A pause has saved up a quarter of a second, and one piece may overdraw.
    assert seconds - 1.0 <= took <= seconds + 0.5


def test_urgent_bytes_overtake_in_one_direction() -> None:
    async def main() -> list[Priority]:
        throttle, order = Throttle(), []
        throttle.set_rate(MBIT)
        await throttle.take(Priority.STATE, 40_000)  # what is saved up, and more

        async def take(priority: Priority) -> None:
            await throttle.take(priority, 16_384)
            order.append(priority)

        async with asyncio.TaskGroup() as group:
            for priority in reversed(Priority):
                group.create_task(take(priority))
        return order

    assert run_virtual(main()) == list(Priority)


def test_a_payload_overtakes_parameters_on_the_way_to_a_joiner() -> None:
    async def main() -> tuple[float, int]:
        network = VirtualNetwork()
        left, right = (network.transport(peer_id_of(bytes([n] * 32))) for n in (1, 2))
        sender = ShapedTransport(left)
        sender.set_rates(BandwidthSection(max_upload="1mbit"), NOON)
        received = {STATE_PROTOCOL: 0, BULK_PROTOCOL: 0}
        begun, done = asyncio.Event(), asyncio.Event()

        def into(protocol: str):
            async def take(stream) -> None:
                while data := await stream.read(2**16):
                    received[protocol] += len(data)
                    begun.set()
                done.set()

            return take

        for protocol in received:
            await right.handle(protocol, into(protocol))
        await sender.connect(right.peer_id, ())
        state, payload = [await sender.open_stream(right.peer_id, p) for p in received]
        sending = asyncio.create_task(state.write(bytes(1_000_000)))
        await begun.wait()
        began, before = asyncio.get_running_loop().time(), received[STATE_PROTOCOL]
        await payload.write(bytes(125_000))
        took = asyncio.get_running_loop().time() - began
        overtaken = received[STATE_PROTOCOL] - before
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        for transport in (left, right):
            await transport.close()
        return took, overtaken

    took, overtaken = run_virtual(main())
    assert took < 1.5  # virtual seconds: 125 kB alone take one
    assert overtaken <= 3 * PIECE_BYTES


def test_a_new_limit_concerns_whoever_waits_and_a_cancelled_one_is_passed_over() -> None:
    async def main() -> float:
        throttle = Throttle()
        throttle.set_rate(1.0)
        await throttle.take(Priority.STATE, 10**6)
        began = asyncio.get_running_loop().time()
        waiting = [asyncio.ensure_future(throttle.take(Priority.STATE, 1)) for _ in range(2)]
        await asyncio.sleep(1.0)
        waiting[0].cancel()
        throttle.set_rate(math.inf)
        await waiting[1]
        return asyncio.get_running_loop().time() - began

    assert run_virtual(main()) == pytest.approx(1.0)


def test_each_class_of_traffic_has_its_priority() -> None:
    first, later, last = (PRIORITIES[p] for p in (CONTROL_PROTOCOL, BULK_PROTOCOL, STATE_PROTOCOL))
    assert first < later < last


def test_quiet_hours_have_limits_of_their_own_and_may_pass_midnight() -> None:
    limits = BandwidthSection(
        max_upload="20mbit", quiet_hours="22:00-06:00", quiet_upload="2mbit", quiet_download="5mbit"
    )
    assert rates_at(limits, NOON) == (20 * MBIT, math.inf)
    for quiet in (time(22), time(23, 59), time(0), time(5, 59)):
        assert rates_at(limits, quiet) == (2 * MBIT, 5 * MBIT)
    assert rates_at(limits, time(6)) == (20 * MBIT, math.inf)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_upload": "1kbit"},
        {"max_upload": -1},
        {"quiet_hours": "25:00-06:00", "quiet_upload": "2mbit"},
        {"quiet_hours": "22-6", "quiet_upload": "2mbit"},
        {"quiet_hours": "22:00-06:00"},
        {"quiet_upload": "2mbit"},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong) -> None:
    with pytest.raises(ValueError):
        BandwidthSection(**wrong)
