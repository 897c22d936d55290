"""One job is one policy, one rate of losses and one seed; its result is one line of JSON.

Lines are appended, and what a file holds is not run again, so a sweep may be stopped at any time.
"""

import json
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recovery_bench.mending import Mender
from recovery_bench.policies import Loss, Policy, Size, losses, manifest_of
from recovery_bench.staged import StagedModel
from skerry.pipeline.batches import Batches
from skerry.pipeline.corpus import Corpus, load_corpus

OnStep = Callable[[int, float], None]
"""Called at each measurement with the steps done and the validation loss."""


@dataclass(frozen=True, slots=True)
class Jump:
    """What a loss of stages did; validation losses in nats per text token."""

    step: int
    stages: tuple[int, ...]
    before: float
    after: float
    """Once the stages are back, before any further step."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a job found."""

    policy: str
    percent: int
    """Of the stages lost in an hour; 0 where nothing is lost."""
    seed: int
    size: Size
    curve: tuple[float, ...]
    """Validation loss before the first step and after every ``size.every`` steps."""
    jumps: tuple[Jump, ...]
    shadow_share: float
    """Bytes of shadows over those of plain bf16; 0 without shadows."""
    num_parameters: int
    seconds: float
    machine: str


@dataclass(frozen=True, slots=True)
class Job:
    """A policy, a rate, a size and a seed."""

    policy: Policy
    percent: int
    size: Size
    seed: int

    def is_done_by(self, result: Result) -> bool:
        """Say whether ``result`` is this job's; a policy's name keeps its meaning."""
        theirs = (result.policy, result.percent, result.size, result.seed)
        return (self.policy.name, self.percent, self.size, self.seed) == theirs

    def run(self, device: torch.device, on_step: OnStep) -> Result:
        """Train to the end. Raises: ArithmeticError if the training diverged."""
        began = time.monotonic()
        size, manifest = self.size, manifest_of(self.size, self.seed)
        corpus = load_corpus(manifest.data, manifest.seed, size.context)
        batches = Batches(corpus.training, size.context, size.batch_size, manifest.seed)
        model = StagedModel(manifest, size.stages, device)
        mender = Mender(self.policy, manifest, model)
        held_BS = _held_back(corpus, size).to(device)
        due = {loss.step: loss for loss in self._losses()}
        curve, jumps = [model.validation_loss(held_BS)], []
        for step in range(size.steps):
            if mender.shadows:
                mender.shadows.send(model, step)
            if step in due:
                jumps.append(_mended(model, mender, due[step], held_BS))
            orders = mender.orders(step, size.batch_size)
            model.step(batches.batch(step).to(device), step, orders)
            if (step + 1) % size.every == 0:
                curve.append(model.validation_loss(held_BS))
                on_step(step + 1, curve[-1])
        sent = mender.shadows
        return Result(
            policy=self.policy.name,
            percent=self.percent,
            seed=self.seed,
            size=size,
            curve=tuple(round(loss, 5) for loss in curve),
            jumps=tuple(jumps),
            shadow_share=round(sent.sent_bytes / sent.whole_bytes, 4) if sent else 0.0,
            num_parameters=model.num_parameters,
            seconds=round(time.monotonic() - began, 1),
            machine=_device_name(device),
        )

    def _losses(self) -> list[Loss]:
        if self.policy.rung == "none":
            return []
        return losses(self.size, self.percent, self.seed, self.policy.pairs)


def pending(jobs: Iterable[Job], results: Iterable[Result]) -> list[Job]:
    """Return the jobs that have no result yet, in order."""
    found = list(results)
    return [job for job in jobs if not any(job.is_done_by(result) for result in found)]


def append_result(path: Path, result: Result) -> None:
    """Add one line, in one write: two sweeps may share a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def read_results(path: Path) -> list[Result]:
    """Read all lines; none if there is no file. A last line cut short by a kill is left out."""
    if not path.exists():
        return []
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [_result(json.loads(line)) for line in whole]


def _mended(model: StagedModel, mender: Mender, loss: Loss, held_BS: Tensor) -> Jump:
    before = model.validation_loss(held_BS)
    mender.mend(loss.stages, loss.step)
    after = model.validation_loss(held_BS)
    return Jump(loss.step, loss.stages, round(before, 5), round(after, 5))


def _held_back(corpus: Corpus, size: Size) -> Tensor:
    """Return evenly spaced windows of the validation text, [windows, context + 1] int64."""
    available = (len(corpus.validation) - 1) // size.context
    count = min(size.windows, available)
    starts = [i * available // count * size.context for i in range(count)]
    windows = [corpus.validation[start : start + size.context + 1] for start in starts]
    return torch.from_numpy(np.stack(windows).astype(np.int64))


def _result(fields: dict[str, Any]) -> Result:
    fields["size"] = Size(**fields["size"])
    jumps = tuple(Jump(**{**one, "stages": tuple(one["stages"])}) for one in fields["jumps"])
    return Result(**{**fields, "curve": tuple(fields["curve"]), "jumps": jumps})


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread, torch {torch.__version__}"
