"""What a peer's answers took says how long the next is waited for; all in virtual time."""

import asyncio

import pytest

from skerry.node.net.call_deadlines import Bounds, CallDeadlines, LateAnswer
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId
from skerry.protocol.virtual_time import run_virtual

ONE, OTHER = PeerId("one"), PeerId("other")


def deadlines() -> CallDeadlines[str]:
    return CallDeadlines({"ask": Bounds(1.0, 10.0), "store": Bounds(5.0, 60.0)})


async def after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "answer"


def now() -> float:
    return asyncio.get_running_loop().time()


def test_who_has_never_answered_is_given_the_longest():
    known = deadlines()
    assert known.seconds(ONE, "ask") == 10.0
    assert known.seconds(ONE, "store") == 60.0


def test_it_follows_each_peer_and_each_kind_of_call():
    async def main() -> None:
        known = deadlines()
        for _ in range(5):
            assert await known.answer(ONE, "ask", after(0.5)) == "answer"
        assert known.seconds(ONE, "ask") == pytest.approx(3.0)
        assert known.seconds(OTHER, "ask") == 10.0
        assert known.seconds(ONE, "store") == 60.0

    run_virtual(main())


def test_a_late_answer_is_given_up_at_its_deadline_and_the_next_is_given_longer():
    async def main() -> None:
        known = deadlines()
        await known.answer(ONE, "ask", after(0.01))
        began = now()
        with pytest.raises(LateAnswer, match="no answer within 1 s"):
            await known.answer(ONE, "ask", after(3.0))
        assert now() - began == pytest.approx(1.0)
        assert known.seconds(ONE, "ask") > 1.5
        tries = 1
        while True:  # the link has become slow: in the end it is waited for
            try:
                await known.answer(ONE, "ask", after(3.0))
            except LateAnswer:
                tries += 1
            else:
                break
        assert tries <= 3

    run_virtual(main())


def test_what_fails_at_once_says_nothing_of_how_long_an_answer_takes():
    async def broken() -> None:
        raise PeerUnavailable("SK-NET-003", "no connection")

    async def main() -> None:
        known = deadlines()
        with pytest.raises(PeerUnavailable) as caught:
            await known.answer(ONE, "ask", broken())
        assert not isinstance(caught.value, LateAnswer)
        assert known.seconds(ONE, "ask") == 10.0

    run_virtual(main())


def test_a_stream_may_take_long_as_long_as_something_comes():
    async def stream(gaps: list[float]):
        for number, gap in enumerate(gaps):
            await asyncio.sleep(gap)
            yield number

    async def main() -> None:
        known = deadlines()
        assert [n async for n in known.answers(ONE, "ask", stream([0.9] * 30))] == list(range(30))
        found = []
        with pytest.raises(LateAnswer):
            async for number in known.answers(ONE, "ask", stream([0.1, 0.1, 60.0])):
                found.append(number)
        assert found == [0, 1]

    run_virtual(main())


def test_what_is_remembered_is_bounded():
    known = deadlines()
    for number in range(5000):
        known.took(PeerId(f"p{number}"), "ask", 0.1)
    assert known.seconds(PeerId("p0"), "ask") == 10.0
    assert known.seconds(PeerId("p4999"), "ask") == 1.0
