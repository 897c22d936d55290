"""What it costs when stages are lost, rung by rung: seconds until they train again, and loss.

Two parts; --seconds and --loss run one of them alone.

Seconds: real daemons over loopback, a ring of four and two that stand by. What hosts a stage is
killed with SIGKILL, several times for each rung, and what happened is read from the event logs:
when it was missed, planned for, given to another peer, brought there, trained again and committed.
Link rates are the daemons' own limits. What came back by another rung than its case's ends the
bench: it would stand under a wrong name. Minutes for a small stage, more for a large one.

Loss: trains a model of 0.66 million parameters in 6 stages on the standard library's source, in one
process: the product's own model, AdamW per stage, batches, shadows, averages and bypasses, without
a network. Stages are lost as often, counted in steps, as in CheckFree's experiments: 5, 10 and 16
percent of them per hour of steps of 91.3 s. All policies of a seed share initial parameters,
batches and losses. The learning rate is constant, as in the paper, so that the steps to a loss can
be compared: the loss that training without losses has after half of the steps.

A restart from a checkpoint needs no training of its own: it repeats the very same steps, so its
loss is that without losses at the step it has come to. Reading and loading it counts nothing there.

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
from recovery_bench.killing import seconds_rows
from recovery_bench.policies import FREE, POLICIES, RATES, Size
from recovery_bench.seconds import CASES, seconds_table
from recovery_bench.stage_sizes import SIZES, Setting
from recovery_bench.summary import rows, table
from skerry.node.demo_course import INTERRUPTED, interruptible

EXAMPLES = """examples:
  nice python bench/recovery.py                 both parts, then the tables
  python bench/recovery.py --json               both; one line of JSON for each row
  python bench/recovery.py --seconds --json     the first part alone
  python bench/recovery.py --seconds --rungs copy shadow --stage large --upload 0 100mbit
  python bench/recovery.py --list               jobs of the second part, and which are done
  python bench/recovery.py --only plus --rates 16 --seeds 0 1
  python bench/recovery.py --loss --jobs 0      run nothing; what the file holds
  python bench/recovery.py --loss --device cuda --blocks 4 --d-model 512 --ffn-dim 1408
      --context 256 --batch-size 32 --steps 5000 --out large.jsonl

Two of the second part may share one --out, for example one per seed on two cores."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for, and print what was found; 130 after Ctrl-C, with nothing left."""
    options = _parser().parse_args(arguments)
    try:
        with interruptible():
            if options.list:
                return _list(options)
            if options.seconds or not options.loss:
                _seconds(options)
            if options.loss or not options.seconds:
                _loss(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _seconds(options: argparse.Namespace) -> None:
    """Measure among daemons; with --json each row is printed when it is done."""
    cases = [case for case in CASES if not options.rungs or case.rung in options.rungs]
    settings = [
        Setting(SIZES[size], upload, options.heartbeat)
        for size in options.stage
        for upload in options.upload
    ]
    found = []
    for row in seconds_rows(settings, cases, options.repeats):
        found.append(row)
        if options.json:
            print(json.dumps(asdict(row)), flush=True)
    if not options.json:
        print("\n".join(seconds_table(found)))


def _loss(options: argparse.Namespace) -> None:
    """Run the jobs that are missing, and print all that the file holds."""
    torch.set_num_threads(options.threads)
    size, jobs = _size(options), _jobs(options)
    for job in pending(jobs, read_results(options.out))[: options.jobs]:
        result = job.run(torch.device(options.device), lambda step, loss: None)
        append_result(options.out, result)
        name = f"{job.policy.name}, {job.percent} %, seed {job.seed}"
        print(f"{name}: {result.curve[-1]:.4f}, {result.seconds:.0f} s", file=sys.stderr)
    found = rows([one for one in read_results(options.out) if one.size == size])
    lines = [json.dumps(asdict(row)) for row in found] if options.json else table(found)
    print("\n".join(lines))


def _list(options: argparse.Namespace) -> int:
    jobs = _jobs(options)
    missing = pending(jobs, read_results(options.out))
    for job in jobs:
        state = "to do" if job in missing else "done"
        print(f"{state:6} {job.policy.name:16} {job.percent:2} % seed {job.seed}")
    return 0


def _size(options: argparse.Namespace) -> Size:
    return Size(**{field.name: getattr(options, field.name) for field in fields(Size)})


def _jobs(options: argparse.Namespace) -> list[Job]:
    """Return all jobs that were asked for."""
    return planned(_size(options), options.seeds, options.rates, options.only)


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
    add("--seconds", action="store_true", help="only how long it takes")
    add("--loss", action="store_true", help="only what it costs in loss")
    add("--json", action="store_true", help="print one line of JSON for each row")
    _add_seconds(parser)
    _add_loss(parser)
    return parser


def _add_seconds(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("seconds until what was lost trains again").add_argument
    names = ", ".join(f"{case.rung}: {case.about}" for case in CASES)
    add("--rungs", nargs="+", choices=[case.rung for case in CASES], help=f"of these; {names}")
    add("--repeats", type=int, default=3, metavar="N", help="kills for each; 3 if not given")
    about = "parameters of a stage: " + ", ".join(f"{s.params:,} {n}" for n, s in SIZES.items())
    add("--stage", nargs="+", choices=list(SIZES), default=["tiny"], help=about)
    about = "most that each daemon sends, such as 100mbit; 0: no limit"
    add("--upload", nargs="+", default=["0"], metavar="RATE", help=about)
    about = "of the daemons; 1 if not given, as theirs is"
    add("--heartbeat", type=float, default=1.0, metavar="SECONDS", help=about)


def _add_loss(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("cost in loss").add_argument
    add("--out", type=Path, default=Path("recovery.jsonl"), help="results, one line per job")
    names = [one.name for one in POLICIES]
    add("--only", nargs="+", metavar="NAME", choices=names, help="of these policies; see --list")
    add("--rates", nargs="+", type=int, default=list(RATES), metavar="PERCENT", help="16 10 5")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="0 1 2 if not given")
    add("--jobs", type=int, metavar="N", help="stop after so many jobs")
    add("--list", action="store_true", help="list all jobs and run none")
    cuda = "cuda" if torch.cuda.is_available() else "cpu"
    add("--device", default=cuda, help=f"where to train; {cuda} if not given")
    add("--threads", type=int, default=1, metavar="N", help="of torch; 1 if not given")
    sizes = parser.add_argument_group("size of one job; results of another size do not mix")
    for field in fields(Size):
        flag, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        about = f"{field.metadata['about']}; {field.default} if not given"
        sizes.add_argument(flag, type=kind, default=field.default, metavar="N", help=about)


if __name__ == "__main__":
    sys.exit(main())
