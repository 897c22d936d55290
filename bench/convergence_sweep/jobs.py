"""One job is one configuration with one seed; its result is one line of JSON.

Lines are appended to one file, so that a sweep can be stopped at any time and loses at most the
job it was in: what the file holds is not run again.
"""

import json
import math
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from convergence_sweep.configurations import Configuration, Size, manifest_of
from convergence_sweep.swarm import Swarm
from skerry.pipeline.corpus import load_corpus, unigram_entropy

OnRound = Callable[[int, float], None]
"""Called after each round with the rounds done and the validation loss."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a job found; losses in nats per text token."""

    configuration: str
    seed: int
    size: Size
    final_loss: float
    """Validation loss after the last round, over more text than those of the curve."""
    curve: tuple[float, ...]
    """Validation loss before the first round and after each."""
    training: tuple[float, ...]
    """Mean training loss of each round."""
    bits_per_parameter: float
    """Sent by one replica in one round, all bytes of its payloads counted; mean of all."""
    num_parameters: int
    unigram_entropy: float
    text_tokens: int
    """Trained by all replicas together."""
    seconds: float
    machine: str


@dataclass(frozen=True, slots=True)
class Job:
    """A configuration, a size and a seed."""

    configuration: Configuration
    size: Size
    seed: int

    def is_done_by(self, result: Result) -> bool:
        """Say whether ``result`` is this job's; a configuration's name keeps its meaning."""
        theirs = (result.configuration, result.size, result.seed)
        return (self.configuration.name, self.size, self.seed) == theirs

    def run(self, device: torch.device, on_round: OnRound) -> Result:
        """Train to the end. Raises: ArithmeticError if the training diverged."""
        began = time.monotonic()
        size = self.size
        manifest = manifest_of(self.configuration, size, self.seed)
        corpus = load_corpus(manifest.data, manifest.seed, size.context)
        swarm = Swarm(manifest, self.configuration, corpus, size.replicas, device)
        curve, rounds = [swarm.validation_loss(size.curve_batches)], []
        for number in range(size.rounds):
            rounds.append(swarm.round(number))
            curve.append(swarm.validation_loss(size.curve_batches))
            on_round(number + 1, curve[-1])
        sent = sum(one.payload_bytes for one in rounds) / (size.rounds * size.replicas)
        steps = size.rounds * size.inner_steps * size.replicas
        final_loss = swarm.validation_loss(size.final_batches)
        if not math.isfinite(final_loss):
            raise ArithmeticError(f"the validation loss is {final_loss}")
        return Result(
            configuration=self.configuration.name,
            seed=self.seed,
            size=size,
            final_loss=final_loss,
            curve=tuple(curve),
            training=tuple(one.training_loss for one in rounds),
            bits_per_parameter=8 * sent / swarm.num_parameters,
            num_parameters=swarm.num_parameters,
            unigram_entropy=unigram_entropy(corpus),
            text_tokens=steps * size.batch_size * size.context,
            seconds=round(time.monotonic() - began, 1),
            machine=f"{_device_name(device)}, torch {torch.__version__}",
        )


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


def _result(fields: dict[str, Any]) -> Result:
    fields["size"] = Size(**fields["size"])
    return Result(**{**fields, **{name: tuple(fields[name]) for name in ("curve", "training")}})


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread"
