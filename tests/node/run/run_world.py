"""Members of a run in one process: real parts over a network in memory.

Only the machines in between are pretended: gRPC, stores, compute processes and sessions are
those of the daemon.
"""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tiny_run import tiny_run_file

from skerry.node.home import RunHome
from skerry.node.net.rpc import RpcClient, RpcServer
from skerry.node.run.context import RunContext
from skerry.node.run.journal import Journal
from skerry.node.run.peers import member_record
from skerry.node.run.record import Recorder, initial_state, start_of
from skerry.node.run.servicer import RunServicer
from skerry.node.run.session import Session
from skerry.node.run.state import apply
from skerry.node.run.store import RunStore
from skerry.pipeline.codecs import payload_limits
from skerry.protocol.blobs import BlobStore
from skerry.protocol.ids import Address
from skerry.protocol.launch import Launch
from skerry.protocol.layout import layout_of, state_digest
from skerry.protocol.manifest import Manifest, parse_run_file
from skerry.protocol.memory import VirtualNetwork
from skerry.protocol.messages import Envelope, Kind, ShardPayload, ShardState, SignedMember
from skerry.protocol.rounds.events import LocalState
from skerry.protocol.signing import Signer
from skerry.protocol.token import make_invite

PATIENCE_S = 240.0
HEARTBEAT_S = 0.2
ROUNDS = 3


def signer_of(number: int) -> Signer:
    """A signer that is the same in every test."""
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


OWNER = signer_of(1)


def manifest_in(folder: Path, members: int = 1, rounds: int = ROUNDS) -> Manifest:
    """A manifest whose text lies in ``folder``."""
    random = Random(7)
    words = ["skerry", "island", "tide", "ferry", "gull"]
    text = folder / "text.txt"
    text.write_text("\n".join(" ".join(random.choices(words, k=8)) for _ in range(800)))
    changes = {"name": "small", "rounds": rounds, "min": members, "deadline_min": "20s"}
    return parse_run_file(tiny_run_file(text, **changes), OWNER.peer_id)


def made_up_state(manifest: Manifest) -> tuple[ShardState, ...]:
    """The whole model, with parameters that nobody has."""
    return tuple(ShardState(spec.name, Address("d" * 64)) for spec in layout_of(manifest.model))


def invite_to(manifest: Manifest) -> Envelope:
    return make_invite(OWNER, manifest.run_id, int(time.time()) + 3600, b"n" * 16)


def record_of(signer: Signer, manifest: Manifest) -> SignedMember:
    """A member record of a peer that need not exist."""
    invite = None if signer is OWNER else invite_to(manifest)
    return member_record(signer, manifest.run_id, ("/memory/x",), invite)


def launch_in(folder: Path, manifest: Manifest, signer: Signer = OWNER) -> Launch:
    home = RunHome(folder)
    return Launch(
        manifest=manifest.canonical().decode(),
        store=str(home.blobs),
        folder=str(home.compute),
        author=signer.peer_id,
        threads=1,
    )


@dataclass
class Member:
    """One peer of the run: its context, and the session that a test may start."""

    folder: Path
    context: RunContext
    server: RpcServer
    session: Session
    recording: Path
    seen: list[Any] = field(default_factory=list)

    @property
    def peer_id(self):
        return self.context.me

    @property
    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.context.journal.last(10_000)]

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.journal if line["event"] == event]

    async def follow_until(self, event: str, **details: object) -> dict[str, Any]:
        """Wait for a line of the event log."""
        async with asyncio.timeout(PATIENCE_S):
            async for line in self.context.journal.follow(last=10_000):
                found = json.loads(line)
                if found["event"] == event and details.items() <= found.items():
                    return found
        raise AssertionError("unreachable")

    async def event(self, kind: type) -> Any:
        """Take events from the queue until one is of ``kind``; all are kept in ``seen``."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                self.seen.append(await self.context.events.get())
                self.context.events.task_done()
                if isinstance(self.seen[-1], kind):
                    return self.seen[-1]

    def knows(self, *others: "Member") -> None:
        """Put others into the member list, as after a greeting."""
        for other in others:
            record = other.session.peers.own_record()
            self.context.state.rounds.members[other.peer_id] = record

    async def decide(self) -> None:
        """Take events as a session does, but carry nothing out; runs until cancelled."""
        while True:
            event = await self.context.events.get()
            self.seen.append(event)
            apply(self.context.state, event, asyncio.get_running_loop().time())
            self.context.events.task_done()

    def put_state(self) -> LocalState:
        """Put parameters that mean nothing into the blob store and into the list of states."""
        shards = []
        for number, spec in enumerate(layout_of(self.context.manifest.model)):
            data = bytes([number]) * spec.state_bytes
            address = self.context.blobs.put(data)
            shards.append(ShardPayload(spec.name, address, len(data)))
        state = LocalState(state_digest(tuple(shards)), tuple(shards))
        self.context.state.rounds.states[state.digest] = state
        return state


def entered(signer: Signer, manifest: Manifest, now: float) -> dict[str, Any]:
    """What a recording of this member begins with."""
    limits = payload_limits(manifest)
    return start_of(signer.peer_id, manifest.canonical(), limits, HEARTBEAT_S, now)


def context_of(
    folder: Path,
    signer: Signer,
    network: VirtualNetwork,
    manifest: Manifest,
    start: dict[str, Any],
) -> RunContext:
    """What a daemon whose home is ``folder`` knows of a run that it has just entered."""
    home, transport = RunHome(folder / "run"), network.transport(signer.peer_id)
    store = RunStore(home)
    return RunContext(
        signer=signer,
        manifest=manifest,
        manifest_envelope=OWNER.sign(Kind.MANIFEST, manifest.canonical()),
        invite=None if signer is OWNER else invite_to(manifest),
        transport=transport,
        client=RpcClient(transport),
        store=store,
        blobs=BlobStore(home.blobs),
        journal=Journal(folder / "events.jsonl"),
        state=initial_state(start),
        heartbeat_s=HEARTBEAT_S,
        announced=(),
        bootstrap=(),
        facts=store.load_facts(),
    )


class World:
    """A network and its members; leaving it closes everything."""

    def __init__(self, folder: Path, members: int = 1, rounds: int = ROUNDS) -> None:
        self.folder = folder
        self.network = VirtualNetwork()
        self.manifest = manifest_in(folder, members, rounds)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def member(self, number: int = 1) -> Member:
        """Make a member, number 1 the owner, whose door is open; its session is not started."""
        signer = OWNER if number == 1 else signer_of(number)
        folder = self.folder / f"member{number}"
        start = entered(signer, self.manifest, time.monotonic())
        context = context_of(folder, signer, self.network, self.manifest, start)
        transport, home = context.transport, RunHome(folder / "run")
        server = RpcServer(transport, lambda peer: RunServicer(peer, lambda: context))
        await server.start()
        recording = home.folder / "events.record.jsonl"
        session = Session(
            context,
            launch_in(home.folder, self.manifest, signer),
            folder / "compute.log",
            Recorder(recording, start),
        )
        for closing in (transport.close, context.client.close, server.close, session.close):
            self._stack.push_async_callback(closing)
        return Member(folder, context, server, session, recording)


@dataclass(frozen=True)
class Outcome:
    """What a member left on disk."""

    recording: Path
    home: RunHome
    journal: list[dict[str, Any]]


async def train(folder: Path, members: int) -> list[Outcome]:
    """Let members train all rounds, each with a compute process of its own."""
    async with World(folder, members) as world:
        peers = [await world.member(number) for number in range(1, members + 1)]
        async with asyncio.TaskGroup() as group:
            for peer in peers:
                group.create_task(peer.session.start())
        known = tuple(peer.session.peers.own_record() for peer in peers)
        running = [asyncio.create_task(peer.session.run(known)) for peer in peers]
        for peer in peers:
            await peer.follow_until("phase", phase="done")
            await peer.follow_until("validated", round=ROUNDS)
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        return [Outcome(p.recording, RunHome(p.folder / "run"), p.journal) for p in peers]
