"""A ring's computations as tasks of the compute process: the meeting point of the two vocabularies.

The machine (protocol/rings/) names a computation by its kind, step and place; the compute process
(pipeline/stages/) by its task and the number of the inner step in the run. No tensor is touched
here: a payload is cut into text token ids and activations at a length that follows from the
manifest, and a payload of another length is refused.

Step 0 of a round only measures; inner step i is step i + 1. The host is told of a step before its
first task, and whatever belongs to a round that has not begun here waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from skerry.node.ring.session import Output
from skerry.pipeline.stages import tasks
from skerry.pipeline.stages.cuts import ORIGIN
from skerry.pipeline.stages.frames import decode_result, encode
from skerry.pipeline.stages.sizes import payload_bytes, text_bytes
from skerry.protocol.compute import Open, Reply, Request, StageDone, StageTask
from skerry.protocol.errors import ComputeError, InputFault, ProtocolError
from skerry.protocol.ids import CommitHash
from skerry.protocol.manifest import Manifest
from skerry.protocol.rings.frames import ROUND_OVER, Place, StageVisits
from skerry.protocol.rings.plan import EMBEDDING, HEAD
from skerry.protocol.rings.tasks import At, DropGradients, Kind, TakeStep, Task, Work

Ask = Callable[[Callable[[int], Request]], Awaitable[Reply]]
"""Puts a request, built from its number, to the compute process. Raises: SkerryError."""
R = TypeVar("R", bound=tasks.Result)


@dataclass(frozen=True, slots=True)
class StagesStepped:
    """An inner step is over at this peer."""

    round: int
    index: int
    """Of the inner step in its round, from 0."""
    text_tokens: dict[int, int]
    """By hosted stage: what its gradient was made of."""
    reason: str
    """Why its gradients were thrown away; empty if they were not."""


class StageEngine:
    """The stages of this peer, as a ring's session computes with them."""

    def __init__(
        self,
        manifest: Manifest,
        stages: tuple[int, ...],
        ask: Ask,
        stepped: Callable[[StagesStepped], None],
    ) -> None:
        """Compute ``stages`` by ``ask``; ``stepped`` is told of each inner step's end."""
        self._manifest, self._stages, self._ask, self._stepped = manifest, stages, ask, stepped
        self._context = manifest.model.context
        self._batches: dict[At, int] = {}
        self._doubled: int | None = None
        self._windows = 0
        self._round = -1
        """The round that has begun here, or the last one if it has ended."""
        self._ended = True
        self._began = asyncio.Event()
        self._host_step: int | None = None
        """Which step the host is in."""

    async def begin_round(self, number: int, parent: CommitHash) -> None:
        """The parameters of a round's start are there: its tasks may come. Raises: ComputeError."""
        await self._ask(lambda n: Open(request=n, round=number, parent=parent))
        self._round, self._ended, self._host_step = number, False, None
        self._began.set()

    def end_round(self) -> None:
        """Refuse what is still asked for in the round; what comes after it waits."""
        self._ended = True
        self._began.clear()
        self._batches.clear()

    def expect(self, at: At, batch: int, doubled: int | None = None) -> None:
        """Say which batch the microbatches of an inner step are of.

        One that is numbered after the last has the text of microbatch ``doubled``.
        """
        self._batches, self._doubled = {at: batch}, doubled

    async def validation_windows(self, at: At) -> int:
        """Return how many windows there are to measure. Raises: ComputeError, ProtocolError."""
        await self._enter(at)
        return self._windows

    async def compute(self, work: Work) -> Output:
        """Do one computation. Raises: ProtocolError, ComputeError."""
        await self._round_of(work.at)
        await self._enter(work.at)
        match work:
            case Task():
                return await self._task(work)
            case TakeStep():
                await self._step(work)
            case DropGradients():
                await self._begin(self._number(work.at) + 1)
                self._tell(work.at, {}, "dropped")
        return Output()

    async def forget(self, at: At, place: Place) -> None:
        """Free what is kept of a visit; of another step than the present there is nothing.

        Raises: ComputeError, ProtocolError.
        """
        if at[0] == self._round and not self._ended and self._number(at) == self._host_step:
            await self._do(tasks.Drop(step=self._number(at), place=_place(place)), tasks.Dropped)

    async def _round_of(self, at: At) -> None:
        """Wait until a round has begun here. Raises: ProtocolError if it is over."""
        while at[0] > self._round:
            self._began.clear()
            await self._began.wait()
        if at[0] < self._round or self._ended:
            raise ProtocolError(ROUND_OVER, f"round {at[0]} is over here")

    async def _enter(self, at: At) -> None:
        if self._number(at) != self._host_step:
            await self._begin(self._number(at))

    async def _begin(self, number: int) -> None:
        self._host_step = None
        begun = await self._do(tasks.Begin(step=number), tasks.Begun)
        self._host_step, self._windows = number, begun.validation_windows

    async def _task(self, task: Task) -> Output:
        number, place = self._number(task.at), _place(task.place)
        match task.kind:
            case Kind.FORWARD:
                return await self._forward(task)
            case Kind.LOSS:
                score = tasks.Score(step=number, place=_home(place), activations=self._cut(task)[1])
                scored = await self._do(score, tasks.Scored)
                return Output(scored.gradients, scored.loss / scored.text_tokens)
            case Kind.MEASURE:
                ask = tasks.Measure(step=number, place=_home(place), activations=self._cut(task)[1])
                measured = await self._do(ask, tasks.Measured)
                return Output(b"", measured.loss / measured.text_tokens)
            case Kind.INPUT_GRADIENT:
                return Output(await self._input_gradient(task))
            case Kind.WEIGHT_GRADIENT:
                if task.place.hop == 0:
                    await self._input_gradient(task)
                await self._do(tasks.WeightGradient(step=number, place=place), tasks.Weighed)
                return Output()

    async def _forward(self, task: Task) -> Output:
        number, place = self._number(task.at), _place(task.place)
        sequences = self._sequences(task)
        if task.place.hop == 0:
            inject = tasks.Inject(
                step=number,
                place=place,
                stages=task.stages,
                batch=self._batch(task.at),
                first=self._first(task),
                sequences=sequences,
            )
            passed = await self._do(inject, tasks.Forwarded)
        else:
            ids, activations = self._cut(task)
            forward = tasks.Forward(
                step=number,
                place=place,
                stages=task.stages,
                sequences=sequences,
                ids=ids,
                activations=activations,
            )
            passed = await self._do(forward, tasks.Forwarded)
        return Output(passed.ids + passed.activations)

    def _first(self, task: Task) -> int:
        """Return the place of a microbatch's first sequence among those of its step."""
        size = self._manifest.ring.microbatch
        first = task.place.microbatch * size
        is_double = task.at in self._batches and first >= self._manifest.inner.batch_size
        return self._doubled * size if is_double and self._doubled is not None else first

    def _batch(self, at: At) -> int | None:
        """Return the batch of an inner step; None if validation text is to be measured."""
        if at[1] > 0 and at not in self._batches:
            raise ProtocolError(ROUND_OVER, f"step {at} is over here")
        return self._batches.get(at)

    async def _input_gradient(self, task: Task) -> bytes:
        ask = tasks.InputGradient(
            step=self._number(task.at), place=_place(task.place), gradients=task.payload
        )
        return (await self._do(ask, tasks.Differentiated)).gradients

    async def _step(self, work: TakeStep) -> None:
        number = self._number(work.at)
        step = tasks.Step(step=number, expected=_expected(self._stages, work.visits))
        stepped = await self._do(step, tasks.Stepped)
        self._host_step = number + 1
        text_tokens = {s.visits.stage: s.text_tokens for s in stepped.stages if not s.reason}
        wrong = next((s.reason for s in stepped.stages if s.reason not in ("", "idle")), "")
        self._tell(work.at, text_tokens, wrong)
        if wrong:
            raise ProtocolError(wrong, f"step {work.at} was not taken")

    def _tell(self, at: At, text_tokens: dict[int, int], reason: str) -> None:
        if at[1] > 0:
            self._stepped(StagesStepped(at[0], at[1] - 1, text_tokens, reason))

    def _sequences(self, task: Task) -> int:
        sequences, rest = divmod(task.text_tokens, self._context)
        if rest or not 1 <= sequences <= self._manifest.ring.microbatch:
            raise ProtocolError("range", f"microbatch of {task.text_tokens} text tokens")
        return sequences

    def _cut(self, task: Task) -> tuple[bytes, bytes]:
        """Return text token ids and activations. Raises: InputFault("shape")."""
        sequences = self._sequences(task)
        ids, rows = text_bytes(self._manifest, sequences), payload_bytes(self._manifest, sequences)
        if len(task.payload) != ids + rows:
            detail = f"{len(task.payload)} bytes of {sequences} sequences, need {ids + rows}"
            raise InputFault("shape", detail)
        return task.payload[:ids], task.payload[ids:]

    def _number(self, at: At) -> int:
        """Return the number of an inner step in the run, as its learning rate follows it."""
        return at[0] * self._manifest.inner.steps + at[1] - 1

    async def _do(self, task: tasks.Task, kind: type[R]) -> R:
        """Do a task. Raises: ProtocolError (or InputFault) if it is refused, ComputeError."""
        frame = encode(task)
        reply = await self._ask(lambda n: StageTask(request=n, frame=frame))
        if not isinstance(reply, StageDone):
            raise ComputeError("SK-CMP-002", f"a task was answered by {reply.kind}")
        try:
            result = decode_result(reply.frame)
        except ValueError as error:
            raise ComputeError("SK-CMP-002", f"not a result: {error}") from None
        if isinstance(result, tasks.Refused):
            fault = InputFault if result.of_input else ProtocolError
            raise fault(result.reason, result.detail)
        if not isinstance(result, kind):
            raise ComputeError("SK-CMP-002", f"{task.kind} was answered by {result.kind}")
        return result


def _place(place: Place) -> tasks.Place:
    return tasks.Place(place.microbatch, place.attempt, place.hop)


def _home(place: tasks.Place) -> tasks.Place:
    """Return the origin's visit of a microbatch that is back."""
    return tasks.Place(place.microbatch, place.attempt, 0)


def _expected(
    stages: tuple[int, ...], visits: tuple[StageVisits, ...]
) -> tuple[tasks.StageVisits, ...]:
    """Return what each stage's gradient is to be made of; the origin counts at the embedding."""
    found: dict[int, set[int]] = {stage: set() for stage in stages}
    for one in visits:
        found[ORIGIN if one.stage in (EMBEDDING, HEAD) else one.stage].update(one.microbatches)
    return tuple(tasks.StageVisits(stage, tuple(sorted(some))) for stage, some in found.items())
