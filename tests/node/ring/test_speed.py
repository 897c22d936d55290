"""How fast blocks are computed, whatever kind of computation it was."""

import asyncio

import pytest

from skerry.node.ring.session import Output
from skerry.node.ring.speed import Speedometer
from skerry.protocol.errors import ProtocolError
from skerry.protocol.rings.frames import Place
from skerry.protocol.rings.plan import Plan, Stage
from skerry.protocol.rings.tasks import Kind, TakeStep, Task, Work
from skerry.protocol.virtual_time import run_virtual

PLAN = Plan(
    version=0,
    microbatch_tokens=32,
    stages=(Stage(("embed", "head")), Stage(("block.0", "block.1")), Stage(("block.2",))),
    rings=(),
)
AT = (1, 1)


def task(kind: Kind, stages: tuple[int, ...], hop: int = 1) -> Task:
    return Task(kind, AT, Place(0, 0, hop), stages, text_tokens=32)


def measured(*takes: tuple[Work, float], times: int = 16) -> float:
    """Do computations that take so many seconds, again and again; return the speed."""

    async def main() -> float:
        seconds = dict(takes)

        async def compute(work: Work) -> Output:
            await asyncio.sleep(seconds[work])
            return Output()

        speed = Speedometer(PLAN, compute)
        for _ in range(times):
            for work, _ in takes:
                await speed.compute(work)
        return speed.rate

    return run_virtual(main())


def test_speed_is_that_of_one_block_forward():
    works = (
        (task(Kind.FORWARD, (1, 2)), 0.3),
        (task(Kind.INPUT_GRADIENT, (1, 2)), 0.6),
        (task(Kind.WEIGHT_GRADIENT, (1, 2)), 0.3),
    )
    assert measured(*works) == pytest.approx(32 / 0.1)


def test_at_the_first_hop_both_gradients_come_at_once():
    assert measured((task(Kind.WEIGHT_GRADIENT, (1,), hop=0), 0.6)) == pytest.approx(32 / 0.1)


def test_what_is_no_block_does_not_count():
    work = (task(Kind.FORWARD, (2,)), 0.1)
    others = ((task(Kind.FORWARD, (0,), hop=0), 5.0), (task(Kind.LOSS, ()), 5.0))
    assert measured(work, *others, (TakeStep(AT, ()), 5.0)) == pytest.approx(32 / 0.1)


def test_few_computations_say_nothing_and_the_newest_count():
    assert measured((task(Kind.FORWARD, (2,)), 0.1), times=15) == 0.0
    slow, fast = (task(Kind.FORWARD, (2,), hop=i) for i in (1, 2))

    async def main() -> float:
        async def compute(work: Work) -> Output:
            await asyncio.sleep(0.4 if work is slow else 0.1)
            return Output()

        speed = Speedometer(PLAN, compute)
        for work in [slow] * 300 + [fast] * 300:
            await speed.compute(work)
        return speed.rate

    assert run_virtual(main()) == pytest.approx(32 / 0.1)


def test_what_fails_does_not_count():
    async def main() -> float:
        async def compute(work: Work) -> Output:
            raise ProtocolError("slots", "none is free")

        speed = Speedometer(PLAN, compute)
        for _ in range(20):
            with pytest.raises(ProtocolError):
                await speed.compute(task(Kind.FORWARD, (1,)))
        return speed.rate

    assert run_virtual(main()) == 0.0
