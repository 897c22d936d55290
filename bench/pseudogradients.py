"""Saves pseudo-gradients and error feedback of real training, for the codec's bench.

Trains the demo's model (with 6 blocks instead of 4: 1.2 million parameters) on the text of
Python's standard library: two replicas with the product's own data order, inner optimizer, codec,
aggregate and outer step. Saves what one replica holds in the last round just before it encodes.

    python bench/pseudogradients.py                      # about a minute; into the user's cache
    python bench/pseudogradients.py --rounds 12 --out other.safetensors
"""

import argparse
import sys
import tomllib
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor

from codec_bench.cases import recording
from skerry.compression.aggregate import Rule, WeightedPayload, aggregate
from skerry.compression.drift import Drift
from skerry.compression.options import CodecOptions
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.node.demo_report import run_file
from skerry.pipeline.batches import Batches
from skerry.pipeline.corpus import load_corpus
from skerry.pipeline.inner import InnerOptimizer
from skerry.pipeline.model import Decoder
from skerry.pipeline.outer import descend
from skerry.pipeline.shards import flatten_shard, initial_shard, load_shard
from skerry.protocol.layout import ShardSpec, layout_of
from skerry.protocol.manifest import RunFile

REPLICAS = 2
ROUNDS = 6
LAYERS = 6


def demo_run(rounds: int, layers: int = LAYERS) -> RunFile:
    """Return the demo's run with another number of blocks."""
    run = RunFile.model_validate(tomllib.loads(run_file(rounds, REPLICAS)))
    return run.model_copy(update={"model": run.model.model_copy(update={"layers": layers})})


class Replica:
    """One local copy with its AdamW moments and error feedback, in layout order."""

    def __init__(self, run: RunFile, layout: tuple[ShardSpec, ...]) -> None:
        """Start with fresh moments and no error feedback."""
        self._layout, self._steps = layout, run.inner.steps
        self._model = Decoder(run.model, run.seed)
        self._optimizer = InnerOptimizer(self._model, run.inner)
        self._decay = run.codec.error_decay
        self.feedback = [torch.zeros(spec.numel) for spec in layout]

    def train(self, theta: list[Tensor], windows: list[Tensor], round_number: int) -> list[Drift]:
        """Take a round's inner steps from ``theta``; returns each shard's drift."""
        for spec, flat in zip(self._layout, theta, strict=True):
            load_shard(self._model, spec, flat)
        for i, batch in enumerate(windows):
            if self._optimizer.step(batch, round_number * self._steps + i) is None:
                raise ArithmeticError(f"round {round_number}, inner step {i}: loss not finite")
        shards = zip(self._layout, theta, strict=True)
        return [Drift(self._decay, flat, flatten_shard(self._model, spec)) for spec, flat in shards]


def record(path: Path, run: RunFile, progress: Progress) -> None:
    """Train ``run.rounds`` rounds and save the last one of the first replica."""
    layout = layout_of(run.model)
    corpus = load_corpus(run.data, run.seed, run.model.context)
    batches = Batches(corpus.training, run.model.context, run.inner.batch_size, run.seed)
    theta = [initial_shard(run.seed, spec, run.model.layers) for spec in layout]
    codecs = [
        PseudoGradientCodec(tuple(t.shape for t in spec.tensors), CodecOptions(k=run.codec.k))
        for spec in layout
    ]
    replicas = [Replica(run, layout) for _ in range(REPLICAS)]
    task = progress.add_task("recording pseudo-gradients", total=run.rounds * REPLICAS)
    for number in range(run.rounds):
        payloads = []
        for slot, replica in enumerate(replicas):
            first = number * run.inner.steps * REPLICAS + slot
            windows = [batches.batch(first + i * REPLICAS) for i in range(run.inner.steps)]
            drifts = replica.train(theta, windows, number)
            if number == run.rounds - 1:
                _save(path, layout, replica.feedback, drifts)
                progress.update(task, completed=run.rounds * REPLICAS)
                return
            parts = zip(codecs, replica.feedback, drifts, strict=True)
            payloads.append([codec.encode(e, drift) for codec, e, drift in parts])
            progress.advance(task)
        theta = _stepped(theta, codecs, payloads, run, number)


def _stepped(
    theta: list[Tensor],
    codecs: list[PseudoGradientCodec],
    payloads: list[list[bytes]],
    run: RunFile,
    number: int,
) -> list[Tensor]:
    """Return the parameters after a round's outer step."""
    stepped = []
    for codec, flat, sent in zip(codecs, theta, zip(*payloads, strict=True), strict=True):
        weighted = [WeightedPayload(payload, 1) for payload in sent]
        mean = aggregate(codec, weighted, Rule(run.outer.divisor))
        stepped.append(descend(flat, mean, run.outer.lr_at(number)))
    return stepped


def _save(
    path: Path, layout: tuple[ShardSpec, ...], feedback: list[Tensor], drifts: list[Drift]
) -> None:
    """Write every tensor of every shard; the names sort in layout order."""
    tensors = {}
    for number, (spec, e, drift) in enumerate(zip(layout, feedback, drifts, strict=True)):
        for kind, flat in (("start", drift.start), ("local", drift.local), ("feedback", e)):
            pieces = torch.split(flat, [tensor.numel for tensor in spec.tensors])
            for place, (tensor, piece) in enumerate(zip(spec.tensors, pieces, strict=True)):
                name = f"{kind}/{number:04}.{place:02}.{spec.name}.{tensor.name}"
                tensors[name] = piece.reshape(tensor.shape).clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    save_file(tensors, unfinished)
    unfinished.replace(path)


def main() -> int:
    """Record and say where."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default %(default)s")
    parser.add_argument("--out", type=Path, default=recording(), help="default %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with Progress(console=Console(stderr=True)) as progress:
        record(options.out, demo_run(options.rounds), progress)
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
