"""A page over a run that was really trained: its state, log and chain, without its processes.

The run is trained once; each test gets a copy of what its owner left, with the owner's state
as a replay of its recording gives it.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import run_world

from skerry.node.home import Home
from skerry.node.page.application import build
from skerry.node.page.chronicle import Chronicle
from skerry.node.page.desk import Desk
from skerry.node.page.guard import Policy
from skerry.node.page.stream import Streams
from skerry.node.run.orders import Sender, change_of, note_order
from skerry.node.run.record import initial_state
from skerry.node.run.replay import Step, replay
from skerry.node.run.state import NodeState, apply
from skerry.proto import control_pb2 as pb

PATIENCE_S = 120.0
TOKEN = "page-token-of-the-tests-0123456789"
BASE = "http://127.0.0.1:8787"


@dataclass(frozen=True)
class Trained:
    """A run of two members that is over."""

    folder: Path
    outcome: run_world.Outcome


def train(folder: Path) -> Trained:
    return Trained(folder, asyncio.run(run_world.train(folder, members=2))[0])


def replayed(recording: Path) -> NodeState:
    """The state that a recorded node ended with."""
    start = json.loads(recording.read_text().splitlines()[0])["start"]
    state = initial_state(start)
    for step in replay(recording):
        if isinstance(step, Step):
            apply(state, step.event, step.time - start["time"] + start["now"])
    return state


class PagePart:
    """What the page needs of a daemon's part in a run, over one member of it."""

    def __init__(self, member: run_world.Member | None) -> None:
        self.member = member
        self.join_token = "the-token-of-the-run"

    @property
    def session(self):
        return self.member.session if self.member else None

    async def pause(self, paused: bool) -> None:
        await self.member.session.pause(paused)

    async def order(self, request: pb.OrderRequest, sender: Sender) -> pb.OrderReply:
        session = self.member.session
        order = await session.order(change_of(session.context, request))
        note = note_order(session.context.journal, order, sender)
        return pb.OrderReply(sequence=order.message.sequence, peer=note.peer)


class PageDaemon:
    """What the page needs of a daemon."""

    def __init__(self, member: run_world.Member | None, journal, peer_id: str) -> None:
        self.part = PagePart(member)
        self.journal, self._peer_id = journal, peer_id
        self.network_restarts = 0
        self.far: dict[str, bool] = {}

    def describe(self) -> pb.StatusReply:
        return pb.StatusReply(peer_id=self._peer_id, version="0.1.0", pid=1, uptime_seconds=2.0)

    async def relayed(self) -> dict[str, bool]:
        return self.far


@dataclass
class PageWorld:
    """A desk and its application."""

    world: run_world.World
    daemon: PageDaemon
    desk: Desk
    streams: Streams
    app: Any
    home: Home

    @property
    def context(self):
        return self.daemon.part.member.context

    @property
    def journal(self):
        return self.daemon.journal

    @property
    def chronicle(self) -> Chronicle:
        assert self.desk.chronicle is not None
        return self.desk.chronicle

    async def left(self) -> None:
        """Wait until the page has closed the run."""
        async with asyncio.timeout(PATIENCE_S):
            while (chronicle := self.desk.chronicle) is not None:
                await chronicle.pulse.wait()

    def client(self, **headers: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers)

    async def taken(self, event: str) -> None:
        """Wait until the newest line that the page knows is of this event."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                lines = (await self.desk.log_answer(None, 1)).lines
                if lines and lines[0].event == event:
                    return
                await asyncio.sleep(0.001)


def policy(**changes: object) -> Policy:
    settings = {"token": TOKEN, "loopback": True, "require_token": False, **changes}
    return Policy(**settings)


@asynccontextmanager
async def page_world(
    trained: Trained, folder: Path, rules: Policy | None = None
) -> AsyncIterator[PageWorld]:
    """Serve the trained run's owner as it was when the run was over."""
    async with run_world.World(trained.folder, members=2) as world:
        state = replayed(trained.outcome.recording)
        shutil.copytree(trained.folder / "member1", folder / "member1")
        world.folder = folder
        member = await world.member(1)
        member.context.state = state
        facts = member.context.facts
        facts.params, facts.compute = 1000, "ready"
        home = Home(folder / "home")
        home.run(member.context.run_id).folder.mkdir(parents=True)
        daemon = PageDaemon(member, member.context.journal, member.peer_id)
        daemon.journal.write("entered", run=member.context.run_id, name="small")
        desk = Desk(daemon, home)
        streams = Streams(desk)
        app = build(desk, streams, rules or policy())
        keeping = asyncio.create_task(desk.keep())
        page = PageWorld(world, daemon, desk, streams, app, home)
        try:
            await page.taken("entered")
            yield page
        finally:
            streams.close()
            keeping.cancel()
            await asyncio.wait([keeping])


def pieces(text: str) -> list[dict[str, Any]]:
    """Events of a stream as id, event and data."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            number = int(fields["id"]) if "id" in fields else None
            data = json.loads(fields["data"])
            found.append({"id": number, "event": fields["event"], "data": data})
    return found
