"""What ``skerry plan`` finds and prints: the plan, how busy everyone is, and what would help.

Loads numba; import it only when something is planned.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from skerry.node.cli.wording import printable
from skerry.pipeline.planning.advice import (
    Bottleneck,
    Limit,
    Remedy,
    Use,
    bottleneck,
    remedies,
    uses,
)
from skerry.pipeline.planning.plan import Blocks, Plan, Ring
from skerry.pipeline.planning.planner import Budget, make_plan
from skerry.pipeline.planning.problem import Problem
from skerry.pipeline.planning.rehearsal import Loss, loss_of

_PATIENCE_S = 2.0
"""A shorter search shows no bar."""


@dataclass(frozen=True, slots=True)
class Report:
    """A plan and what is known about it."""

    plan: Plan
    uses: dict[str, Use]
    bottleneck: Bottleneck
    loss: Loss | None
    """Of the busiest peer that is not an origin; None where all are full replicas."""
    remedies: tuple[Remedy, ...]


class Bar:
    """A bar on stderr, drawn once a search takes longer than one would wait without."""

    def __init__(self) -> None:
        """Begin to wait."""
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._begun = time.monotonic()
        self._task = self._progress.add_task("planning", total=1.0)

    def watch(self, done: float) -> None:
        """Show how much is done."""
        if time.monotonic() - self._begun > _PATIENCE_S:
            self._progress.start()
        self._progress.update(self._task, completed=done)

    def name(self, what: str) -> None:
        """Begin another search."""
        self._progress.reset(self._task, description=what, total=1.0)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def find(problem: Problem, seed: int, advice: bool) -> Report:
    """Plan, and look at the plan from all sides. Raises: ConfigError("SK-PLN-001")."""
    bar = Bar()
    try:
        plan = make_plan(problem, Budget(seed, watch=bar.watch))
        busy = uses(plan, problem)
        found: tuple[Remedy, ...] = ()
        if advice:
            bar.name("asking what would help")
            found = remedies(plan, problem, busy, Budget(seed, watch=bar.watch))
    finally:
        bar.close()
    return Report(plan, busy, bottleneck(plan, busy), _worst_loss(plan, problem, busy), found)


def _worst_loss(plan: Plan, problem: Problem, busy: dict[str, Use]) -> Loss | None:
    bodies = [member.peer for ring in plan.rings for member in ring.members[1:]]
    if not bodies:
        return None
    return loss_of(plan, problem, max(bodies, key=lambda peer: busy[peer].computing))


def to_dict(report: Report) -> dict[str, Any]:
    """Return everything as JSON has it."""
    plan, loss = report.plan, report.loss
    return {
        "text_tokens_s": plan.text_tokens_s,
        "step_s": plan.step_s,
        "plan": asdict(plan),
        "uses": {peer: asdict(use) for peer, use in sorted(report.uses.items())},
        "bottleneck": asdict(report.bottleneck),
        "loss": loss
        and {
            "peer": loss.peer,
            "step_s": loss.step_s if isfinite(loss.step_s) else None,
            "redone": loss.redone,
        },
        "remedies": [asdict(remedy) for remedy in report.remedies],
    }


def lines(report: Report) -> Iterator[str]:
    """Yield the report as text."""
    plan = report.plan
    replicas = [ring for ring in plan.rings if ring.is_replica]
    rings = [ring for ring in plan.rings if not ring.is_replica]
    tokens = plan.microbatch_tokens * sum(ring.microbatches for ring in plan.rings)
    yield (
        f"{_counted(len(replicas), 'full replica')}, {_counted(len(rings), 'ring')},"
        f" {_counted(len(plan.spares), 'spare')}; {_counted(len(plan.stages), 'stage')}"
        f" of {_counted(plan.stages[-1].stop, 'block')}"
    )
    yield f"expected    {plan.text_tokens_s:,.0f} text tokens/s"
    yield f"            {plan.step_s:.3g} s per inner step of {tokens:,} text tokens"
    for number, ring in enumerate(plan.rings, 1):
        yield ""
        yield from _ring_lines(report, number, ring)
    yield ""
    if plan.spares:
        names = ", ".join(map(printable, plan.spares))
        yield f"spares      {names}: no faster plan with them was found"
    for shadow in plan.shadows:
        names = f"{printable(shadow.holder)} for {printable(shadow.source)}"
        yield f"shadow      of stage {shadow.stage} at {names}"
    yield f"limit       {_bottleneck_text(report.bottleneck)}"
    if report.loss is not None:
        yield f"a loss      {_loss_text(report.loss, plan)}"
    yield from _remedy_lines(report.remedies)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _ring_lines(report: Report, number: int, ring: Ring) -> Iterator[str]:
    kind = "full replica" if ring.is_replica else "ring"
    paths = f" on {len(ring.paths)} paths" if len(ring.paths) > 1 else ""
    flight = "" if ring.is_replica else f", {ring.in_flight} in flight"
    yield (f"{kind} {number}: {ring.microbatches} microbatches{paths}{flight}, {ring.step_s:.3g} s")
    width = max(len(printable(member.peer)) for member in ring.members)
    for place, member in enumerate(ring.members):
        use = report.uses[member.peer]
        blocks = _ranges([report.plan.stages[stage] for stage in member.stages])
        ends = " + embedding, head, loss" if place == 0 else ""
        yield (
            f"  {printable(member.peer):<{width}}  computes {use.computing:4.0%}"
            f"  sends {use.sending:4.0%}  {blocks}{ends}"
        )


def _ranges(stages: list[Blocks]) -> str:
    """Name blocks, adjacent stages as one range."""
    ranges: list[Blocks] = []
    for blocks in sorted(stages, key=lambda one: one.start):
        if blocks.start == blocks.stop:
            continue
        if ranges and ranges[-1].stop == blocks.start:
            ranges[-1] = Blocks(ranges[-1].start, blocks.stop)
        else:
            ranges.append(blocks)
    texts = [
        str(one.start) if one.stop == one.start + 1 else f"{one.start}-{one.stop - 1}"
        for one in ranges
    ]
    return f"blocks {', '.join(texts)}" if texts else "no block"


def _bottleneck_text(found: Bottleneck) -> str:
    peer, ring = printable(found.peer), found.ring + 1
    match found.limit:
        case Limit.COMPUTE:
            return f"{peer} of ring {ring} computes {found.share:.0%} of the time"
        case Limit.UPLINK:
            return f"{peer} of ring {ring} uploads {found.share:.0%} of the time"
        case Limit.WAITING:
            return (
                f"ring {ring} waits for links and turns: its busiest peer, {peer},"
                f" is busy {found.share:.0%} of the time"
            )


def _loss_text(loss: Loss, plan: Plan) -> str:
    peer = printable(loss.peer)
    if not isfinite(loss.step_s):
        return f"without {peer} the step cannot end: nobody else hosts its stages"
    more = loss.step_s / plan.step_s - 1
    return (
        f"if {peer} is lost within a step, {loss.redone} microbatches start again over other hosts;"
        f" that step takes {more:+.0%}, the time until it is noticed included"
    )


def _remedy_lines(found: tuple[Remedy, ...]) -> Iterator[str]:
    for place, remedy in enumerate(found):
        head = "would help" if place == 0 else ""
        yield f"{head:<12}{remedy.gain:+.0%}  {printable(remedy.what)}"
