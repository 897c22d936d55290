"""The daemon's end: asked for, hastened, and bounded."""

import asyncio

import pytest

from skerry.node import ending as ending_module
from skerry.node.ending import Ending


class Ended(BaseException):
    """Stands for the process's end."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(ending_module.os, "_exit", end)


def test_the_second_wish_hastens_the_end() -> None:
    ending = Ending()
    ending.ask()
    assert (ending.asked.is_set(), ending.hastened.is_set()) == (True, False)
    ending.ask()
    assert ending.hastened.is_set()


async def test_an_end_that_takes_too_long_is_made_short(exits, monkeypatch) -> None:
    monkeypatch.setattr(ending_module, "_END_SECONDS", 0.01)
    ending = Ending()
    ending.exit_code = 3
    with pytest.raises(Ended, match="3"):
        await ending.bound()


async def test_a_hastened_end_does_not_take_the_whole_time(exits, monkeypatch) -> None:
    monkeypatch.setattr(ending_module, "_END_SECONDS", 600.0)
    monkeypatch.setattr(ending_module, "_HASTY_SECONDS", 0.01)
    ending = Ending()
    ending.hastened.set()
    with pytest.raises(Ended, match="0"):
        await ending.bound()


async def test_an_end_in_time_is_left_alone(exits) -> None:
    task = asyncio.create_task(Ending().bound())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
