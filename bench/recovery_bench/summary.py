"""From results to rows: loss after equal text tokens, and steps to a fixed loss.

Losses of two seeds are not comparable; differences to the same seed without losses are. Single
measurements depend on how long ago the last stage was lost, so what is compared is the mean of the
last tenth of the curve, and for the steps to a loss a curve smoothed over three measurements.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from recovery_bench.jobs import Result
from recovery_bench.policies import (
    FREE,
    POLICIES,
    PUBLISHED_EXTRA,
    RATES,
    Policy,
    Size,
    losses,
)

_TAIL = 0.1
"""Share of the curve over which the final loss is averaged."""
_SMOOTHED = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One policy at one rate, seed by seed in the order of ``seeds``."""

    policy: str
    percent: int
    seeds: tuple[int, ...]
    final_loss: tuple[float, ...]
    """Validation loss after equal text tokens, nats per text token."""
    above_percent: tuple[float, ...]
    """By how much it exceeds the loss of the seed without losses."""
    extra_steps_percent: tuple[float | None, ...]
    """More steps to the loss that the seed without losses has after half of them; None: not
    reached."""
    most_extra_percent: float
    """The most that could be seen."""
    stages_lost: tuple[int, ...]
    jump: float | None
    """Mean rise of the loss from a loss of stages, once they are back; None where not measured."""
    shadow_share: float
    """Bytes of shadows over those of plain bf16."""
    published_extra_percent: int | None
    """CheckFree+'s extra iterations at this rate, at 500M parameters."""


def rows(results: Sequence[Result]) -> list[Row]:
    """Return a row for each policy and rate that has results of a seed that ran without losses."""
    free = {one.seed: one for one in results if one.policy == FREE}
    keys = [(policy, percent) for percent in (0, *RATES) for policy in POLICIES]
    found = []
    for policy, percent in keys:
        if policy.rung == "restart" and percent:
            mine = [_restarted(policy, percent, one) for one in free.values()]
        else:
            mine = [r for r in results if (r.policy, r.percent) == (policy.name, percent)]
        mine = sorted((one for one in mine if one.seed in free), key=lambda one: one.seed)
        if mine:
            found.append(_row(policy, percent, mine, free))
    return found


def table(found: Sequence[Row]) -> list[str]:
    """Return the rows as a Markdown table."""
    return list(_lines(found))


def _lines(found: Sequence[Row]) -> Iterator[str]:
    yield (
        "| lost per hour | policy | seeds | stages lost | final loss | above no loss"
        " | more steps to half-way loss | CheckFree+'s paper | loss jumps by |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in found:
        cells = [
            f"{row.percent} %" if row.percent else "-",
            f"`{row.policy}`",
            str(len(row.seeds)),
            f"{_mean(row.stages_lost):.0f}",
            f"{_mean(row.final_loss):.4f}",
            _each(row.above_percent, "+.2f"),
            _extra(row),
            f"+{row.published_extra_percent} %" if row.published_extra_percent else "-",
            "-" if row.jump is None else f"{row.jump:+.3f}",
        ]
        yield f"| {' | '.join(cells)} |"


def _extra(row: Row) -> str:
    beyond = f"> {row.most_extra_percent:+.0f} %"
    reached = [one for one in row.extra_steps_percent if one is not None]
    if row.policy == FREE or not reached:
        return "-" if row.policy == FREE else beyond
    if len(reached) < len(row.extra_steps_percent):
        return f"{beyond} in {len(row.extra_steps_percent) - len(reached)} of {len(row.seeds)}"
    return _each(reached, "+.0f")


def _each(values: Sequence[float], form: str) -> str:
    return f"**{_mean(values):{form}} %** ({', '.join(format(one, form) for one in values)})"


def _row(policy: Policy, percent: int, mine: Sequence[Result], free: dict[int, Result]) -> Row:
    jumps = [jump.after - jump.before for one in mine for jump in one.jumps]
    return Row(
        policy=policy.name,
        percent=percent,
        seeds=tuple(one.seed for one in mine),
        final_loss=tuple(_final(one.curve) for one in mine),
        above_percent=tuple(
            100 * (_final(one.curve) / _final(free[one.seed].curve) - 1) for one in mine
        ),
        extra_steps_percent=tuple(_extra_steps(one, free[one.seed]) for one in mine),
        most_extra_percent=100.0,
        stages_lost=tuple(_num_lost(policy, percent, one) for one in mine),
        jump=_mean(jumps) if jumps else None,
        shadow_share=_mean([one.shadow_share for one in mine]),
        published_extra_percent=PUBLISHED_EXTRA.get(percent) if policy.swaps else None,
    )


def _num_lost(policy: Policy, percent: int, one: Result) -> int:
    if not percent:
        return 0
    return sum(len(loss.stages) for loss in losses(one.size, percent, one.seed, policy.pairs))


def _final(curve: Sequence[float]) -> float:
    return _mean(curve[-max(1, round(_TAIL * len(curve))) :])


def _extra_steps(one: Result, free: Result) -> float | None:
    """Return how many percent more steps it took to the loss of the middle of the free curve."""
    middle = len(_smooth(free.curve)) // 2
    target = _smooth(free.curve)[middle]
    reached = _reached(_smooth(one.curve), target)
    return None if reached is None else 100 * (reached / middle - 1)


def _reached(curve: Sequence[float], target: float) -> float | None:
    """Return where a curve first comes down to a loss, between two measurements if it must."""
    for place, (before, after) in enumerate(pairwise(curve)):
        if after <= target:
            return place + (before - target) / (before - after)
    return None


def _smooth(curve: Sequence[float]) -> list[float]:
    """Return the mean of the last few measurements at each."""
    return [_mean(curve[max(0, i + 1 - _SMOOTHED) : i + 1]) for i in range(len(curve))]


def _restarted(policy: Policy, percent: int, free: Result) -> Result:
    """Return what a restart from checkpoints comes to, in the steps that it has left of all."""
    size = free.size
    due = {loss.step for loss in losses(size, percent, free.seed, pairs=False)}
    done, curve = 0, [free.curve[0]]
    for step in range(size.steps):
        if step in due:
            done -= done % policy.shadow_every
        done += 1
        if (step + 1) % size.every == 0:
            curve.append(_at(free.curve, done, size))
    return Result(
        policy=policy.name,
        percent=percent,
        seed=free.seed,
        size=size,
        curve=tuple(curve),
        jumps=(),
        shadow_share=0.0,
        num_parameters=free.num_parameters,
        seconds=0.0,
        machine=free.machine,
    )


def _at(curve: Sequence[float], steps: int, size: Size) -> float:
    """Return the loss after so many steps, between two measurements if it must be."""
    place, rest = divmod(steps, size.every)
    if not rest:
        return curve[place]
    share = rest / size.every
    return curve[place] * (1 - share) + curve[place + 1] * share


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
