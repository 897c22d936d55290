"""A ring in one process: hosts of stages, driven by the frames that a real ring's peers would send.

What travels is what would travel: each activation and each gradient is encoded and decoded again.
Without a network there are no delays and no losses; microbatches take turns a few at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from skerry.compression.counter_rng import derive
from skerry.pipeline.batches import Batches
from skerry.pipeline.shards import flatten_shard, load_shard
from skerry.pipeline.stages import tasks
from skerry.pipeline.stages.cuts import ORIGIN, Stages
from skerry.pipeline.stages.frames import decode_result, encode
from skerry.pipeline.stages.host import Room, StageHost, Text
from skerry.pipeline.stages.server import answer
from skerry.pipeline.stages.sizes import host_size
from skerry.pipeline.stages.tasks import Place
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import Manifest

R = TypeVar("R", bound=tasks.Result)
Route = Sequence[tuple[int, tuple[int, ...]]]
"""Hosts by number, and the stages that each passes; the origin, 0, first."""


class Refusal(Exception):
    """A host refused a task; the text is the reason it is counted under."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What one inner step of the ring came to."""

    loss: float
    """Mean over the text tokens of all microbatches, nats."""
    stages: Mapping[int, tasks.StageStep]
    peak_bytes: Sequence[int]
    """Most bytes in flight, host by host."""
    sent_bytes: int
    """Between hosts, over all hops and both directions."""


class LocalRing:
    """Hosts of one replica; ``hosts`` may be looked at, and asked one by one."""

    def __init__(
        self,
        manifest: Manifest,
        hosted: Sequence[Stages],
        batches: Batches,
        slots: int,
        device: torch.device | None = None,
    ) -> None:
        """Make one host for each entry of ``hosted``, its stages; parameters are zero."""
        self._manifest = manifest
        self._names = [spec.name for spec in layout_of(manifest.model)]
        self.hosts = [
            StageHost(
                manifest,
                stages,
                Room(slots, host_size(manifest, stages).debts),
                key=derive(manifest.seed, number),
                text=Text(batches) if ORIGIN in stages else None,
                device=device,
            )
            for number, stages in enumerate(hosted)
        ]

    def load(self, shards: Sequence[Tensor]) -> None:
        """Take parameters, flat [numel] f32 per shard in layout order."""
        flats = dict(zip(self._names, shards, strict=True))
        for host in self.hosts:
            for spec in host.model.specs:
                load_shard(host.model, spec, flats[spec.name])

    def shards(self) -> list[Tensor]:
        """Return the parameters likewise; of a shard that two hosts have, the first's."""
        found: dict[str, Tensor] = {}
        for host in reversed(self.hosts):
            found |= {spec.name: flatten_shard(host.model, spec) for spec in host.model.specs}
        return [found[name] for name in self._names]

    def ask(self, number: int, task: tasks.Task, kind: type[R]) -> R:
        """Send one host a task, as a frame. Raises: Refusal."""
        result = decode_result(answer(self.hosts[number], encode(task)))
        if isinstance(result, tasks.Refused):
            raise Refusal(result.reason)
        if not isinstance(result, kind):
            raise TypeError(f"{task.kind} was answered by {result.kind}")
        return result

    def begin(self, step: int) -> None:
        """Begin inner step ``step`` everywhere."""
        for number in range(len(self.hosts)):
            self.ask(number, tasks.Begin(step=step), tasks.Begun)

    def forward(self, step: int, place: Place, route: Route, batch: int) -> list[bytes]:
        """Bring one microbatch once round the ring; returns each hop's activations."""
        passed = self.ask(0, self.injection(step, place, route, batch), tasks.Forwarded)
        sent = [passed.activations]
        for hop, (number, stages) in enumerate(route[1:], start=1):
            task = tasks.Forward(
                step=step,
                place=replace(place, hop=hop),
                stages=stages,
                sequences=self.sequences(place.microbatch),
                ids=passed.ids,
                activations=passed.activations,
            )
            passed = self.ask(number, task, tasks.Forwarded)
            sent.append(passed.activations)
        return sent

    def score(self, step: int, place: Place, activations: bytes) -> tasks.Scored:
        """Let the origin compute the loss of what came back."""
        task = tasks.Score(step=step, place=place, activations=activations)
        return self.ask(0, task, tasks.Scored)

    def backward(self, step: int, place: Place, route: Route, gradients: bytes) -> list[bytes]:
        """Bring the gradient back; returns each hop's, the origin's empty one last."""
        sent = [gradients]
        for hop, (number, _) in reversed(list(enumerate(route))):
            place = replace(place, hop=hop)
            task = tasks.InputGradient(step=step, place=place, gradients=sent[-1])
            sent.append(self.ask(number, task, tasks.Differentiated).gradients)
        return sent

    def weigh(self, step: int, place: Place, route: Route) -> None:
        """Compute the gradients of weights on all hosts of a route."""
        for hop, (number, _) in enumerate(route):
            task = tasks.WeightGradient(step=step, place=replace(place, hop=hop))
            self.ask(number, task, tasks.Weighed)

    def end(self, step: int) -> list[tasks.Stepped]:
        """Let all hosts step."""
        numbers = range(len(self.hosts))
        return [self.ask(number, tasks.Step(step=step), tasks.Stepped) for number in numbers]

    def step(
        self, step: int, routes: Sequence[Route], batch: int, in_flight: int = 2
    ) -> StepOutcome:
        """Take one inner step: the microbatches of ``batch`` by these routes, a few at a time."""
        places = [Place(number, 0, 0) for number in range(len(routes))]
        peaks = [0] * len(self.hosts)
        loss, text_tokens, sent_bytes = 0.0, 0, 0
        for first in range(0, len(routes), in_flight):
            some = list(zip(places, routes, strict=True))[first : first + in_flight]
            forwards = [self.forward(step, place, route, batch) for place, route in some]
            self._look(peaks)
            for (place, route), sent in zip(some, forwards, strict=True):
                scored = self.score(step, place, sent[-1])
                sent += self.backward(step, place, route, scored.gradients)
                self._look(peaks)
                loss, text_tokens = loss + scored.loss, text_tokens + scored.text_tokens
                sent_bytes += sum(map(len, sent))
            for place, route in some:
                self.weigh(step, place, route)
        ended = self.end(step)
        stages = {stage.visits.stage: stage for host in ended for stage in host.stages}
        return StepOutcome(loss / text_tokens, stages, peaks, sent_bytes)

    def sequences(self, microbatch: int) -> int:
        """Return how many sequences a microbatch has; the last one may have fewer."""
        size = self._manifest.ring.microbatch
        return min(size, self._manifest.inner.batch_size - microbatch * size)

    def injection(self, step: int, place: Place, route: Route, batch: int) -> tasks.Inject:
        """Return the task that begins a microbatch."""
        return tasks.Inject(
            step=step,
            place=place,
            stages=route[0][1],
            batch=batch,
            first=place.microbatch * self._manifest.ring.microbatch,
            sequences=self.sequences(place.microbatch),
        )

    def _look(self, peaks: list[int]) -> None:
        peaks[:] = [
            max(peak, host.bytes_in_flight) for peak, host in zip(peaks, self.hosts, strict=True)
        ]
