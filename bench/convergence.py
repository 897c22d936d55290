"""Does compressed training reach the loss it should, and which defaults follow from that?

Trains a model of 1.2 million parameters on the standard library's source with 4 replicas in one
process: the product's own model, optimizer, batches, codec, aggregate and outer step, without
network. Every configuration is trained once per seed. All configurations of a seed share initial
parameters and batches, so that they are compared in pairs.

One configuration with one seed is one job of about a minute on one core. Its result is one line of
JSON in --out, and a job found there is not run again: this may run in the background for as long
as it takes, be stopped at any time and started again, and uses a GPU when there is one.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from convergence_sweep.configurations import CONFIGURATIONS, Size
from convergence_sweep.jobs import Job, Result, append_result, pending, read_results
from convergence_sweep.ring_configurations import RING_CONFIGURATIONS
from convergence_sweep.summary import (
    ALLOWED_PERCENT,
    Row,
    mean,
    percent_above_reference,
    rows,
    table,
    verdict,
)

EXAMPLES = """examples:
  nice python bench/convergence.py                    run what is missing, then print the table
  python bench/convergence.py --list                  what there is, and what is done
  python bench/convergence.py --only sign dense --seeds 0 1
  python bench/convergence.py --jobs 0 --report bench/results/2026-11-21_convergence
                                                      run nothing; write .json and .svg
  python bench/convergence.py --rings --out rings.jsonl
  python bench/convergence.py --device cuda --layers 12 --d-model 512 --ffn-dim 1408
      --context 256 --batch-size 16 --rounds 100 --out large.jsonl

Two of these may share one --out, for example one per seed on two cores. The .svg needs the extra
"bench" (matplotlib). The losses of two versions of torch or of two kinds of machine differ in the
last digits: compare within one."""


def sweep(jobs: Sequence[Job], out: Path, device: torch.device) -> None:
    """Run jobs one after the other; each is written down before the next begins."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        whole = progress.add_task("jobs", total=len(jobs))
        for job in jobs:
            result = _run(job, device, progress)
            append_result(out, result)
            progress.advance(whole)


def report(stem: Path, some: Sequence[Row], results: Sequence[Result]) -> None:
    """Write all results as ``stem``.json and the picture as ``stem``.svg."""
    # Not above: only this needs matplotlib, which is in no other extra.
    from convergence_sweep.chart import draw

    lines = ",\n".join(json.dumps(asdict(result)) for result in results)
    stem.with_name(f"{stem.name}.json").write_text(f"[\n{lines}\n]\n")
    draw(stem.with_name(f"{stem.name}.svg"), some, results)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print the table in Markdown; exits with 1 if the default misses its target."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    size = Size(**{field.name: getattr(options, field.name) for field in fields(Size)})
    known = RING_CONFIGURATIONS if options.rings else CONFIGURATIONS
    if unknown := set(options.only or ()) - {one.name for one in known}:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; see --list")
    chosen = [one for one in known if not options.only or one.name in options.only]
    jobs = [Job(one, size, seed) for one in chosen for seed in options.seeds]
    missing = pending(jobs, read_results(options.out))
    if options.list:
        return _list(jobs, missing)
    sweep(missing[: options.jobs], options.out, torch.device(options.device))
    results = [one for one in read_results(options.out) if one.size == size]
    found = rows(known, results)
    print(table(found), end="\n\n")
    above = percent_above_reference(found)
    if not options.rings:
        print(verdict(above))
    if options.report:
        report(options.report, found, results)
    return int(bool(above) and mean(above) > ALLOWED_PERCENT)


def _run(job: Job, device: torch.device, progress: Progress) -> Result:
    name = f"{job.configuration.name}, seed {job.seed}"
    task = progress.add_task(name, total=job.size.rounds)

    def on_round(done: int, loss: float) -> None:
        progress.update(task, completed=done, description=f"{name}: {loss:.4f}")

    result = job.run(device, on_round)
    progress.remove_task(task)
    progress.console.print(f"{name}: {result.final_loss:.4f}, {result.seconds:.0f} s")
    return result


def _list(jobs: list[Job], missing: list[Job]) -> int:
    """Print each job with what it varies, and whether its result is there."""
    for job in jobs:
        state = "to do" if job in missing else "done"
        print(f"{state:6} {job.configuration.name:13} seed {job.seed}  {job.configuration.about}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("convergence.jsonl"), help="results, one line per job")
    add("--only", nargs="+", metavar="NAME", help="of these configurations")
    add("--rings", action="store_true", help="compare rings with full replicas, not codecs")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="0 1 2 if not given")
    add("--jobs", type=int, metavar="N", help="stop after so many jobs")
    add("--list", action="store_true", help="list all jobs and run none")
    add("--report", type=Path, metavar="STEM", help="write STEM.json and STEM.svg")
    cuda = "cuda" if torch.cuda.is_available() else "cpu"
    add("--device", default=cuda, help=f"where the replicas train; {cuda} if not given")
    add("--threads", type=int, default=1, metavar="N", help="of torch; 1 if not given")
    sizes = parser.add_argument_group("size of one job; results of another size do not mix")
    for field in fields(Size):
        flag, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        about = f"{field.metadata['about']}; {field.default} if not given"
        sizes.add_argument(flag, type=kind, default=field.default, metavar="N", help=about)
    return parser


if __name__ == "__main__":
    sys.exit(main())
