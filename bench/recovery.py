"""What it costs in loss when stages are lost: rung by rung, beside no loss and a restart.

Trains a model of 0.66 million parameters in 6 stages on the standard library's source, in one
process: the product's own model, AdamW per stage, batches, shadows, averages and bypasses, without
a network. Stages are lost as often, counted in steps, as in CheckFree's experiments: 5, 10 and 16
percent of them per hour of steps of 91.3 s. All policies of a seed share initial parameters,
batches and losses. The learning rate is constant, as in the paper, so that the steps to a loss can
be compared: the loss that training without losses has after half of the steps.

A restart from a checkpoint needs no training of its own: it repeats the very same steps, so its
loss is that without losses at the step it has come to. Reading and loading it counts nothing here.

One policy at one rate with one seed is one job of about a minute on one core. Its result is one
line of JSON in --out, and a job found there is not run again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch

from recovery_bench.jobs import Job, append_result, pending, read_results
from recovery_bench.policies import FREE, POLICIES, RATES, Size
from recovery_bench.summary import rows, table

EXAMPLES = """examples:
  nice python bench/recovery.py                 run what is missing, then print the tables
  python bench/recovery.py --list               what there is, and what is done
  python bench/recovery.py --only plus --rates 16 --seeds 0 1
  python bench/recovery.py --jobs 0 --json      run nothing; one line of JSON for each row
  python bench/recovery.py --device cuda --blocks 4 --d-model 512 --ffn-dim 1408 --context 256
      --batch-size 32 --steps 5000 --out large.jsonl

Two of these may share one --out, for example one per seed on two cores."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, and print what was found."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    size = Size(**{field.name: getattr(options, field.name) for field in fields(Size)})
    if unknown := set(options.only or ()) - {one.name for one in POLICIES}:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; see --list")
    jobs = planned(size, options.seeds, options.rates, options.only)
    missing = pending(jobs, read_results(options.out))
    if options.list:
        for job in jobs:
            state = "to do" if job in missing else "done"
            print(f"{state:6} {job.policy.name:16} {job.percent:2} % seed {job.seed}")
        return 0
    for job in missing[: options.jobs]:
        result = job.run(torch.device(options.device), lambda step, loss: None)
        append_result(options.out, result)
        name = f"{job.policy.name}, {job.percent} %, seed {job.seed}"
        print(f"{name}: {result.curve[-1]:.4f}, {result.seconds:.0f} s", file=sys.stderr)
    found = rows([one for one in read_results(options.out) if one.size == size])
    lines = [json.dumps(asdict(row)) for row in found] if options.json else table(found)
    print("\n".join(lines))
    return 0


def planned(
    size: Size, seeds: Sequence[int], rates: Sequence[int], only: Sequence[str] | None
) -> list[Job]:
    """Return all jobs, the most telling first: rate by rate, and what is compared at one rate last.

    A restart is no job: it is computed from the job in which nothing is lost.
    """
    trained = [one for one in POLICIES if one.rung != "restart" and (not only or one.name in only)]
    order = [(one, 0) for one in trained if one.name == FREE]
    order += [(one, rate) for rate in rates for one in trained if {rate} < set(one.rates)]
    order += [(one, rate) for rate in (*rates, 0) for one in trained if one.rates == (rate,)]
    order = list(dict.fromkeys(order))
    return [Job(one, percent, size, seed) for one, percent in order for seed in seeds]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("recovery.jsonl"), help="results, one line per job")
    add("--only", nargs="+", metavar="NAME", help="of these policies")
    add("--rates", nargs="+", type=int, default=list(RATES), metavar="PERCENT", help="16 10 5")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="0 1 2 if not given")
    add("--jobs", type=int, metavar="N", help="stop after so many jobs")
    add("--list", action="store_true", help="list all jobs and run none")
    add("--json", action="store_true", help="print one line of JSON for each row")
    cuda = "cuda" if torch.cuda.is_available() else "cpu"
    add("--device", default=cuda, help=f"where to train; {cuda} if not given")
    add("--threads", type=int, default=1, metavar="N", help="of torch; 1 if not given")
    sizes = parser.add_argument_group("size of one job; results of another size do not mix")
    for field in fields(Size):
        flag, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        about = f"{field.metadata['about']}; {field.default} if not given"
        sizes.add_argument(flag, type=kind, default=field.default, metavar="N", help=about)
    return parser


if __name__ == "__main__":
    sys.exit(main())
