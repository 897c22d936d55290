"""One ring on this machine: real compute processes, real streams, links as slow as one likes.

Every member has a compute process of its own, as a daemon would start it, and the product's part in
a ring (node/ring/part.py). Streams go through the product's own limits for upload and download
(node/net/shaping.py) and a virtual link that adds the delay; all run in real time.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import time as TimeOfDay
from itertools import pairwise
from pathlib import Path

from skerry.node.config import BandwidthSection
from skerry.node.net.shaping import ShapedTransport
from skerry.node.ring.part import News, RingPart
from skerry.node.ring.settings import hosting_of
from skerry.node.run.compute import ComputeProcess
from skerry.pipeline.planning.plan import Blocks
from skerry.pipeline.planning.ring_plan import check_plan, stage_shards
from skerry.protocol.compute import Begin, Progress
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.launch import Launch
from skerry.protocol.manifest import Manifest
from skerry.protocol.memory import Link, VirtualNetwork
from skerry.protocol.rings.actions import StepDone
from skerry.protocol.rings.plan import Hop, Member, Plan, Ring, Stage
from skerry.protocol.rings.plan import Path as RingPath

PARENT = CommitHash("0" * 64)
_NOON = TimeOfDay(12)


@dataclass(frozen=True, slots=True)
class Line:
    """What joins any two members."""

    name: str
    bits_per_s: float
    """Of each member's uplink and downlink; 0: no limit."""
    round_trip_s: float


def plan_of(manifest: Manifest, num_members: int) -> Plan:
    """Return a plan of equal stages, one per member, and one path through all of them."""
    ends = [round(i * manifest.model.layers / num_members) for i in range(num_members + 1)]
    blocks = [Blocks(start, stop) for start, stop in pairwise(ends)]
    slots = manifest.ring.slots
    members = tuple(Member(peer, (i,), slots) for i, peer in enumerate(_peers(num_members)))
    quota = -(-manifest.inner.batch_size // manifest.ring.microbatch)
    path = RingPath(tuple(Hop(i, (i,)) for i in range(num_members)), quota)
    plan = Plan(
        version=1,
        microbatch_tokens=manifest.ring.microbatch * manifest.model.context,
        stages=tuple(Stage(stage_shards(i, each)) for i, each in enumerate(blocks)),
        rings=(Ring(members, (path,), slots),),
    )
    check_plan(plan, manifest)
    return plan


def _peers(number: int) -> Iterator[PeerId]:
    return (PeerId(f"member-{i}") for i in range(number))


@dataclass(slots=True)
class LocalRing:
    """A ring whose compute processes run; make one with ``local_ring``."""

    manifest: Manifest
    plan: Plan
    processes: dict[PeerId, ComputeProcess]
    round: int = 0
    """The newest that has begun."""
    news: list[News] = field(default_factory=list)

    async def steps(self, line: Line, number: int) -> AsyncIterator[StepDone]:
        """Yield ``number`` inner steps of a round of its own, over links of a kind."""
        self.round += 1
        network = VirtualNetwork(link=Link(delay_s=line.round_trip_s / 2))
        async with AsyncExitStack() as stack:
            parts = [await self._part(stack, network, line, peer) for peer in self.processes]
            for part in parts:
                await part.begin_round(self.round, PARENT)
            for index in range(number):
                yield await parts[0].train(index, self.round * number + index)

    async def _part(
        self, stack: AsyncExitStack, network: VirtualNetwork, line: Line, peer: PeerId
    ) -> RingPart:
        transport = ShapedTransport(network.transport(peer))
        stack.push_async_callback(transport.close)
        rate = line.bits_per_s / 8
        transport.set_rates(BandwidthSection(max_upload=rate, max_download=rate), _NOON)
        ask = self.processes[peer].submit
        part = RingPart(transport, self.manifest, self.plan, ask, self.news.append, lambda *_: None)
        stack.push_async_callback(part.close)
        await part.start(lambda member: ())
        return part


@asynccontextmanager
async def local_ring(
    manifest: Manifest, num_members: int, folder: Path
) -> AsyncIterator[LocalRing]:
    """Start the compute processes of a ring; all of them are ended in the end."""
    plan = plan_of(manifest, num_members)
    processes: dict[PeerId, ComputeProcess] = {}
    async with AsyncExitStack() as stack:
        for peer in _peers(num_members):
            processes[peer] = await _compute_process(stack, manifest, plan, peer, folder / peer)
        yield LocalRing(manifest, plan, processes)


async def _compute_process(
    stack: AsyncExitStack, manifest: Manifest, plan: Plan, peer: PeerId, folder: Path
) -> ComputeProcess:
    store, own = folder / "blobs", folder / "compute"
    for each in (store, own):
        each.mkdir(parents=True)
    launch = Launch(
        manifest=manifest.canonical().decode(),
        store=str(store),
        folder=str(own),
        author=peer,
        threads=1,
        hosting=hosting_of(plan, peer),
    )
    process, _ = await ComputeProcess.start(launch, folder / "compute.log", _ignore)
    serving = asyncio.create_task(process.serve())
    stack.push_async_callback(_end, process, serving)
    await process.submit(lambda number: Begin(request=number, shards=None))
    return process


async def _end(process: ComputeProcess, serving: "asyncio.Task[None]") -> None:
    await process.stop()
    await asyncio.wait([serving])


def _ignore(progress: Progress) -> None:
    """Nobody looks at a progress bar here."""
