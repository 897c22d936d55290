"""How fast stale copies leave, on virtual time: a share of the uplink, and less if it is busy."""

import asyncio

import pytest

from skerry.node.net.shaping import Throttle
from skerry.node.run.shadow_pace import SpareUpload
from skerry.protocol.quota import QuotaLimits
from skerry.protocol.virtual_time import run_virtual
from skerry.recovery.shadowing import ShadowRules

RULES = ShadowRules(every=1, share=0.05, burst_s=2.0)
UPLINK = 1_000_000


async def _sent(upload: Throttle, num_bytes: int, others: float = 0.0, met: float = 0.0) -> float:
    """Return how long a copy takes while others send so many bytes per second."""
    pace, clock = SpareUpload(upload, RULES, lambda: met), asyncio.get_running_loop().time

    async def busy() -> None:
        while True:
            upload.passed += int(others / 10)
            await asyncio.sleep(0.1)

    task, began = asyncio.create_task(busy()), clock()
    for start in range(0, num_bytes, pace.piece_bytes):
        piece = min(pace.piece_bytes, num_bytes - start)
        await pace.take(piece)
        upload.passed += piece
    task.cancel()
    return clock() - began


@pytest.mark.parametrize(("others", "rate"), [(0.0, 50_000), (980_000.0, 20_000)])
def test_a_copy_takes_what_is_left_and_never_more_than_its_share(others, rate) -> None:
    async def main() -> float:
        upload = Throttle()
        upload.set_rate(UPLINK)
        return await _sent(upload, 3_000_000, others)

    assert run_virtual(main()) == pytest.approx(3_000_000 / rate, rel=0.05)


def test_over_a_thin_uplink_a_copy_goes_in_small_pieces() -> None:
    async def main() -> float:
        upload = Throttle()
        upload.set_rate(1000)
        assert SpareUpload(upload, RULES, lambda: 0.0).piece_bytes <= 20
        return await _sent(upload, 1000)

    assert run_virtual(main()) == pytest.approx(1000 / 50, rel=0.1)


@pytest.mark.parametrize(
    ("met", "rate"),
    [(0.0, 0.05 * 12.5e6), (600_000.0, 30_000.0), (1e9, QuotaLimits().bytes_per_s / 2)],
)
def test_where_nothing_is_set_what_others_have_met_counts(met: float, rate: float) -> None:
    """Or a usual uplink; and never is it more than a holder takes unasked."""

    async def main() -> float:
        return await _sent(Throttle(), 20_000_000, met=met)

    assert run_virtual(main()) == pytest.approx(20_000_000 / rate, rel=0.05)
