"""Results as tables: for the terminal, and as a dated page."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from codec_bench.results import (
    BaselineResult,
    Claims,
    IndexResult,
    MeanResult,
    MemoryResult,
    Result,
    SchemeResult,
    to_json,
)

_WIDTH = 120

_NOTES = """\
sign, sym2 and fp16 are ours. The reference is the scheme of SparseLoCo, written from the paper in
plain torch (`bench/comparators/reference.py`), without the dense copy of what it sends that the
published code makes. Encoding includes the update of the error feedback for all schemes. Speeds
are those of one core, by its own time: it stands still while other programs have the core. All
operations take turns and the fastest time counts. "Decode+add" is one payload into an accumulator;
the reference's decoder takes all payloads of a round at once and is cheaper per payload then: see
"Mean of contributions", where ours also clips each contribution to the median norm. Errors are
energies: what the payload leaves behind over all, and over the entries it sends. The claims are
judged on the made-up entries; the real ones are few, so that what a shard costs as a whole tells
more in their speeds."""

_MEASURED = ("../../compression", ".", "../codec.py", "../comparators", "../pseudogradients.py")
"""Code whose changes change the figures, from this folder."""

R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table of strings."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def sheets(results: Sequence[Result]) -> list[Sheet]:
    """Return a table for each kind of result that is there."""
    found = [
        *_claims(results),
        *_schemes(results),
        _sheet("Plain operations", BaselineResult, _BASELINE, results),
        _sheet("Mean of contributions", MeanResult, _MEAN, results),
        _sheet("Peak extra memory, bytes per parameter", MemoryResult, _MEMORY, results),
        _sheet("Index codes", IndexResult, _INDEX, results),
    ]
    return [sheet for sheet in found if sheet.rows]


def show(results: Sequence[Result], console: Console) -> None:
    """Print all tables, wide enough to be read where the terminal's width is not known."""
    if not console.is_terminal:
        console.width = _WIDTH
    for sheet in sheets(results):
        table = Table(title=sheet.title, title_justify="left")
        for i, column in enumerate(sheet.columns):
            table.add_column(column, justify="left" if i == 0 else "right")
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)


def page(results: Sequence[Result], command: str, load_before: float) -> str:
    """Return the dated page: where it was measured, the tables, and the lines of JSON."""
    lines = ["# The codec beside others", "", *_provenance(command, load_before), "", _NOTES]
    for sheet in sheets(results):
        lines += ["", f"## {sheet.title}", "", *_markdown(sheet)]
    lines += ["", "## Output", "", "```json", *map(to_json, results), "```", ""]
    return "\n".join(lines)


def _provenance(command: str, load_before: float) -> list[str]:
    names = ("torch", "numpy", "numba", "zstandard")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"- Date: {date.today().isoformat()}",
        f"- Command: `{command}`",
        f"- Commit: {_commit()}",
        f"- Hardware: {os.cpu_count()} cores of {_processor()}, {memory:.0f} GiB memory, "
        f"Linux {platform.release()}; one thread; load average {load_before:.1f} before and "
        f"{os.getloadavg()[0]:.1f} after",
        f"- Versions: Python {platform.python_version()}, {versions}",
    ]


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", *_MEASURED)
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _markdown(sheet: Sheet) -> list[str]:
    head = [_line(sheet.columns), "|" + "---|" * len(sheet.columns)]
    return head + [_line(row) for row in sheet.rows]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _verdict(passed: bool) -> str:
    return "kept" if passed else "MISSED"


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M" if parameters < 1e8 else f"{parameters / 1e6:.0f} M"


_SCHEME: dict[str, Callable[[SchemeResult], str]] = {
    "scheme": lambda r: r.scheme,
    "bits/param": lambda r: _number(r.bits_per_parameter, 4),
    "bits/index": lambda r: _number(r.bits_per_index),
    "limit": lambda r: _number(r.index_limit),
    "encode Mparam/s": lambda r: _rate(r.encode_mparam_s),
    "decode+add Mparam/s": lambda r: _rate(r.add_mparam_s),
    "error": lambda r: _number(r.error, 4),
    "error of kept": lambda r: f"{r.error_of_kept:.3g}",
}
_BASELINE: dict[str, Callable[[BaselineResult], str]] = {
    "operation": lambda r: r.operation,
    "data": lambda r: r.data,
    "parameters": lambda r: _millions(r.parameters),
    "Mparam/s": lambda r: _rate(r.mparam_s),
}
_MEAN: dict[str, Callable[[MeanResult], str]] = {
    "scheme": lambda r: r.scheme,
    "parameters": lambda r: _millions(r.parameters),
    "contributions": lambda r: str(r.contributions),
    "Mparam/s per contribution": lambda r: _rate(r.mparam_s),
}
_MEMORY: dict[str, Callable[[MemoryResult], str]] = {
    "scheme": lambda r: r.scheme,
    "parameters": lambda r: _millions(r.parameters),
    "encode": lambda r: _number(r.encode_bytes_per_parameter, 2),
    "decode+add": lambda r: _number(r.add_bytes_per_parameter, 2),
}
_INDEX: dict[str, Callable[[IndexResult], str]] = {
    "code": lambda r: r.coder,
    "kept": lambda r: f"{r.keep} of {r.area}",
    "bits/index": lambda r: _number(r.bits_per_index),
    "over limit": lambda r: f"{r.over_limit:.1%}",
    "encode M/s": lambda r: _rate(r.encode_mindex_s),
    "decode M/s": lambda r: _rate(r.decode_mindex_s),
}


def _claims(results: Sequence[Result]) -> Iterator[Sheet]:
    """Yield the goals, each with its verdict."""
    for claims in (one for one in results if isinstance(one, Claims)):
        rows: list[tuple[str, ...]] = [
            (one.goal, f"{one.figure:.4g}", f"{one.bound} {one.limit:g}", _verdict(one.passed))
            for one in claims.claims
        ]
        yield Sheet("Claims", ("goal", "worst figure", "bound", "verdict"), rows)


def _schemes(results: Sequence[Result]) -> Iterator[Sheet]:
    """Yield one table for each case."""
    schemes = [one for one in results if isinstance(one, SchemeResult)]
    for data, parameters in dict.fromkeys((one.data, one.parameters) for one in schemes):
        rows = [one for one in schemes if (one.data, one.parameters) == (data, parameters)]
        yield _sheet(f"{data}, {_millions(parameters)} parameters", SchemeResult, _SCHEME, rows)


def _sheet(
    title: str, kind: type[R], columns: dict[str, Callable[[R], str]], results: Sequence[Result]
) -> Sheet:
    rows = [
        tuple(cell(one) for cell in columns.values()) for one in results if isinstance(one, kind)
    ]
    return Sheet(title, tuple(columns), rows)


def command_line() -> str:
    """Return the command as it can be repeated."""
    return " ".join(["python", "bench/codec.py", *sys.argv[1:]])
