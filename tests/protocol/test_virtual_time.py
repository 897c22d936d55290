"""The virtual-time loop: time passes in jumps, in order, and the same every time."""

import asyncio
import itertools
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.virtual_time import VirtualDeadlock, run_virtual


def test_a_day_passes_without_waiting() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(3 * 86400.0)
        return loop.time()

    assert run_virtual(main()) == pytest.approx(3 * 86400.0)


@given(st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=20))
def test_sleepers_wake_in_order_and_on_time(delays: list[float]) -> None:
    async def main() -> list[tuple[float, float]]:
        woken: list[tuple[float, float]] = []

        async def sleeper(delay: float) -> None:
            await asyncio.sleep(delay)
            woken.append((asyncio.get_running_loop().time(), delay))

        async with asyncio.TaskGroup() as group:
            for delay in delays:
                group.create_task(sleeper(delay))
        return woken

    woken = run_virtual(main())
    assert sorted(delay for _, delay in woken) == sorted(delays)
    assert all(at == pytest.approx(delay, abs=1e-5) for at, delay in woken)
    for (_, earlier), (_, later) in itertools.pairwise(woken):
        assert earlier <= later + 1e-5


def test_timeouts_are_virtual() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50.0):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(50.0)


def test_deadlock_is_named_and_everything_cancelled() -> None:
    cancelled = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(VirtualDeadlock, match=r"after 0\.000 s"):
        run_virtual(main())
    assert cancelled == [True]


def test_files_that_are_ready_come_before_timers() -> None:
    async def main() -> float:
        left, right = socket.socketpair()
        with left, right:
            reader, writer = await asyncio.open_connection(sock=left)
            right.sendall(b"now")
            async with asyncio.timeout(10.0):
                assert await reader.read(3) == b"now"
            writer.close()
            await writer.wait_closed()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0.0


def test_tiny_steps_at_late_times_still_pass() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(1e9)
        await asyncio.sleep(1e-8)
        return loop.time()

    assert run_virtual(main()) >= 1e9  # and comes back at all
