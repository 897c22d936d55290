"""Notifications to a real datagram socket: by path, abstract, absent, and gone."""

import asyncio
import contextlib
import os
import socket
import uuid
from itertools import chain, repeat

import pytest

from skerry.node.service.notify import Notifier

PATIENCE_S = 60.0


class Manager:
    """The manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE_S)

    def received(self) -> list[str]:
        return self.socket.recv(4096).decode().splitlines()

    def received_within(self, seconds: float) -> list[str]:
        """Raises: TimeoutError."""
        self.socket.settimeout(seconds)
        try:
            return self.received()
        finally:
            self.socket.settimeout(PATIENCE_S)

    def forget(self) -> None:
        """Take what has arrived already."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.received_within(0.0)


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    by_path = request.param == "path"
    manager = Manager(str(tmp_path / "notify") if by_path else f"@skerry-{uuid.uuid4()}")
    yield manager
    manager.socket.close()


def test_each_state_is_one_datagram(manager) -> None:
    notifier = Notifier(manager.address)
    notifier.ready()
    assert manager.received() == ["READY=1"]
    notifier.reloading()
    first, second = manager.received()
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0
    notifier.stopping()
    assert manager.received() == ["STOPPING=1", "STATUS=stopping"]


async def test_signs_of_life_go_on_and_the_status_comes_when_it_changes(manager) -> None:
    told = chain(["in no\nrun", "in no\nrun"], repeat("in run x"))
    alive = asyncio.create_task(Notifier(manager.address, 0.02).keep_alive(lambda: next(told)))
    received = [await asyncio.to_thread(manager.received) for _ in range(3)]
    alive.cancel()
    await asyncio.wait([alive])
    assert received == [
        ["STATUS=in no run", "WATCHDOG=1"],
        ["WATCHDOG=1"],
        ["STATUS=in run x", "WATCHDOG=1"],
    ]


async def test_a_loop_that_is_stuck_sends_no_sign_of_life(manager) -> None:
    alive = asyncio.create_task(Notifier(manager.address, 0.02).keep_alive(lambda: ""))
    await asyncio.to_thread(manager.received)
    # On the event loop: as long as this takes, nothing else runs.
    manager.forget()
    with pytest.raises(TimeoutError):
        manager.received_within(0.2)
    assert await asyncio.to_thread(manager.received) == ["WATCHDOG=1"]
    alive.cancel()
    await asyncio.wait([alive])


async def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier.take({})
    notifier.ready()
    await notifier.keep_alive(lambda: pytest.fail("nobody asked"))


def test_a_manager_that_is_gone_is_only_noted(tmp_path, caplog) -> None:
    Notifier(str(tmp_path / "gone")).ready()
    assert "was not told READY=1" in caplog.text


def test_a_manager_that_reads_nothing_is_not_waited_for(manager, caplog) -> None:
    notifier = Notifier(manager.address)
    for _ in range(2000):
        notifier.ready()
    assert "was not told READY=1" in caplog.text


class TestVariables:
    def test_are_taken_so_that_no_child_inherits_them(self) -> None:
        environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000", "PATH": "/bin"}
        assert Notifier.take(environ).watchdog_s == 3.0
        assert environ == {"PATH": "/bin"}

    @pytest.mark.parametrize(
        ("microseconds", "pid", "due"),
        [
            # An id of its own: the workers of one test run must agree on the tests' names.
            pytest.param("2000000", str(os.getpid()), 2.0, id="this-process"),
            ("2000000", "1", None),  # another process is watched
            ("0", "", None),
            ("soon", "", None),
            ("", "", None),
        ],
    )
    def test_of_the_watchdog(self, microseconds, pid, due) -> None:
        environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": microseconds, "WATCHDOG_PID": pid}
        assert Notifier.take(environ).watchdog_s == due

    @pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
    def test_of_a_socket_that_is_none(self, address, caplog) -> None:
        Notifier.take({"NOTIFY_SOCKET": address}).ready()
        assert caplog.text == ""
