"""What do hostile contributors cost a run, and which defence is worth its price?

Trains a model of 0.6 million parameters on the standard library's source with ten contributors in
one process, of whom some attack: the product's own trainer, codec, evidence, judgements,
reputations and aggregate, without network. The loss at the end is compared with that of a run
without attackers, of the same seed.

A job takes about ten seconds of one idle core. Its result is one line of JSON in --out, and a job
found there is not run again: this may be stopped at any time and started again. The most telling
jobs come first; --minutes bounds how long it goes on.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch

from byzantine_bench.attacks import ATTACKS
from byzantine_bench.defences import DEFENCES
from byzantine_bench.jobs import CLEAN, Job, Size, append, jobs, pending, read, run
from byzantine_bench.summary import ALLOWED_PERCENT, misses, rows, table

OPEN = ("collude",)
"""Attacks that docs/security.md names as not defended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, then print; exits with 1 if the default misses its target."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    size = Size(**{one.name: getattr(options, one.name) for one in fields(Size)})
    wanted = [job for job in jobs(size, options.seeds) if _is_wanted(job, options)]
    _work(pending(wanted, read(options.out)), options.out, 60 * options.minutes)
    results = [one for one in read(options.out) if one.job in set(wanted)]
    some = rows(results)
    missed = misses(some, OPEN)
    if options.json:
        report = {
            "jobs": len(dict.fromkeys(wanted)),
            "done": len(results),
            "allowed_percent": ALLOWED_PERCENT,
            "missed": missed,
            "rows": [{**asdict(row), "gap": row.gap} for row in some],
        }
        print(json.dumps(report, indent=1))
    else:
        print(f"{len(results)} of {len(dict.fromkeys(wanted))} runs are done\n\n{table(some)}")
    return 1 if missed else 0


def _work(todo: Sequence[Job], out: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    for number, job in enumerate(todo):
        if time.monotonic() >= until:
            break
        result = run(job)
        append(out, result)
        done = f"{number + 1}/{len(todo)} {job.percent} % {job.attack}, {job.defence}"
        what = f"seed {job.seed}: {result.loss:.4f}, {result.cpu_seconds} CPU s, {result.judged}"
        print(f"{done}, {what}", file=sys.stderr, flush=True)


def _is_wanted(job: Job, options: argparse.Namespace) -> bool:
    return job.attack in (*options.attacks, CLEAN) and job.defence in options.defences


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, default=Path("byzantine.jsonl"), help="results")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no job after so long")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--defences", nargs="+", choices=DEFENCES, default=list(DEFENCES))
    for one in fields(Size):
        option = f"--{one.name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=one.default, help=one.metadata["about"])
    return parser


if __name__ == "__main__":
    sys.exit(main())
