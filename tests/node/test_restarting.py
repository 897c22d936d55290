import logging

import pytest

from skerry.node.net import restarting
from skerry.node.net.restarting import Restarts
from skerry.protocol.errors import NetworkError, PeerUnavailable


@pytest.fixture
def told() -> list[str]:
    return []


async def test_each_is_told_also_after_one_that_failed(told, caplog) -> None:
    restarts = Restarts("it")

    async def fail() -> None:
        raise PeerUnavailable("SK-NET-003", "gone again")

    async def back() -> None:
        told.append("back")

    restarts.add_outage_hook(lambda: told.append("gone"))
    restarts.add_restart_hook(fail)
    restarts.add_restart_hook(back)
    restarts.tell_outage()
    with caplog.at_level(logging.WARNING):
        await restarts.tell_restart()
    assert told == ["gone", "back"]
    assert "after the restart of it: " in caplog.text and "gone again" in caplog.text


async def test_it_is_started_until_that_succeeds(told, monkeypatch) -> None:
    monkeypatch.setattr(restarting, "_RETRY_SECONDS", (0.0, 0.001))

    async def start() -> None:
        told.append("try")
        if len(told) < 4:
            raise NetworkError("SK-NET-004", "not yet")

    await Restarts("it").start_again(start)
    assert told == ["try"] * 4
