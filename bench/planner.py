"""The planner and its simulator, on the published topology of 20 peers and on larger swarms.

What is measured, on one core:

  reproduction  three published schedules in our simulator, under the published cost model (links
                never contend), beside their published times
  plan          our plans for the same peers: under the published cost model with a third of the
                stages skipped; with contended uplinks in full (10 slots) and skipping (6 slots)
  scale         planning time for 20, 200 and 1,000 unequal peers, and re-planning after a loss
  claims        whether all goals are met

    python bench/planner.py                   a table
    python bench/planner.py --json            one line per result
    python bench/planner.py --sizes 20        without the large swarms
    python bench/planner.py --write --check   a page and all plans under bench/results; fails on
                                              a missed goal
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from planner_bench import published, synthetic
from planner_bench.results import (
    Claims,
    PlanResult,
    Reproduction,
    Result,
    ScaleResult,
    to_json,
)
from skerry.pipeline.planning.costs import PUBLISHED, UPLINKS, CostModel
from skerry.pipeline.planning.plan import Plan
from skerry.pipeline.planning.planner import Budget, make_plan
from skerry.pipeline.planning.problem import Network, Problem
from skerry.pipeline.planning.rehearsal import loss_of
from skerry.pipeline.planning.replan import replan

RESULTS = Path(__file__).parent / "results"
THIRD = 1 / 3
CASES: dict[str, tuple[CostModel, int, float, float]] = {
    "published links, skip a third": (PUBLISHED, 3, THIRD, 33.3),
    "contended uplinks, full": (UPLINKS, 10, 0.0, 31.4),
    "contended uplinks, skip a third": (UPLINKS, 6, THIRD, 24.1),
}
"""Cost model, slots, skip ratio, goal in seconds."""
GOALS_S = {20: 2.0, 200: 10.0, 1000: 60.0}
T = TypeVar("T")


def measure(sizes: Sequence[int], seed: int, plans: dict[str, Any]) -> Iterator[Result]:
    """Yield every result, claims last; put the plans into ``plans``."""
    _, compiling_s = timed(lambda: make_plan(synthetic.swarm(12, 0.0), Budget(seed, 1)))
    passed = True
    for result in results(sizes, seed, plans):
        passed = passed and result.passed
        yield result
    yield Claims(compiling_cpu_s=compiling_s, passed=passed)


def results(
    sizes: Sequence[int], seed: int, plans: dict[str, Any]
) -> Iterator[Reproduction | PlanResult | ScaleResult]:
    """Yield every result but the claims."""
    for schedule in published.schedules():
        yield reproduced(schedule)
    for case in CASES:
        result, plan = planned(case, seed)
        plans[case] = asdict(plan)
        yield result
    for size in sizes:
        for skip_ratio in (0.0, THIRD):
            result_, plan = scaled(size, skip_ratio, seed)
            plans[f"{size} peers, {'skip a third' if skip_ratio else 'full'}"] = asdict(plan)
            yield result_


def reproduced(schedule: published.Schedule) -> Reproduction:
    """Simulate a published schedule."""
    found = Reproduction(
        schedule=schedule.name,
        published_s=schedule.seconds,
        simulated_s=published.simulated_s(schedule),
        off=published.simulated_s(schedule) / schedule.seconds - 1,
        passed=False,
    )
    return replace(found, passed=abs(found.off) <= found.goal)


def planned(case: str, seed: int) -> tuple[PlanResult, Plan]:
    """Plan for the published peers."""
    costs, slots, skip_ratio, goal_s = CASES[case]
    problem = published.problem(costs, published.limits_of(slots, skip_ratio))
    plan, cpu_s = timed(lambda: make_plan(problem, Budget(seed)))
    bodies = [member.peer for ring in plan.rings for member in ring.members[1:]]
    result = PlanResult(
        case=case,
        slots=slots,
        skip_ratio=skip_ratio,
        step_s=plan.step_s,
        goal_s=goal_s,
        microbatches=tuple(ring.microbatches for ring in plan.rings),
        equal_visits=len(set(plan.visits()[1:])) == 1,
        planning_cpu_s=cpu_s,
        worst_loss_s=max(loss_of(plan, problem, peer).step_s for peer in bodies),
        passed=plan.step_s <= goal_s and cpu_s <= GOALS_S[20],
    )
    return result, plan


def scaled(size: int, skip_ratio: float, seed: int) -> tuple[ScaleResult, Plan]:
    """Time planning for a swarm, and re-planning when one of its peers has gone."""
    problem = synthetic.swarm(size, skip_ratio)
    begun = time.perf_counter()
    plan, cpu_s = timed(lambda: make_plan(problem, Budget(seed)))
    wall_s = time.perf_counter() - begun
    smaller = without(problem, plan.rings[0].members[-1].peer)
    _, replanning_s = timed(lambda: replan(plan, smaller, Budget(seed)))
    goal_s = next(goal for peers, goal in GOALS_S.items() if size <= peers)
    result = ScaleResult(
        peers=size,
        skip_ratio=skip_ratio,
        stages=len(plan.stages),
        rings=len(plan.rings),
        spares=len(plan.spares),
        text_tokens_s=plan.text_tokens_s,
        planning_cpu_s=cpu_s,
        planning_wall_s=wall_s,
        replanning_cpu_s=replanning_s,
        goal_s=goal_s,
        passed=cpu_s <= goal_s,
    )
    return result, plan


def without(problem: Problem, name: str) -> Problem:
    """Return the problem when a peer has gone."""
    keep_N = np.array([i for i, peer in enumerate(problem.peers) if peer.name != name])
    links, square = problem.network, np.ix_(keep_N, keep_N)
    network = Network(links.latency_NN[square], links.bandwidth_NN[square])
    return replace(problem, peers=tuple(problem.peers[i] for i in keep_N), network=network)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return a result and the seconds that this process computed for it."""
    begun = time.process_time()
    return work(), time.process_time() - begun


def table(found: Sequence[Result]) -> Iterator[str]:
    """Yield the results as Markdown."""
    yield from (
        "| published schedule | published | simulated | off |",
        "|---|---|---|---|",
    )
    for one in found:
        if isinstance(one, Reproduction):
            yield (
                f"| {one.schedule} | {one.published_s:.2f} s | {one.simulated_s:.2f} s"
                f" | {one.off:+.3%} |"
            )
    yield from (
        "",
        "| our plan | slots | step | goal | microbatches of each ring | body peer lost, at worst"
        " | planning |",
        "|---|---|---|---|---|---|---|",
    )
    for one in found:
        if isinstance(one, PlanResult):
            yield (
                f"| {one.case} | {one.slots} | **{one.step_s:.2f} s** | {one.goal_s} s"
                f" | {', '.join(map(str, one.microbatches))} | {one.worst_loss_s:.1f} s"
                f" | {one.planning_cpu_s:.2f} s |"
            )
    yield from (
        "",
        "| peers | skip | stages | rings | spares | text tokens/s | planning | goal | wall"
        " | re-planning |",
        "|---|---|---|---|---|---|---|---|---|---|",
    )
    for one in found:
        if isinstance(one, ScaleResult):
            yield (
                f"| {one.peers:,} | {one.skip_ratio:.0%} | {one.stages} | {one.rings}"
                f" | {one.spares} | {one.text_tokens_s:,.0f} | **{one.planning_cpu_s:.1f} s**"
                f" | {one.goal_s:.0f} s | {one.planning_wall_s:.1f} s"
                f" | {one.replanning_cpu_s:.1f} s |"
            )


def page(found: Sequence[Result], load: float) -> str:
    """Return the dated page."""
    claims = next(one for one in found if isinstance(one, Claims))
    return "\n".join(
        [
            "# Planner",
            "",
            f"{'All goals are met.' if claims.passed else '**A goal is missed.**'}",
            "",
            f"- Command: `python {' '.join(['bench/planner.py', *sys.argv[1:]])}`",
            f"- Commit: {commit()}, {date.today().isoformat()}",
            f"- Hardware: one core of {platform.machine()}, load average {load:.1f} before",
            f"- Versions: Python {platform.python_version()}, numpy {version('numpy')},"
            f" numba {version('numba')}",
            "- Planning times are the process's own (CPU) seconds and do not include compiling:"
            f" the first simulation of this process took {claims.compiling_cpu_s:.1f} s, which is"
            " about 10 s where nothing is kept on disk yet.",
            "",
            *table(found),
            "",
            NOTES,
            "",
        ]
    )


NOTES = """\
Published schedules: the paths and times that SkipPipe's repository ships (bench/data), 20 peers in
12 sites, 0.44 s forward, 33.6 MB per hop, 3 slots; full_pipeline has 27 microbatches, the others
30. Contended uplinks: a sender's tensors leave one after the other, downlinks are free, backward
goes first, and the slip of the published table (2 Mbit/s between two sites) is corrected.

Our plans are for 30 microbatches in all, each visiting 6 stages, or 4 of 6 with equal visits of the
five middle ones. They may share microbatches unequally among origins, and leave peers out; the
published ones give every origin six. Under the published cost model six each would take 33.3 s in
our search too: the ring with the peer in Australia bounds it.

A lost body peer: it goes for good after a third of the step, 5 s pass until it is noticed, and its
microbatches start again over other hosts of its stages. Under the published cost model that can
lead over the link with the slip, hence the long time there."""


def commit() -> str:
    """Return the commit, and whether what is measured differs from it."""
    here = Path(__file__).parent
    measured = ["../pipeline/planning", "planner.py", "planner_bench", "data"]
    head = ["git", "log", "-1", "--format=%h"]
    changed = ["git", "status", "--porcelain", "--", *measured]
    text = [
        subprocess.run(one, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        for one in (head, changed)
    ]
    return text[0] + (", with changes" if text[1] else "")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", action="store_true", help="one line per result, claims last")
    made.add_argument("--seed", type=int, default=0, help="of the search (default %(default)s)")
    made.add_argument(
        "--sizes", nargs="*", type=int, choices=range(4, 1001), metavar="PEERS",
        default=list(GOALS_S), help="swarms to plan for (default 20 200 1000)",
    )  # fmt: skip
    made.add_argument("--plans", type=Path, metavar="FILE", help="write all plans as JSON")
    made.add_argument("--write", action="store_true", help="a dated page and the plans")
    made.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    return made


def main() -> int:
    """Measure, print, and judge."""
    options = parser().parse_args()
    load = os.getloadavg()[0]
    found: list[Result] = []
    plans: dict[str, Any] = {}
    for result in measure(options.sizes, options.seed, plans):
        found.append(result)
        if options.json:
            print(to_json(result), flush=True)
        else:
            print(f"{result.kind} done", file=sys.stderr)
    if not options.json:
        print("\n".join(table(found)))
    if options.plans:
        options.plans.write_text(json.dumps(plans, indent=1) + "\n")
    if options.write:
        stem = RESULTS / f"{date.today().isoformat()}_planner"
        stem.with_suffix(".md").write_text(page(found, load))
        ours = {case: plans[case] for case in CASES}
        stem.with_name(f"{stem.name}_plans.json").write_text(json.dumps(ours, indent=1) + "\n")
        print(f"written: {stem}.md", file=sys.stderr)
    claims = next(one for one in found if isinstance(one, Claims))
    return int(options.check and not claims.passed)


if __name__ == "__main__":
    sys.exit(main())
