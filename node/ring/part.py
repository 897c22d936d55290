"""This node's part in one ring: what the run session holds, from a plan to the next.

Streams, decisions and computations come together here; docs/rings.md shows how it is used.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from random import SystemRandom

from skerry.node.net.tasks import OwnedTasks
from skerry.node.ring.link import Count
from skerry.node.ring.mesh import Addresses
from skerry.node.ring.session import Engine, RingSession, Seat
from skerry.node.ring.settings import mesh_settings, rules_of
from skerry.node.ring.speed import Speedometer
from skerry.node.ring.stage_engine import Ask, StageEngine, StagesStepped
from skerry.protocol.errors import ComputeError, ProtocolError, SkerryError
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.manifest import Manifest
from skerry.protocol.rings import actions as act
from skerry.protocol.rings.events import BeginStep
from skerry.protocol.rings.frames import ROUND_OVER, Place, StageAge
from skerry.protocol.rings.plan import MAX_MICROBATCHES, Plan
from skerry.protocol.rings.tasks import At
from skerry.protocol.transport import Transport

_LOG = logging.getLogger(__name__)
_NO_ROUND = 0
"""Rounds that train count from 1."""
_MEASURES = 0
"""The step of a round that measures the validation loss."""
_FIRST = _MEASURES + 1
"""The first that trains: all hosts of a stage still have the same parameters."""

News = act.MemberStepped | act.StepDone | act.StepOver | act.Refused | act.Note | StagesStepped


class RingPart:
    """One member of one ring, under one plan."""

    def __init__(
        self,
        transport: Transport,
        manifest: Manifest,
        plan: Plan,
        ask: Ask,
        observe: Callable[[News], None],
        count: Count,
    ) -> None:
        """Take this node's place in ``plan``, which was checked; nothing runs before ``start``.

        ``ask`` puts a request to the compute process; ``observe`` is told what becomes of steps,
        ``count`` of all bytes that the streams carry.
        Raises: ValueError if the plan has no ring with this node.
        """
        ring = plan.ring_of(transport.peer_id)
        if ring is None:
            raise ValueError(f"{transport.peer_id} is in no ring of plan {plan.version}")
        self._manifest, self._observe = manifest, observe
        member = plan.rings[ring].member_of(transport.peer_id)
        assert member is not None, "the ring that it is in has it"
        stages = plan.rings[ring].members[member].stages
        self._engine = StageEngine(manifest, stages, ask, observe)
        self._tasks = OwnedTasks()
        seat = Seat(plan, ring, rules_of(manifest, plan), mesh_settings(manifest))
        self._speed = Speedometer(plan, self._engine.compute)
        engine = Engine(self._speed.compute, self._forget)
        self._session = RingSession(transport, seat, engine, self._pass_on, count)
        self._round = 0
        self._dice = SystemRandom()

    async def start(self, addresses: Addresses) -> None:
        """Open the streams; ``addresses`` says where a member may be dialled."""
        await self._session.open_round(_NO_ROUND)
        await self._session.start(addresses)

    async def train_in(self, stages: tuple[StageAge, ...]) -> None:
        """Have part of the microbatches pass over own stages that were made of others.

        The origin hears of it when there is a stream to it, so best before ``start``.
        """
        await self._session.train_in(stages)

    async def close(self) -> None:
        """End all streams and all work; never raises."""
        await self._session.close()
        await self._tasks.cancel()

    async def begin_round(self, number: int, parent: CommitHash) -> None:
        """The compute process holds the parameters of a round's start.

        Before the first round, members that are not there yet are waited for, up to
        ``ring.attempt_min``: this peer takes nothing that it could not pass on.
        Raises: ProtocolError("round-over") if a later round has begun here, SkerryError.
        """
        if number < self._session.newest[0]:
            raise ProtocolError(ROUND_OVER, f"round {number} is over in this ring")
        await self._engine.begin_round(number, parent)
        await self._session.meet(self._manifest.ring.attempt_min)
        await self._session.open_round(number)
        self._round = number

    def end_round(self) -> None:
        """Refuse what is still asked for in the round, before what it has trained is encoded."""
        self._engine.end_round()

    async def train(self, index: int, batch: int, *, last: bool = False) -> act.StepDone:
        """At the origin: take inner step ``index`` of the round, along a batch of the run.

        In a round that is begun anew, steps go on counting where they were. With the ``last`` one
        the round is over at all members.
        Raises: ProtocolError("ring-closed") if the ring is closed meanwhile.
        """
        newest = self._session.newest
        begun = newest[1] if newest[0] == self._round else _MEASURES
        at = (self._round, max(index, begun) + 1)
        sizes = self._sizes(self._manifest.inner.batch_size)
        doubled = self._doubled(len(sizes)) if at[1] == _FIRST else None
        self._engine.expect(at, batch, doubled)
        return await self._session.step(BeginStep(*at, sizes, doubled=doubled, last=last))

    async def evaluate(self) -> float:
        """At the origin: measure the validation loss, nats per text token, before step 0.

        Raises: ComputeError if it cannot be measured, ProtocolError, ValueError after step 0.
        """
        at = (self._round, _MEASURES)
        most = MAX_MICROBATCHES * self._manifest.ring.microbatch
        windows = min(await self._engine.validation_windows(at), most)
        begin = BeginStep(*at, self._sizes(windows), forward_only=True)
        done = await self._session.step(begin)
        if len(done.trained) < len(begin.text_tokens):
            raise ComputeError("SK-CMP-002", "the measurement of the validation loss was cut short")
        return done.loss

    async def cut(self, *, force: bool = False, last: bool = False) -> None:
        """At the origin: end the inner step early; ``force``: leave out what has a loss, too.

        With ``last`` it is the round's last, and all members are told.
        """
        await self._session.cut(force=force, last=last)

    def lost(self, peer: PeerId) -> None:
        """End the stream of a peer that the failure detector has given up."""
        self._session.lost(peer)

    @property
    def ended(self) -> bool:
        """Whether the round's last inner step is over here."""
        return self._session.ended_round == self._round

    @property
    def block_rate(self) -> float:
        """Text tokens per second through one block, forward, measured here; 0: not yet."""
        return self._speed.rate

    @property
    def rebuilt(self) -> Mapping[int, int]:
        """Own stages that were made of others: the inner steps that they have trained since."""
        return self._session.rebuilt

    @property
    def in_step(self) -> bool:
        """Whether a step has begun here that is not over."""
        return self._session.in_step

    @property
    def waiting_for(self) -> tuple[PeerId | str, ...]:
        """Whom or what this peer waits for."""
        return self._session.waiting_for

    @property
    def refused(self) -> Counter[tuple[PeerId, str]]:
        """How often something of a peer was not accepted, by reason."""
        return self._session.refused

    def _doubled(self, microbatches: int) -> int | None:
        """Draw whether a microbatch is computed twice, and which; nobody else can foresee it."""
        drawn = self._dice.random() < self._manifest.ring.doubles
        if not drawn or microbatches >= MAX_MICROBATCHES:
            return None
        return self._dice.randrange(microbatches)

    def _sizes(self, sequences: int) -> tuple[int, ...]:
        """Return the text tokens of each microbatch of so many sequences."""
        size, context = self._manifest.ring.microbatch, self._manifest.model.context
        return tuple(min(size, sequences - i) * context for i in range(0, sequences, size))

    def _forget(self, at: At, place: Place) -> None:
        self._tasks.start(self._drop(at, place), "ring visit to be forgotten")

    async def _drop(self, at: At, place: Place) -> None:
        try:
            await self._engine.forget(at, place)
        except SkerryError as error:
            _LOG.info("a visit was not dropped: %s", error)  # with its step it is, at the latest

    def _pass_on(self, action: act.Action) -> None:
        match action:
            case act.MemberStepped() | act.StepDone() | act.StepOver():
                self._observe(action)
            case act.Refused() | act.Note():
                self._observe(action)
            case _:
                pass
