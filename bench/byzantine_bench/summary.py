"""How far each attack sets a run back under each defence: percent above the clean loss, by seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isinf
from statistics import fmean

from byzantine_bench.defences import DEFAULT
from byzantine_bench.jobs import CLEAN, Result

ALLOWED_PERCENT = 2.0
"""What the default may lose to any attack but those that docs/security.md names as open."""


@dataclass(frozen=True, slots=True)
class Row:
    """One attack at one share of hostile peers under one defence, over the seeds that are done."""

    attack: str
    percent: int
    defence: str
    gaps: tuple[float, ...]
    """Percent above the clean run of the same seed under the default, seed by seed."""
    judged: dict[str, int]
    """Contributions that did not count in full, by side and reason, over all seeds."""

    @property
    def gap(self) -> float:
        """Mean over seeds."""
        return fmean(self.gaps)


def rows(results: Iterable[Result]) -> list[Row]:
    """Return a row for each combination of which a seed, and the clean run of it, is done."""
    found = list(results)
    clean = {
        (one.job.seed, one.job.size): one.loss
        for one in found
        if (one.job.attack, one.job.defence) == (CLEAN, DEFAULT)
    }
    groups: dict[tuple[str, int, str], list[Result]] = {}
    for one in found:
        if (one.job.seed, one.job.size) in clean:
            key = (one.job.attack, one.job.percent, one.job.defence)
            groups.setdefault(key, []).append(one)
    return [
        Row(
            *key,
            tuple(100 * (one.loss / clean[one.job.seed, one.job.size] - 1) for one in group),
            _added(one.judged for one in group),
        )
        for key, group in groups.items()
    ]


def table(some: Sequence[Row]) -> str:
    """Return a table in Markdown: attacks down, defences across, mean gap and number of seeds."""
    attacks = list(dict.fromkeys((row.attack, row.percent) for row in some))
    defences = list(dict.fromkeys(row.defence for row in some))
    cells = {(row.attack, row.percent, row.defence): row for row in some}
    lines = [f"| attack | {' | '.join(defences)} |", f"|---|{'---:|' * len(defences)}"]
    for attack, percent in attacks:
        found = [cells.get((attack, percent, defence)) for defence in defences]
        name = f"{percent} % {attack}" if percent else attack
        lines.append(f"| {name} | {' | '.join(_cell(row) for row in found)} |")
    return "\n".join(lines)


def misses(some: Iterable[Row], accepted: Sequence[str]) -> list[str]:
    """Return the attacks, but the accepted ones, at which the default loses more than it may."""
    return [
        f"{row.percent} % {row.attack}: {row.gap:.1f} %"
        for row in some
        if row.defence == DEFAULT and row.attack not in accepted and row.gap > ALLOWED_PERCENT
    ]


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    gap = "diverged" if isinf(row.gap) else f"{row.gap:+.1f} %"
    return f"{gap} ({len(row.gaps)})"


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for reason, number in one.items():
            total[reason] = total.get(reason, 0) + number
    return total
