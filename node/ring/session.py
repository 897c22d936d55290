"""One peer of a ring at work: streams and computations as events in, actions out (DESIGN 3).

The only place where a ring's decisions meet time, streams and the compute process. Events wait in
one bounded queue, so when this node is busy its neighbours are stopped by their credit.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from skerry.node.net.tasks import OwnedTasks
from skerry.node.ring.link import Count
from skerry.node.ring.mesh import Addresses, MeshSettings, RingMesh
from skerry.protocol.errors import InputFault, ProtocolError, SkerryError
from skerry.protocol.ids import PeerId, short
from skerry.protocol.rings import actions as act
from skerry.protocol.rings import events as ev
from skerry.protocol.rings.frames import Place, StageAge
from skerry.protocol.rings.machine import apply, new_ring_peer, next_deadline
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rings.state import Rules
from skerry.protocol.rings.tasks import At, Work
from skerry.protocol.rings.waiting import waiting_for
from skerry.protocol.transport import Transport

_LOG = logging.getLogger(__name__)
_MOST_EVENTS = 64


@dataclass(frozen=True, slots=True)
class Output:
    """What came of a computation."""

    payload: bytes = b""
    loss: float = 0.0
    """Nats per text token, of a LOSS task."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The stages of this peer, in the compute process. It does one thing at a time, in order."""

    compute: Callable[[Work], Awaitable[Output]]
    """Raises: ProtocolError if the input is not sound, another SkerryError if it cannot compute."""
    forget: Callable[[At, Place], None]
    """Free what is kept of a visit; not answered."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Which peer of which ring a session is, and by which rules."""

    plan: Plan
    ring: int
    rules: Rules
    mesh: MeshSettings

    @property
    def members(self) -> tuple[PeerId, ...]:
        """The peers of the ring."""
        return tuple(member.peer for member in self.plan.rings[self.ring].members)


class RingSession:
    """This node in one ring, under one plan."""

    def __init__(
        self,
        transport: Transport,
        seat: Seat,
        engine: Engine,
        observe: Callable[[act.Action], None],
        count: Count,
    ) -> None:
        """Take a seat; ``observe`` is told of what is of interest to others (not Send, Compute).

        ``count`` is told of all bytes that the ring's streams carry.
        """
        self._me = transport.peer_id
        self._peer = new_ring_peer(transport.peer_id, seat.plan, seat.ring, seat.rules)
        self._engine, self._observe = engine, observe
        self._events: asyncio.Queue[ev.Event] = asyncio.Queue(_MOST_EVENTS)
        self._mesh = RingMesh(transport, seat.members, seat.mesh, self._events.put, count)
        self._tasks = OwnedTasks()
        self._step: asyncio.Future[act.StepDone] | None = None
        self._idle = asyncio.Event()
        """No step is driven here."""
        self._idle.set()
        self._met = asyncio.Event()
        """All other members have been there at the same time, or were waited for long enough."""
        self._closed = False
        self.refused: Counter[tuple[PeerId, str]] = Counter()
        """How often something of a peer was not accepted, by reason."""

    async def start(self, addresses: Addresses) -> None:
        """Open the streams and begin to work."""
        self._tasks.start(self._work(), "ring session")
        await self._mesh.start(addresses, self._refuse)

    async def close(self) -> None:
        """End all work and all streams; never raises."""
        await self._mesh.close()
        await self._tasks.cancel()
        self._closed = True
        self._idle.set()
        if self._step is not None and not self._step.done():
            self._step.set_exception(ProtocolError("ring-closed", "the ring was closed"))
            self._step.exception()  # nobody may be waiting: that is no error of its own

    async def step(self, begin: ev.BeginStep) -> act.StepDone:
        """At the origin: train an inner step and return when the step is over here.

        A step before it that nobody waits for any more, but that is not over, is cut short.
        Raises: ProtocolError("ring-closed") if the session is closed before, ValueError if the step
        is not after all others here.
        """
        if not self._idle.is_set():
            await self.cut(force=True)
            await self._idle.wait()
        if self._closed:
            raise ProtocolError("ring-closed", "the ring was closed")
        if (begin.round, begin.step) <= self.newest:
            raise ValueError(f"step {begin.step} of round {begin.round} is not after {self.newest}")
        self._idle.clear()
        with contextlib.ExitStack() as unless_begun:
            unless_begun.callback(self._idle.set)
            self._step = asyncio.get_running_loop().create_future()
            await self._events.put(begin)
            unless_begun.pop_all()
        return await self._step

    async def open_round(self, number: int) -> None:
        """Let the steps of a round begin here; before the first call those of any round may."""
        await self._events.put(ev.RoundOpened(number))

    async def train_in(self, stages: tuple[StageAge, ...]) -> None:
        """Have part of the microbatches pass over own stages that were made of others."""
        await self._events.put(ev.StagesRebuilt(stages))

    @property
    def rebuilt(self) -> Mapping[int, int]:
        """Own stages that were made of others: the inner steps that they have trained since."""
        return MappingProxyType(self._peer.s.rebuilt)

    async def meet(self, seconds: float) -> None:
        """Wait until there are streams to all other members, the first time only."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._met.wait()
        self._met.set()

    async def cut(self, *, force: bool = False, last: bool = False) -> None:
        """At the origin: end the step early; ``last``: no other of the round will follow."""
        await self._events.put(ev.CutStep(force, last))

    def lost(self, peer: PeerId) -> None:
        """End the stream of a peer that a failure detector has given up."""
        self._mesh.drop(peer)

    @property
    def newest(self) -> At:
        """The newest step that has begun or ended here."""
        return self._peer.s.newest

    @property
    def ended_round(self) -> int | None:
        """The round whose last step is the newest that is over here; None within a round."""
        closed = self._peer.s.closed
        return closed.at[0] if closed is not None and closed.last else None

    @property
    def in_step(self) -> bool:
        """Whether a step has begun here that is not over."""
        return bool(self._peer.s.books)

    @property
    def waiting_for(self) -> tuple[PeerId | str, ...]:
        """Whom or what this peer waits for."""
        return waiting_for(self._peer)

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            event = await self._next_event(clock)
            for action in apply(self._peer, event, clock()):
                self._carry_out(action)
            if not self._peer.s.down:
                self._met.set()

    async def _next_event(self, clock: Callable[[], float]) -> ev.Event:
        due = next_deadline(self._peer)
        if due is not None and due <= clock() and self._events.empty():
            return ev.Tick()
        try:
            async with asyncio.timeout_at(due):
                return await self._events.get()
        except TimeoutError:
            return ev.Tick()

    def _carry_out(self, action: act.Action) -> None:
        match action:
            case act.Send(peer, frame, payload):
                self._mesh.send(peer, frame, payload)
            case act.Compute(work):
                self._tasks.start(self._compute(work), "ring computation")
            case act.Forget(at, place):
                self._engine.forget(at, place)
            case act.Refused(peer, reason, fault):
                self._refuse(peer, reason, fault)
            case act.StepDone():
                self._observe(action)
                self._idle.set()
                if self._step is not None and not self._step.done():
                    self._step.set_result(action)
            case _:
                self._observe(action)

    async def _compute(self, work: Work) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            output = await self._engine.compute(work)
        except ProtocolError as error:
            of_input = isinstance(error, InputFault)
            await self._events.put(ev.ComputeFailed(work, error.reason, of_input))
        except SkerryError as error:
            await self._events.put(ev.ComputeFailed(work, error.code))
        else:
            done = ev.Computed(work, output.payload, clock() - began, output.loss)
            await self._events.put(done)

    def _refuse(self, peer: PeerId, reason: str, fault: bool) -> None:
        if peer == self._me:
            return  # an origin that is too late for itself
        self.refused[peer, reason] += 1
        _LOG.info("refused of %s: %s", short(peer), reason)
        self._observe(act.Refused(peer, reason, fault))
