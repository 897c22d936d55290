"""Rings of real parts: real stages compute what real streams carry; only the machines are missing.

Every member is a ``RingPart`` and the compute side of a daemon, called in place of a process of its
own, so that rings run on virtual time.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ring_swarm import new_peer, uncounted
from stage_compute import StageCompute, one_thread

from skerry.node.ring.part import News, RingPart
from skerry.node.ring.stage_engine import StagesStepped
from skerry.pipeline.planning.ring_plan import check_plan
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.manifest import (
    DataSection,
    InnerSection,
    Manifest,
    ModelSection,
    RecoverySection,
    RingSection,
)
from skerry.protocol.memory import Limits, Link, VirtualNetwork
from skerry.protocol.rings import actions as act
from skerry.protocol.rings.plan import Hop, Member, Plan, Ring, Stage
from skerry.protocol.rings.plan import Path as RingPath
from skerry.protocol.transport import Transport
from skerry.protocol.virtual_time import run_virtual

THREE: list[tuple[int, ...]] = [(0,), (1,), (2,)]
SPARE_HOST = [*THREE, (1,)]
PARENT = CommitHash("0" * 64)
BATCH = 8
PATIENCE_S = 10_000.0
"""Virtual seconds."""
LINK = Link(delay_s=0.02, bytes_per_s=5_000_000)


def manifest_in(folder: Path, layers: int = 2, **ring: object) -> Manifest:
    """A model of few blocks, whose microbatches are of 2 sequences and 16 KiB on the wire."""
    text = folder / "text.txt"
    text.write_text("".join(f"{word} of the tide at the skerry\n" for word in range(600)))
    quick = {"hop_min": "1s", "attempt_min": "2s", "hop_max": "2s", "attempt_max": "8s"}
    settings = {"microbatch": 2, "activations": "fp32", "slots": 4, **quick, **ring}
    return Manifest(
        owner=PeerId("12D3KooWowner"),
        model=ModelSection(layers=layers, d_model=64, heads=2, kv_heads=1, ffn_dim=64, context=32),
        data=DataSection(path=str(text), validation_batches=1),
        inner=InnerSection(steps=3, batch_size=BATCH, lr=5e-3, warmup_steps=0, clip=1e6),
        ring=RingSection.model_validate(settings),
        recovery=RecoverySection(bypass_steps=4),
    )


def plan_of(manifest: Manifest, peers: list[PeerId], hosted: list[tuple[int, ...]]) -> Plan:
    """Return a plan of one ring in which each stage's first host is on the only path."""
    stages = (Stage(("embed", "head")), Stage(("block.0",)), Stage(("block.1",)))
    hops = tuple(Hop(next(i for i, own in enumerate(hosted) if s in own), (s,)) for s in range(3))
    slots = manifest.ring.slots
    members = tuple(Member(p, own, slots) for p, own in zip(peers, hosted, strict=True))
    path = RingPath(hops, BATCH // manifest.ring.microbatch)
    tokens = manifest.ring.microbatch * manifest.model.context
    plan = Plan(1, tokens, stages, (Ring(members, (path,), slots),))
    check_plan(plan, manifest)
    return plan


@dataclass
class StageRing:
    """The members of one ring; the first is the origin."""

    manifest: Manifest
    plan: Plan
    transports: list[Transport]
    computes: list[StageCompute] = field(default_factory=list)
    parts: list[RingPart] = field(default_factory=list)
    news: list[list[News]] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def origin(self) -> RingPart:
        return self.parts[0]

    async def start(self, folder: Path) -> None:
        """Start all members."""
        for transport in self.transports:
            compute = StageCompute(self.manifest, self.plan, transport.peer_id, folder)
            compute.start()
            self.computes.append(compute)
            self.news.append([])
            self.parts.append(self.part(len(self.parts)))
            await self.parts[-1].start(self.addresses)

    def part(self, index: int) -> RingPart:
        """Return a new part of one member; not started."""

        def observe(news: News) -> None:
            self.news[index].append(news)
            self.told.set()

        transport, ask = self.transports[index], self.computes[index].ask
        return RingPart(transport, self.manifest, self.plan, ask, observe, uncounted)

    def addresses(self, peer: PeerId) -> tuple[str, ...]:
        return next(t.addresses for t in self.transports if t.peer_id == peer)

    async def begin_round(self, number: int = 1) -> None:
        """Begin a round at all members, which wait for each other."""
        async with asyncio.TaskGroup() as group:
            for part in self.parts:
                group.create_task(part.begin_round(number, PARENT))

    async def stepped(self, index: int, at: tuple[int, int]) -> None:
        """Wait until an inner step, counted from 0, is over at a member."""
        while not any(isinstance(n, act.StepOver) and n.at == at for n in self.news[index]):
            self.told.clear()
            await self.told.wait()

    def text_tokens(self, index: int) -> list[dict[int, int]]:
        """Return what a member's stages have stepped with, step by step."""
        return [n.text_tokens for n in self.news[index] if isinstance(n, StagesStepped)]

    def refused(self, index: int) -> set[str]:
        """Return the reasons for which a member refused something, as the run session is told."""
        return {n.reason for n in self.news[index] if isinstance(n, act.Refused)}

    async def close(self) -> None:
        for part in self.parts:
            await part.close()


MakePlan = Callable[[Manifest, list[PeerId]], Plan]


async def ring_over(
    transports: list[Transport],
    folder: Path,
    hosted: list[tuple[int, ...]],
    make_plan: MakePlan | None = None,
    layers: int = 2,
    **settings: object,
) -> StageRing:
    """Start a ring whose members sit at these transports."""
    manifest = manifest_in(folder, layers, **settings)
    peers = [transport.peer_id for transport in transports]
    plan = make_plan(manifest, peers) if make_plan else plan_of(manifest, peers, hosted)
    ring = StageRing(manifest, plan, transports)
    await ring.start(folder)
    return ring


Scenario = Callable[[VirtualNetwork, StageRing], Coroutine[Any, Any, None]]


def ring_test(
    folder: Path,
    scenario: Scenario,
    hosted: list[tuple[int, ...]] = THREE,
    link: Link = LINK,
    make_plan: MakePlan | None = None,
    layers: int = 2,
    **settings: object,
) -> StageRing:
    """Run a ring on virtual time, then ``scenario`` on it."""

    async def main() -> StageRing:
        network = VirtualNetwork(seed=1, link=link, limits=Limits(connect_s=2.0, stall_s=3.0))
        transports: list[Transport] = [
            network.transport(peer) for peer in sorted(new_peer() for _ in hosted)
        ]
        ring = await ring_over(transports, folder, hosted, make_plan, layers, **settings)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(network, ring)
        finally:
            await ring.close()
            for transport in transports:
                await transport.close()
        return ring

    with one_thread():
        return run_virtual(main())
