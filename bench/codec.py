"""The pseudo-gradient codec beside the reference scheme, dense and random ones, and the limit.

What is measured, one thread, all in turns within one run:

  schemes   sign, sym2, fp16 (ours), the reference of SparseLoCo in torch, random-k, int8, fp16:
            bits per parameter, bits per index beside log2 C(n, k) / k, encode speed (with the
            update of the error feedback), decode+add speed, energy that stays behind
  baseline  memcpy and torch.topk over the same entries
  mean      several contributions to one dense mean
  memory    the peak of the resident set in a fresh process, less what was there before
  index     codes of positions: ours, Rice, Elias-Fano, 12 bits
  claims    the goals, each with its worst figure over all made-up cases

Entries are normal, Laplace, normal with a scale per tile, and real: pseudo-gradients of the
demo's model, recorded once by pseudogradients.py (about a minute) and kept in the user's cache.

    python bench/codec.py --quick              seconds; speeds mean little at this size
    python bench/codec.py                      tables; 16.8 M parameters, a few minutes
    python bench/codec.py --json --sizes 16.8 134
    python bench/codec.py --write --check      a page under bench/results; fails on a missed goal
"""

import os

os.environ["NUMBA_NUM_THREADS"] = "1"  # read when numba is imported

import argparse
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from codec_bench import index_coders, means, memory, report
from codec_bench.cases import DISTRIBUTIONS, SIZES, Case, recorded, recording, synthetic
from codec_bench.claims import OURS, judge
from codec_bench.measure import CaseBench
from codec_bench.results import MemoryResult, Result, to_json
from codec_bench.schemes import SCHEMES, K

RESULTS = Path(__file__).parent / "results"
_MOST_INDEX_ENTRIES = 2**24


def measure(options: argparse.Namespace, progress: Progress) -> Iterator[Result]:
    """Yield every result but the claims."""
    task = progress.add_task("codec", total=None)
    for name, case in cases(options, progress):
        progress.update(task, description=name)
        yield from CaseBench(case).results(options.repetitions)
    for size in options.sizes:
        progress.update(task, description=f"memory, {size} M")
        names = [OURS] if options.quick else [n for n, e in SCHEMES.items() if e.timed]
        for scheme, peak in memory.peaks(names, SIZES[size].shapes):
            numel = SIZES[size].numel
            yield MemoryResult(
                scheme=scheme,
                parameters=numel,
                encode_bytes_per_parameter=peak.encode / numel,
                add_bytes_per_parameter=peak.add / numel,
            )
    progress.update(task, description="mean of contributions")
    smallest = options.sizes[0]
    yield from means.results(SIZES[smallest].shapes, options.contributions, options.repetitions)
    progress.update(task, description="index codes")
    entries = min(SIZES[smallest].numel // 4096 * 4096, _MOST_INDEX_ENTRIES)
    yield from index_coders.results(entries, K, 4096, options.repetitions)


def cases(options: argparse.Namespace, progress: Progress) -> Iterator[tuple[str, Case]]:
    """Yield what is encoded, one in memory at a time."""
    for size in options.sizes:
        for name in DISTRIBUTIONS:
            yield f"{name}, {size} M", synthetic(name, SIZES[size].shapes)
    if not options.quick or options.real:
        path = options.real or recording()
        if not path.exists():
            from pseudogradients import ROUNDS, demo_run, record  # the whole product: slow to load

            record(path, demo_run(ROUNDS), progress)
        yield f"real, {path.name}", recorded(path)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", action="store_true", help="one line per result, claims last")
    made.add_argument("--quick", action="store_true", help="1 M parameters, no real ones")
    made.add_argument(
        "--sizes", nargs="+", choices=SIZES, help="millions of parameters (default 16.8)"
    )
    made.add_argument("--repetitions", type=int, help="of which the fastest counts (default 7)")
    made.add_argument(
        "--contributions", type=int, default=16, help="of a mean (default %(default)s)"
    )
    made.add_argument("--real", type=Path, metavar="FILE", help="another recording")
    made.add_argument("--write", action="store_true", help="a dated page under bench/results")
    made.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    return made


def main() -> int:
    """Measure, print, and judge."""
    options = parser().parse_args()
    options.sizes = options.sizes or (["1"] if options.quick else ["16.8"])
    options.repetitions = options.repetitions or (2 if options.quick else 7)
    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    found: list[Result] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for result in measure(options, progress):
            found.append(result)
            if options.json:
                print(to_json(result), flush=True)
    claims = judge(found)
    found.append(claims)
    if options.json:
        print(to_json(claims))
    else:
        report.show(found, Console())
    if options.write:
        path = RESULTS / f"{date.today().isoformat()}_codec.md"
        path.write_text(report.page(found, report.command_line(), load_before))
        print(f"written: {path}", file=sys.stderr)
    return int(options.check and not claims.passed)


if __name__ == "__main__":
    sys.exit(main())
