"""Taking part in one run at a time, over a run that is only pretended."""

import asyncio
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from skerry.node import participation as participation_module
from skerry.node.ending import Ending
from skerry.node.participation import Participation
from skerry.node.run.journal import Journal
from skerry.protocol.errors import DaemonError, NetworkError, StateError

RUN_ID = "ab" * 32


@dataclass
class Run:
    """What a participation asks of a session, and what it was asked."""

    told: list[str] = field(default_factory=list)
    fails: bool = False
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is being opened."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Not set: the opening takes its time."""

    def __post_init__(self) -> None:
        self.gate.set()
        store = SimpleNamespace(keep_paused=lambda paused: self.told.append(f"paused {paused}"))
        manifest = SimpleNamespace(name="first")
        self.context = SimpleNamespace(run_id=RUN_ID, manifest=manifest, store=store)
        self.peers = SimpleNamespace(
            heartbeat=lambda leaving: leaving, greeted=None, broadcast=self._broadcast
        )

    async def _broadcast(self, leaving: bool, whom: None) -> None:
        self.told.append("goodbye")

    async def run(self, members: tuple[()]) -> None:
        if self.fails:
            raise RuntimeError("a fault inside")
        await asyncio.Event().wait()

    async def pause(self, paused: bool) -> None:
        self.told.append("pause" if paused else "resume")

    async def opened(self, *_: object) -> Any:
        self.asked.set()
        await self.gate.wait()
        return SimpleNamespace(session=self, members=(), token="the-token")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    run = Run()
    for name in ("begin", "join", "go_on"):
        monkeypatch.setattr(participation_module, name, run.opened)
    return run


@pytest.fixture
def part(home) -> Participation:
    home.create()
    parts: Any = SimpleNamespace(home=home, journal=Journal(home.events_file), config=None)
    return Participation(parts, Ending())


def events(home) -> list[str]:
    return [json.loads(line)["event"] for line in home.events_file.read_text().splitlines()]


async def test_one_run_at_a_time(home, part, run) -> None:
    reply = await part.init("")
    assert (reply.run_id, reply.name, part.join_token) == (RUN_ID, "first", "the-token")
    with pytest.raises(DaemonError, match=r"SK-DMN-003: .*'first'"):
        await part.join("token")
    await part.pause(True)
    await part.leave()
    assert run.told == ["pause", "paused False", "goodbye"]
    assert (part.session, part.join_token) == (None, "")
    assert events(home) == ["entered", "left"]
    with pytest.raises(DaemonError, match="SK-DMN-004"):
        await part.leave()
    await part.join("token")
    await part.end()


async def test_a_kept_run_is_gone_on_with(part, run, monkeypatch) -> None:
    monkeypatch.setattr(participation_module, "kept_run", lambda _, name: name)
    assert (await part.resume(RUN_ID)).run_id == RUN_ID
    assert (await part.resume(RUN_ID)).token == "the-token"  # a daemon may have done so by itself
    with pytest.raises(DaemonError, match="SK-DMN-003"):
        await part.resume("another")
    await part.leave()
    assert (await part.resume(RUN_ID)).name == "first"
    await part.end()


async def test_a_stop_ends_what_is_being_opened(part, run) -> None:
    run.gate.clear()
    joining = asyncio.create_task(part.join("token"))
    await run.asked.wait()
    assert part.opening
    part._ending.ask()
    part.give_up_opening()
    with pytest.raises(DaemonError, match="SK-DMN-001: the daemon is ending"):
        await joining
    assert not part.opening
    assert part.session is None


async def test_a_run_that_fails_ends_the_daemon(home, part, run) -> None:
    run.fails = True
    await part.init("")
    await part._ending.asked.wait()
    assert part._ending.exit_code == 1
    await part.end()
    assert run.told == []  # nobody is left to say goodbye
    assert events(home) == ["entered", "failed", "left"]


async def test_a_run_that_finds_the_disk_full_is_tried_until_there_is_room(
    home, part, run, monkeypatch
) -> None:
    tries: list[int] = []

    async def opened(*_: object) -> Any:
        tries.append(1)
        if len(tries) < 4:
            raise StateError("SK-DSK-001", "no space left")
        return await run.opened()

    monkeypatch.setattr(participation_module, "go_on", opened)
    monkeypatch.setattr(participation_module, "DISK_RETRY_SECONDS", 0.0)
    (home.path / "current").write_text(RUN_ID)
    await part.go_on()
    assert (part.session, len(tries)) == (run, 4)
    assert events(home) == ["warning", "entered"]
    await part.end()


async def test_a_run_that_cannot_be_gone_on_with_is_given_up(home, part, monkeypatch) -> None:
    async def opened(*_: object) -> Any:
        raise StateError("SK-DSK-002", "its manifest is damaged")

    monkeypatch.setattr(participation_module, "go_on", opened)
    (home.path / "current").write_text(RUN_ID)
    await part.go_on()
    assert part.session is None
    assert events(home) == ["warning"]


async def test_a_stop_ends_the_wait_for_room_on_the_disk(home, part, monkeypatch) -> None:
    async def opened(*_: object) -> Any:
        part._ending.ask()
        raise StateError("SK-DSK-001", "no space left")

    monkeypatch.setattr(participation_module, "go_on", opened)
    (home.path / "current").write_text(RUN_ID)
    await part.go_on()
    assert part.session is None


async def test_the_last_run_is_gone_on_with(home, part, run) -> None:
    await part.go_on()
    (home.path / "current").write_text("not a run id")
    await part.go_on()
    assert part.session is None
    (home.path / "current").write_text(f"{RUN_ID}\n")
    await part.go_on()
    assert part.session is run
    await part.end()
    assert (home.path / "current").exists()


async def test_a_run_that_cannot_be_gone_on_with_is_told(home, part, monkeypatch) -> None:
    async def refused(*_: object) -> None:
        raise NetworkError("SK-NET-001", "nobody is there")

    monkeypatch.setattr(participation_module, "go_on", refused)
    (home.path / "current").write_text(RUN_ID)
    await part.go_on()
    (warning,) = home.events_file.read_text().splitlines()
    assert "run abababab cannot be continued: SK-NET-001: nobody is there" in warning
    (home.path / "current").unlink()
    (home.path / "current").mkdir()
    await part.go_on()
    assert "cannot be read" in home.events_file.read_text().splitlines()[-1]
