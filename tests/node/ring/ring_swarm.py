"""Rings of real sessions over a transport, with arithmetic in place of tensors.

An activation is a text of who computed which stage, padded to its full size; so every result can
be followed to where it came from.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.ring.link import Carried
from skerry.node.ring.mesh import MeshSettings
from skerry.node.ring.session import Engine, Output, RingSession, Seat
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.rings import actions as act
from skerry.protocol.rings.events import BeginStep
from skerry.protocol.rings.frames import Place
from skerry.protocol.rings.lanes import LaneLimits, SizeRange
from skerry.protocol.rings.plan import Hop, Member, Path, Plan, Ring, Stage
from skerry.protocol.rings.state import Rules
from skerry.protocol.rings.tasks import Kind, TakeStep, Task, Work
from skerry.protocol.signing import Signer
from skerry.protocol.transport import Transport

RUN = RunId("cd" * 32)
TOKENS = 10


def new_peer() -> PeerId:
    return Signer(Ed25519PrivateKey.generate()).peer_id


def uncounted(peer: PeerId, carried: Carried) -> None:
    """Where nobody asks how many bytes the streams have carried."""


@dataclass
class Arithmetic:
    """The stages of one peer: takes time, keeps inputs, counts what it adds up."""

    size: int
    forward_s: float = 0.0
    kept: dict[tuple[tuple[int, int], Place], bytes] = field(default_factory=dict)
    sums: Counter[tuple[int, int]] = field(default_factory=Counter)
    steps: list[TakeStep] = field(default_factory=list)
    began: list[tuple[float, Work]] = field(default_factory=list)
    wrong_output: int = 0
    """How many of the next outputs do not decode."""

    async def compute(self, work: Work) -> Output:
        self.began.append((asyncio.get_running_loop().time(), work))
        await asyncio.sleep(self.forward_s)
        if isinstance(work, TakeStep):
            told = {(v.stage, number) for v in work.visits for number in v.microbatches}
            assert dict(self.sums) == dict.fromkeys(told, 1)
            self.steps.append(work)
            self.sums.clear()
            return Output()
        assert isinstance(work, Task)
        return self._output(work)

    def _output(self, task: Task) -> Output:
        if task.payload.startswith(b"wrong"):
            raise ProtocolError("undecodable", "an activation that does not decode")
        for stage in task.counts:
            self.sums[stage, task.place.microbatch] += 1
        if task.kind is Kind.WEIGHT_GRADIENT:
            return Output()
        if task.kind is Kind.FORWARD:
            self.kept[task.at, task.place] = task.payload
        trace = task.payload.rstrip() + f" {task.kind.name}{task.stages}".encode()
        if self.wrong_output:
            self.wrong_output -= 1
            trace = b"wrong"
        return Output(trace.ljust(self.size), loss=2.0)

    def forget(self, at: tuple[int, int], place: Place) -> None:
        self.kept.pop((at, place), None)


def plan_for(peers: list[PeerId], hosted: list[tuple[int, ...]], in_flight: int = 3) -> Plan:
    """Return a plan of one ring in which each stage's first host is on the only path."""
    num_stages = 1 + max(stage for stages in hosted for stage in stages)
    hops = tuple(
        Hop(next(i for i, own in enumerate(hosted) if stage in own), (stage,))
        for stage in range(num_stages)
    )
    members = tuple(Member(p, own, 4) for p, own in zip(peers, hosted, strict=True))
    stages = tuple(Stage((f"block.{stage}",)) for stage in range(num_stages))
    return Plan(1, TOKENS, stages, (Ring(members, (Path(hops, 1),), in_flight),))


class Swarm:
    """The sessions of one ring."""

    def __init__(
        self,
        transports: list[Transport],
        hosted: list[tuple[int, ...]],
        *,
        size: int = 20_000,
        forward_s: float = 0.0,
        rules: Rules | None = None,
        window_bytes: int = 2**17,
    ) -> None:
        self.transports = transports
        whole = SizeRange(size, size)
        limits = LaneLimits(whole, whole, window_bytes)
        settings = MeshSettings(limits, retry_first_s=0.05, stall_s=5.0)
        peers = [transport.peer_id for transport in transports]
        patient = Rules(RUN, hop_min_s=2.0, attempt_min_s=5.0, hop_max_s=4.0, attempt_max_s=20.0)
        self.seat = Seat(plan_for(peers, hosted), 0, rules or patient, settings)
        self.engines = [Arithmetic(size, forward_s) for _ in transports]
        self.seen: list[tuple[int, act.Action]] = []
        self.sessions = [self._session(i) for i in range(len(transports))]

    def _session(self, index: int) -> RingSession:
        engine = self.engines[index]

        def observe(action: act.Action) -> None:
            self.seen.append((index, action))

        own = Engine(engine.compute, engine.forget)
        return RingSession(self.transports[index], self.seat, own, observe, uncounted)

    async def start(self) -> None:
        where = {transport.peer_id: transport.addresses for transport in self.transports}
        for session in self.sessions:
            await session.start(where.__getitem__)

    async def step(self, number: int, microbatches: int) -> act.StepDone:
        begin = BeginStep(1, number, (TOKENS,) * microbatches)
        return await self.sessions[0].step(begin)

    async def close(self) -> None:
        for session in self.sessions:
            await session.close()

    def refused(self, index: int) -> set[str]:
        """Return the reasons for which a peer refused something."""
        return {reason for _, reason in self.sessions[index].refused}
