"""What a peer of a ring computes: one method per task of tasks.py.

Tensors stay inside: tasks and results hold bytes. The host knows no network, no route and no
clock; it does its tasks in the order in which they come, and what that should be (gradients first,
weights' gradients while there is nothing else to do) is the caller's concern, frames server.py's.

Memory is bounded by the number of ``slots`` for inputs, and by ``debt_bytes`` for what gradients of
weights need, plus that of the one microbatch in work; sizes.py computes both beforehand. The more
room there is for the latter, the fewer are computed, and so counted, before anybody asks.

Parameters are those of ``model``, by shard. Like a full replica's they are loaded at the start of a
round and drift from there; AdamW's moments stay. Between rounds the caller sees to both.

Shape suffixes: B sequences, T text tokens, S = T + 1, D model width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from skerry.compression.counter_rng import derive
from skerry.pipeline.adamw import AdamW
from skerry.pipeline.batches import Batches
from skerry.pipeline.evaluation import ValidationWindows
from skerry.pipeline.stages import passes, tasks
from skerry.pipeline.stages.cuts import EMBED, HEAD, ORIGIN, Stages, blocks_of
from skerry.pipeline.stages.optimizer import StageOptimizer
from skerry.pipeline.stages.outliers import Outliers, Way
from skerry.pipeline.stages.stage_model import StageModel
from skerry.pipeline.stages.tally import Tally
from skerry.pipeline.stages.tasks import Place, Result, Task
from skerry.pipeline.stages.visits import Visit, Visits
from skerry.pipeline.stages.wire import Wire
from skerry.protocol.errors import ProtocolError
from skerry.protocol.manifest import Manifest

_GRADIENTS, _LOSS = 0, 1
"""Which payload of a visit the noise is for."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much a host keeps at a time."""

    slots: int
    """Visits, by their inputs."""
    debt_bytes: int
    """Of what gradients of weights still to be computed need."""


@dataclass(frozen=True, slots=True)
class Text:
    """What an origin trains on, and what it only measures."""

    source: Batches
    validation: ValidationWindows | None = None


class StageHost:
    """Some stages of one replica: their parameters, gradients, moments and microbatches."""

    def __init__(
        self,
        manifest: Manifest,
        stages: Stages,
        room: Room,
        key: int,
        text: Text | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Allocate; parameters are zero until their shards are loaded into ``model``.

        Args:
            manifest: of the run.
            stages: those hosted, with their shards.
            room: how much is kept at a time.
            key: of this peer, from ``derive``: the noise of what it sends follows from it.
            text: needed where stage 0 is hosted.
            device: where to compute; main memory by default.
        Raises: ValueError if the stages are not the model's, or the origin has no text.
        """
        if ORIGIN in stages and text is None:
            raise ValueError("stage 0 is hosted, so a source of text is needed")
        self.device = device or torch.device("cpu")
        self._manifest, self._stages, self._key = manifest, stages, key
        self._text = text
        self.model = StageModel(manifest.model, manifest.seed, stages).to(self.device)
        self._wire = Wire(manifest, self.device)
        self._visits = Visits(room.slots)
        self._tally = Tally([spec.name for spec in self.model.specs], room.debt_bytes)
        self._optimizers = {
            stage: StageOptimizer(stage, stages[stage], self.model, manifest.inner)
            for stage in sorted(stages)
        }
        self._outliers = Outliers(manifest.model.d_model) if manifest.ring.outliers else None
        self._step: int | None = None

    @property
    def bytes_in_flight(self) -> int:
        """What visits keep: inputs, and what gradients of weights still need."""
        return self._visits.kept_bytes + self._tally.kept_bytes

    @property
    def optimizers(self) -> tuple[AdamW, ...]:
        """What steps the stages, one each."""
        return tuple(optimizer.adamw for optimizer in self._optimizers.values())

    @property
    def _num_validation_windows(self) -> int:
        validation = self._text.validation if self._text else None
        return len(validation) if validation else 0

    def leave_step(self) -> None:
        """Forget visits and gradients; the next task is ``Begin``."""
        self._forget()
        self._step = None

    def move(self) -> None:
        """The ring's parameters have moved by an outer update: other payloads will be usual."""
        if self._outliers is not None:
            self._outliers.move()

    def reset(self) -> None:
        """Forget visits, gradients and moments, for parameters that come from elsewhere."""
        self.leave_step()
        if self._outliers is not None:
            self._outliers.clear()
        for optimizer in self._optimizers.values():
            optimizer.reset()

    def do(self, task: Task) -> Result:
        """Do one task. Raises: ProtocolError as tasks.py says, with nothing changed."""
        match task:
            case tasks.Begin():
                return self._begin(task)
            case tasks.Inject():
                return self._inject(task)
            case tasks.Forward():
                return self._forward(task)
            case tasks.Score():
                return self._score(task)
            case tasks.Measure():
                return self._measure(task)
            case tasks.InputGradient():
                return self._input_gradient(task)
            case tasks.WeightGradient():
                return self._weight_gradient(task)
            case tasks.Drop():
                return self._drop(task)
            case tasks.Step():
                return self._take_step(task)

    def _begin(self, task: tasks.Begin) -> tasks.Begun:
        if task.step < 0:
            raise ProtocolError("range", f"step {task.step}")
        self._forget()
        self._step = task.step
        return tasks.Begun(
            step=task.step,
            validation_windows=self._num_validation_windows,
            bytes_in_flight=self.bytes_in_flight,
        )

    def _inject(self, task: tasks.Inject) -> tasks.Forwarded:
        self._check_step(task.step)
        windows_BS = self._windows(task)
        visit = Visit(
            place=task.place,
            blocks=self._blocks(task.stages),
            sequences=task.sequences,
            text=self._wire.pack_ids(windows_BS),
            activations=b"",
            begins=True,
        )
        return self._passed(visit)

    def _forward(self, task: tasks.Forward) -> tasks.Forwarded:
        self._check_step(task.step)
        if not task.stages:
            raise ProtocolError("stage", "a hop without stages is no visit")
        if not 1 <= task.sequences <= self._manifest.ring.microbatch:
            raise ProtocolError("range", f"microbatch of {task.sequences} sequences")
        visit = Visit(
            place=task.place,
            blocks=self._blocks(task.stages),
            sequences=task.sequences,
            text=task.ids,
            activations=task.activations,
            begins=False,
        )
        return self._passed(visit)

    def _passed(self, visit: Visit) -> tasks.Forwarded:
        """Do the forward pass of a visit and keep its input."""
        self._visits.check(visit.place)
        x_BTD, ids_BT = self._input(visit)
        if not visit.begins:
            self._check_usual("activations", visit.blocks[0], x_BTD)
        output_BTD = passes.forward(self.model, x_BTD, visit.blocks)
        activations = self._wire.pack_activations(output_BTD, ids_BT)
        ids = self._wire.pack_ids(ids_BT) if self._wire.needs_ids else b""
        self._visits.add(visit)
        self._tally.drop_older(visit.place)
        return tasks.Forwarded(
            place=visit.place,
            ids=ids,
            activations=activations,
            bytes_in_flight=self.bytes_in_flight,
        )

    def _score(self, task: tasks.Score) -> tasks.Scored:
        visit, x_BTD, targets_BT = self._returned(task)
        self._visits.check_unscored(visit.place)
        wanted = self._tally.lacking([HEAD], visit.place.microbatch)
        loss, gradients = passes.score(self.model, x_BTD, targets_BT, wanted)
        payload = self._wire.pack_gradients(gradients.input_BTD, self._noise(visit.place, _LOSS))
        self._visits.mark_scored(visit.place)
        self._tally.owe(wanted, visit.place, targets_BT.numel(), gradients.debts)
        return tasks.Scored(
            place=visit.place,
            loss=loss,
            text_tokens=targets_BT.numel(),
            gradients=payload,
            bytes_in_flight=self.bytes_in_flight,
        )

    def _measure(self, task: tasks.Measure) -> tasks.Measured:
        visit, x_BTD, targets_BT = self._returned(task)
        loss = passes.measure(self.model, x_BTD, targets_BT)
        self._visits.remove(visit.place)
        return tasks.Measured(
            place=visit.place,
            loss=loss,
            text_tokens=targets_BT.numel(),
            bytes_in_flight=self.bytes_in_flight,
        )

    def _returned(self, task: tasks.Score | tasks.Measure) -> tuple[Visit, Tensor, Tensor]:
        """Return a visit that is back, what came back [B, T, D] and what follows it [B, T]."""
        self._check_step(task.step)
        visit = self._visits.get(task.place)
        if not visit.begins:
            raise ProtocolError("stage", "only the origin of a microbatch knows its loss")
        windows_BS = self._wire.unpack_windows(visit.text, visit.sequences)
        x_BTD = self._wire.unpack_activations(task.activations, windows_BS[:, :-1])
        self._check_usual("activations", HEAD, x_BTD)
        return visit, x_BTD, windows_BS[:, 1:]

    def _input_gradient(self, task: tasks.InputGradient) -> tasks.Differentiated:
        self._check_step(task.step)
        visit = self._visits.get(task.place)
        output_BTD = self._wire.unpack_gradients(task.gradients, visit.sequences)
        passed = (EMBED, *visit.blocks) if visit.begins else visit.blocks
        self._check_usual("gradients", passed[-1], output_BTD)
        wanted = self._tally.lacking(passed, visit.place.microbatch)
        x_BTD, ids_BT = self._input(visit)
        gradients = passes.input_gradient(self.model, x_BTD, output_BTD, visit.blocks, wanted)
        debts, payload = gradients.debts, b""
        if not visit.begins:
            noise = self._noise(visit.place, _GRADIENTS)
            payload = self._wire.pack_gradients(gradients.input_BTD, noise)
        elif EMBED in wanted:
            debts = [*debts, passes.lookup_debt(self.model, ids_BT, gradients.input_BTD)]
        self._visits.remove(visit.place)
        text_tokens = visit.sequences * self._manifest.model.context
        self._tally.owe(wanted, visit.place, text_tokens, debts)
        return tasks.Differentiated(
            place=visit.place, gradients=payload, bytes_in_flight=self.bytes_in_flight
        )

    def _weight_gradient(self, task: tasks.WeightGradient) -> tasks.Weighed:
        self._check_step(task.step)
        self._tally.pay(task.place)
        return tasks.Weighed(place=task.place, bytes_in_flight=self.bytes_in_flight)

    def _drop(self, task: tasks.Drop) -> tasks.Dropped:
        self._check_step(task.step)
        self._visits.drop(task.place)
        self._tally.drop(task.place)
        return tasks.Dropped(place=task.place, bytes_in_flight=self.bytes_in_flight)

    def _take_step(self, task: tasks.Step) -> tasks.Stepped:
        self._check_step(task.step)
        expected = {one.stage: one.microbatches for one in task.expected}
        due = {number for numbers in expected.values() for number in numbers}
        self._tally.pay_all(due if expected else None)
        stages = tuple(
            optimizer.step(task.step, self._tally, expected.get(stage))
            for stage, optimizer in self._optimizers.items()
        )
        forgotten = len(self._visits)
        self._forget()
        self._step = task.step + 1
        return tasks.Stepped(
            step=task.step,
            stages=stages,
            forgotten=forgotten,
            bytes_in_flight=self.bytes_in_flight,
        )

    def _input(self, visit: Visit) -> tuple[Tensor, Tensor]:
        """Return a visit's input [B, T, D] and the ids [B, T] that it was made from."""
        if visit.begins:
            ids_BT = self._wire.unpack_windows(visit.text, visit.sequences)[:, :-1]
            return passes.embed(self.model, ids_BT), ids_BT
        ids_BT = self._wire.unpack_ids(visit.text, visit.sequences)
        return self._wire.unpack_activations(visit.activations, ids_BT), ids_BT

    def _windows(self, task: tasks.Inject) -> Tensor:
        """Return the sequences [B, S] that a microbatch consists of."""
        if ORIGIN not in self._stages or self._text is None:
            raise ProtocolError("stage", "only the origin embeds text")
        size = self._manifest.inner.batch_size
        if task.batch is None:
            size = self._num_validation_windows
        if not (
            1 <= task.sequences <= self._manifest.ring.microbatch
            and 0 <= task.first <= size - task.sequences
            and (task.batch or 0) >= 0
        ):
            detail = f"{task.sequences} sequences from {task.first} of batch {task.batch}"
            raise ProtocolError("range", f"{detail}, which has {size}")
        if task.batch is not None:
            return self._text.source.batch(task.batch)[task.first : task.first + task.sequences]
        assert self._text.validation is not None, "or there are no windows to be asked for"
        return self._text.validation.some(task.first, task.sequences)

    def _blocks(self, stages: tuple[int, ...]) -> tuple[str, ...]:
        if not set(stages) <= set(self._stages) or len(set(stages)) < len(stages):
            raise ProtocolError("stage", f"stages {list(stages)[:8]} of {list(self._stages)[:8]}")
        return blocks_of(self._stages, stages)

    def _check_step(self, step: int) -> None:
        if self._step is None or step > self._step:
            raise ProtocolError("early", f"step {step} has not begun here")
        if step < self._step:
            raise ProtocolError("stale", f"step {step} is over, {self._step} has begun")

    def _check_usual(self, way: Way, shard: str, rows_BTD: Tensor) -> None:
        """Compare what a neighbour sent with what came before. Raises: InputFault("outlier")."""
        if self._outliers is not None:
            self._outliers.check(way, shard, rows_BTD.flatten(0, 1))

    def _noise(self, place: Place, payload: int) -> int:
        """Return the key of one payload's rounding noise; no other payload of this peer has it."""
        assert self._step is not None, "no visit is under way before the first step"
        numbers = (self._step, place.microbatch, place.attempt, place.hop, payload)
        return derive(self._key, *numbers)

    def _forget(self) -> None:
        self._visits.clear()
        self._tally.clear()
        for optimizer in self._optimizers.values():
            optimizer.release_gradients()
