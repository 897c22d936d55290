"""What a soak found, as data, as a table for the terminal, and as a dated page."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from rich.table import Table

from soaking.readings import Reading
from soaking.trend import Trend, slope, trend

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """How one process went after the warm-up."""

    name: str
    pids: tuple[int, ...]
    """More than one if it was started again."""
    resident_bytes: Trend
    unique_bytes: Trend
    proportional_bytes: Trend
    fds: Trend
    threads: Trend
    unique_bytes_per_round: float
    cpu_percent: float

    @property
    def is_flat(self) -> bool:
        """Whether nothing of it grows."""
        memory = self.resident_bytes.is_flat and self.unique_bytes.is_flat
        return memory and self.fds.is_steady and self.threads.is_steady


def report_of(readings: Sequence[Reading]) -> ProcessReport:
    """Sum up one process's readings, in order of time."""
    at_s = [one.at_s for one in readings]
    unique = [one.unique_bytes for one in readings]
    used_s = sum(
        after.cpu_s - before.cpu_s
        for before, after in pairwise(readings)
        if before.pid == after.pid
    )
    return ProcessReport(
        name=readings[0].name,
        pids=tuple(dict.fromkeys(one.pid for one in readings)),
        resident_bytes=trend(at_s, [one.resident_bytes for one in readings]),
        unique_bytes=trend(at_s, unique),
        proportional_bytes=trend(at_s, [one.proportional_bytes for one in readings]),
        fds=trend(at_s, [one.num_fds for one in readings]),
        threads=trend(at_s, [one.num_threads for one in readings]),
        unique_bytes_per_round=slope([one.round for one in readings], unique),
        cpu_percent=100 * used_s / max(at_s[-1] - at_s[0], 1e-9),
    )


def reports(readings: Sequence[Reading], warm_up_s: float) -> list[ProcessReport]:
    """Sum up every process from the end of the warm-up on, in order of its name."""
    by_name: dict[str, list[Reading]] = {}
    for one in readings:
        if one.at_s >= warm_up_s:
            by_name.setdefault(one.name, []).append(one)
    return [report_of(by_name[name]) for name in sorted(by_name)]


def as_data(report: ProcessReport) -> dict[str, object]:
    """Return a report for JSON."""
    return asdict(report) | {"is_flat": report.is_flat}


HEADINGS = (
    "process",
    "resident MiB",
    "MiB/h",
    "unique MiB",
    "MiB/h",
    "bytes/round",
    "open files",
    "threads",
    "CPU %",
    "",
)


def cells(report: ProcessReport) -> tuple[str, ...]:
    """Return one row of the table."""
    return (
        report.name,
        _span(report.resident_bytes, _MIB),
        f"{report.resident_bytes.per_hour / _MIB:+.2f}",
        _span(report.unique_bytes, _MIB),
        f"{report.unique_bytes.per_hour / _MIB:+.2f}",
        f"{report.unique_bytes_per_round:+.0f}",
        _count(report.fds),
        _count(report.threads),
        f"{report.cpu_percent:.1f}",
        "flat" if report.is_flat else "GROWS",
    )


def table(found: Sequence[ProcessReport]) -> Table:
    """Return the table for a terminal."""
    view = Table(*HEADINGS, box=None)
    for report in found:
        view.add_row(*cells(report))
    return view


def markdown(found: Sequence[ProcessReport]) -> str:
    """Return the table for a page."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *map(cells, found)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _span(figure: Trend, unit: int) -> str:
    return f"{figure.first / unit:.1f} → {figure.last / unit:.1f}"


def _count(figure: Trend) -> str:
    return f"{figure.first:.0f} → {figure.last:.0f} (most {figure.highest:.0f})"
