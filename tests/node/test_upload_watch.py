"""An upload may take as long as it likes, and its receiver only so long for a piece."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from skerry.node.net.call_deadlines import Bounds, CallDeadlines, LateAnswer
from skerry.node.net.upload_watch import UploadWatch
from skerry.protocol.ids import PeerId
from skerry.protocol.virtual_time import run_virtual

HOLDER = PeerId("holder")


def watch() -> UploadWatch[str]:
    known = CallDeadlines({"piece": Bounds(2.0, 2.0), "kept": Bounds(5.0, 5.0)})
    return UploadWatch(known, HOLDER, "piece", "kept")


async def source(gap_s: float) -> AsyncIterator[int]:
    for number in range(3):
        await asyncio.sleep(gap_s)
        yield number


async def take(pieces: AsyncIterator[int], piece_s: float, answer_s: float) -> list[int]:
    """Be the call that reads what is sent, slowly."""
    taken = []
    async for piece in pieces:
        taken.append(piece)
        await asyncio.sleep(piece_s)
    await asyncio.sleep(answer_s)
    return taken


async def upload(source_s: float, piece_s: float, answer_s: float) -> tuple[list[int], float]:
    one = watch()
    taken = await one.answer(take(one.pieces(source(source_s)), piece_s, answer_s))
    return taken, asyncio.get_running_loop().time()


def test_the_pace_of_the_source_is_not_held_against_the_peer():
    taken, seconds = run_virtual(upload(source_s=100.0, piece_s=1.0, answer_s=4.0))
    assert taken == [0, 1, 2]
    assert seconds == pytest.approx(307.0)


@pytest.mark.parametrize(("piece_s", "answer_s", "given_up_at"), [(60.0, 0.0, 3.0), (1.0, 9.0, 11)])
def test_who_takes_no_more_or_does_not_answer_is_given_up(piece_s, answer_s, given_up_at):
    async def main() -> float:
        with pytest.raises(LateAnswer, match="stopped taking"):
            await upload(1.0, piece_s, answer_s)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(given_up_at)


def test_an_answer_before_the_last_piece_ends_it():
    async def main() -> str:
        one = watch()
        pieces = one.pieces(source(1.0))

        async def refuse() -> str:
            await anext(pieces)
            return "refused"

        found = await one.answer(refuse())
        await anext(pieces)  # what reads it may not have noticed yet
        return found

    assert run_virtual(main()) == "refused"
