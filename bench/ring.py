"""What does a ring still train over slow links, and what does compressing its wire give?

Trains a model of a few million parameters on the standard library's source in a ring of three
members, one stage each: real compute processes, the product's ring runtime, and links whose rate
and delay are kept to in user space. The same processes train over every link, again and again in
turn, so that what else the machine does falls on all alike. Figures are text tokens per second of
the median inner step, and the fraction of what the same ring trains where nothing is slow.

    python bench/ring.py                 a table
    python bench/ring.py --json          one line per codec and link
    python bench/ring.py --write         a page under bench/results
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median

from ring_bench.local_ring import Line, LocalRing, local_ring
from skerry.pipeline.stages.sizes import payload_bytes, text_bytes
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import Manifest

RESULTS = Path(__file__).parent / "results"
LINES = (
    Line("unlimited", 0, 0.0),
    Line("100 Mbit/s, 50 ms", 100e6, 0.05),
    Line("20 Mbit/s, 50 ms", 20e6, 0.05),
)
CODECS = {"bf16": ("bf16", 0), "int8": ("int8", 0), "subspace+int8": ("int8", 8)}
"""Entries as they are sent, and by how much narrower than the model; 0: not at all."""
_MEMBERS = 3
_WARM_UP = 1
"""Steps of each round that are not counted: streams open, caches fill."""


@dataclass(frozen=True, slots=True)
class Result:
    """One codec over one kind of link."""

    codec: str
    link: str
    text_tokens_per_s: float
    fraction: float
    """Of the same codec's rate where nothing is slow."""
    bytes_per_text_token: float
    """Sent over one hop forward, text token ids included."""
    dense_bytes: int
    """The same in bf16 without compression."""
    steps: int
    redone: int
    """Attempts of microbatches that failed."""


async def results_of(name: str, options: argparse.Namespace, folder: Path) -> list[Result]:
    """Measure one codec over all links."""
    manifest = _manifest(name, options)
    seconds: dict[Line, list[float]] = {line: [] for line in LINES}
    redone = dict.fromkeys(LINES, 0)
    async with local_ring(manifest, _MEMBERS, folder / name) as ring:
        for turn in range(options.turns):
            for line in LINES:
                print(f"{name}, {line.name}, turn {turn + 1} of {options.turns}", file=sys.stderr)
                took, failed = await _round(ring, line, options.steps + _WARM_UP)
                seconds[line] += took
                redone[line] += failed
    return list(_results(name, manifest, seconds, redone))


async def _round(ring: LocalRing, line: Line, number: int) -> tuple[list[float], int]:
    """Return the seconds of each step that counts, and how many attempts failed."""
    took, failed, began = [], 0, time.perf_counter()
    async for done in ring.steps(line, number):
        took.append(time.perf_counter() - began)
        failed += done.redone
        began = time.perf_counter()
    return took[_WARM_UP:], failed


def _results(
    name: str, manifest: Manifest, seconds: dict[Line, list[float]], redone: dict[Line, int]
) -> Iterator[Result]:
    context, size = manifest.model.context, manifest.ring.microbatch
    tokens = manifest.inner.batch_size * context
    sent = payload_bytes(manifest, size) + text_bytes(manifest, size)
    rates = {line: tokens / median(took) for line, took in seconds.items()}
    for line, took in seconds.items():
        yield Result(
            codec=name,
            link=line.name,
            text_tokens_per_s=round(rates[line], 1),
            fraction=round(rates[line] / rates[LINES[0]], 3),
            bytes_per_text_token=round(sent / (size * context), 2),
            dense_bytes=2 * manifest.model.d_model,
            steps=len(took),
            redone=redone[line],
        )


def _manifest(name: str, options: argparse.Namespace) -> Manifest:
    activations, narrower = CODECS[name]
    subspace = {"dim": options.d_model // narrower, "mode": "reparam"} if narrower else {}
    model = {
        "layers": options.layers,
        "d_model": options.d_model,
        "ffn_dim": 8 * options.d_model // 3 // 8 * 8,
        "context": options.context,
        "subspace": subspace,
    }
    rounds = options.turns * len(LINES) + 1
    inner = {"steps": options.steps + _WARM_UP, "batch_size": options.batch_size}
    # Every microbatch is to be timed, also those of the first steps that look like outliers.
    ring = {"activations": activations, "outliers": False}
    run = {"owner": PeerId("bench"), "rounds": rounds, "ring": ring}
    return Manifest.model_validate({**run, "model": model, "inner": inner})


def table(results: Sequence[Result]) -> str:
    """Return the results as Markdown."""
    head = "codec | link | text tokens/s | of unlimited | bytes per text token and hop | redone"
    lines = [f"| {head} |", "|---|---|---|---|---|---|"]
    for one in results:
        wire = f"{one.bytes_per_text_token:g} (dense bf16: {one.dense_bytes})"
        rate = f"{one.text_tokens_per_s:,.0f} | {100 * one.fraction:.0f} %"
        lines.append(f"| {one.codec} | {one.link} | {rate} | {wire} | {one.redone} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.codecs:
            found = asyncio.run(results_of(name, options, Path(folder)))
            results += found
            if options.json:
                print(*(json.dumps(asdict(one)) for one in found), sep="\n", flush=True)
    if not options.json:
        print(table(results))
    if options.write:
        page = RESULTS / f"{date.today()}_ring.md"
        command = " ".join(["python bench/ring.py", *sys.argv[1:]])
        page.write_text(f"# A ring over slow links\n\n- Command: `{command}`\n\n{table(results)}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", action="store_true", help="one line of JSON per result")
    add("--write", action="store_true", help="write a dated page")
    add("--codecs", nargs="+", choices=CODECS, default=list(CODECS))
    add("--turns", type=int, default=3, help="rounds over each link")
    add("--steps", type=int, default=3, help="inner steps of a round that count")
    add("--layers", type=int, default=6)
    add("--d-model", type=int, default=256)
    add("--context", type=int, default=128, help="text tokens per sequence")
    add("--batch-size", type=int, default=16, help="sequences per inner step")
    return parser


if __name__ == "__main__":
    sys.exit(main())
