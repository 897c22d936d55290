"""One job is one attack by a share of the peers, one defence and one seed; its result is a line.

Lines of JSON are appended to one file: what it holds is not run again, and a run of the benchmark
that is stopped loses at most the job it was in.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

from byzantine_bench.attacks import ATTACKS
from byzantine_bench.defences import DEFAULT, DEFENCES
from byzantine_bench.swarm import HostileSwarm
from skerry.pipeline.corpus import load_corpus
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import Manifest

CLEAN = "clean"
"""The attack of nobody."""
PERCENTS = (20, 30)


def _setting(default: int, about: str) -> int:
    value: int = field(default=default, metadata={"about": about})
    return value


@dataclass(frozen=True, slots=True)
class Size:
    """How much one job trains. The defaults take about 10 seconds of one idle core of 2026."""

    layers: int = _setting(3, "blocks of the model")
    d_model: int = _setting(128, "model width; 4 heads, 2 key-value heads")
    ffn_dim: int = _setting(352, "feed-forward width")
    context: int = _setting(32, "text tokens per sequence")
    batch_size: int = _setting(2, "sequences per inner step and peer")
    inner_steps: int = _setting(5, "inner steps per round")
    rounds: int = _setting(16, "outer rounds")
    peers: int = _setting(10, "contributors to every round, the hostile ones included")
    final_batches: int = _setting(16, "batches of 32 validation sequences after the last round")


@dataclass(frozen=True, slots=True)
class Job:
    """One training run."""

    attack: str
    percent: int
    """Of the contributors that are hostile."""
    defence: str
    seed: int
    size: Size


@dataclass(frozen=True, slots=True)
class Result:
    """What a job found."""

    job: Job
    loss: float
    """Validation loss after the last round, nats per text token; infinite if it diverged."""
    judged: dict[str, int]
    """Contributions that did not count in full, by side and reason ("out": not at all)."""
    parameters: int
    cpu_seconds: float


def jobs(size: Size, seeds: Sequence[int]) -> Iterator[Job]:
    """Yield all jobs, the most telling ones first: what the defaults promise, then why."""
    for seed in seeds:
        yield Job(CLEAN, 0, DEFAULT, seed, size)
    for defence, percents in _passes():
        for percent, seed, attack in product(percents, seeds, ATTACKS):
            yield Job(attack, percent, defence, seed, size)
        for seed in seeds:
            yield Job(CLEAN, 0, defence, seed, size)


def _passes() -> Iterator[tuple[str, tuple[int, ...]]]:
    first, *others = DEFENCES
    yield first, tuple(sorted(PERCENTS, reverse=True))
    for name in others:
        yield name, PERCENTS[-1:]
    for name in others:
        yield name, PERCENTS[:-1]


def pending(some: Iterable[Job], results: Iterable[Result]) -> list[Job]:
    """Return the jobs without a result, each once, in order."""
    done = {result.job for result in results}
    return [job for job in dict.fromkeys(some) if job not in done]


def run(job: Job) -> Result:
    """Train to the end, or until the loss is no number."""
    began = time.process_time()
    manifest = _manifest(job)
    corpus = load_corpus(manifest.data, manifest.seed, manifest.model.context)
    number = round(job.size.peers * job.percent / 100)
    hostile = {slot: ATTACKS[job.attack] for slot in range(number)}
    swarm = HostileSwarm(manifest, corpus, job.size.peers, hostile, DEFENCES[job.defence])
    try:
        for number in range(job.size.rounds):
            swarm.round(number)
        loss = swarm.validation_loss(job.size.final_batches)
    except ArithmeticError:  # the trainers' word for a loss or update that is not finite
        loss = float("inf")
    took = time.process_time() - began
    return Result(job, loss, dict(swarm.judged), swarm.num_parameters, round(took, 1))


def _manifest(job: Job) -> Manifest:
    size = job.size
    model = {
        "layers": size.layers,
        "d_model": size.d_model,
        "ffn_dim": size.ffn_dim,
        "context": size.context,
    }
    inner = {
        "steps": size.inner_steps,
        "batch_size": size.batch_size,
        "decay_steps": size.inner_steps * size.rounds,
    }
    run_file = {"owner": PeerId("bench"), "seed": job.seed, "rounds": size.rounds}
    return Manifest.model_validate({**run_file, "model": model, "inner": inner})


def append(path: Path, result: Result) -> None:
    """Add one line in one write: two processes may share a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def read(path: Path) -> list[Result]:
    """Return all whole lines; none if there is no file."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [_result(line) for line in lines]


def _result(line: str) -> Result:
    fields = json.loads(line)
    job = fields.pop("job")
    return Result(job=Job(**{**job, "size": Size(**job["size"])}), **fields)
