"""What is killed, and rows of seconds: one for each, by size of the stage and rate of the links.

Pure; killing.py does it.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

from recovery_bench.stage_sizes import Setting
from recovery_bench.timeline import OWN_DISK, Recovery

_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Case:
    """What is killed, in a run of which kind."""

    rung: str
    """What the case is called: as the rung of the ladder that it is for."""
    about: str
    stages: tuple[int, ...]
    shadows: bool = False
    beside_replica: bool = False
    compute_only: bool = False

    @property
    def run(self) -> tuple[bool, bool]:
        """Cases alike in this are measured in one run."""
        return self.shadows, self.beside_replica

    @property
    def back_by(self) -> str:
        """The rung that has to bring it back."""
        return OWN_DISK if self.comes_back else self.rung

    def check(self, found: Recovery) -> None:
        """Refuse what would be told under a wrong name. Raises: AssertionError if it would be."""
        if found.rung != self.back_by:
            raise AssertionError(f"{self.rung}: back by {found.rung}, not by {self.back_by}")

    @property
    def comes_back(self) -> bool:
        """Whether what was killed is started again with its disk."""
        return self.compute_only or 0 in self.stages


CASES = (
    Case("copy", "a stage, beside a full replica", (2,), beside_replica=True),
    Case("shadow", "a stage of which a stale copy is kept", (2,), shadows=True),
    Case("average", "a stage between two others", (2,)),
    Case("swap", "the last stage", (3,)),
    Case("interpolate", "two stages side by side", (1, 2)),
    Case("compute", "a compute process alone", (2,), compute_only=True),
    Case("checkpoint", "all daemons, as in a power cut", (0, 1, 2, 3)),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One kill, and what came of it."""

    recovery: Recovery
    ring_trains_s: float | None
    """Seconds until the first inner step has ended at the origin that was begun after the kill,
    with or without what was lost; None where the origin was killed, too."""
    round_s: float
    """Of the rounds before."""


@dataclass(frozen=True, slots=True)
class SecondsRow:
    """What became of some alike kills: medians of what timeline.py says of one."""

    case: str
    rungs: tuple[str, ...]
    """That brought back what was lost, each named once."""
    stage_size: str
    stage_params: int
    stage_bytes: int
    """Of its parameters in fp32, which is what is copied."""
    stages_lost: int
    link: str
    heartbeat_s: float
    steps: int
    """Inner steps of a round."""
    round_s: float
    """Of the rounds before the kill."""
    repeats: int
    missed_s: float | None
    planned_s: float | None
    given_s: float | None
    transfer_s: float
    rebuild_s: float
    ring_trains_s: float | None
    trains_s: float
    counts_s: float
    all_trains_s: tuple[float, ...]
    import_torch_s: float
    """What a fresh process spent on that just before, most of what a new host needs."""


def row_of(
    case: Case, setting: Setting, found: Sequence[Measured], import_torch_s: float
) -> SecondsRow:
    """Sum up alike measurements."""
    recoveries = [one.recovery for one in found]
    medians = {
        field.name: _median([getattr(one, field.name) for one in recoveries])
        for field in fields(Recovery)
        if field.name.endswith("_s")
    }
    size = setting.size
    return SecondsRow(
        case=case.rung,
        rungs=tuple(dict.fromkeys(one.rung for one in recoveries)),
        stage_size=size.name,
        stage_params=size.params,
        stage_bytes=_FP32_BYTES * size.params,
        stages_lost=len(case.stages),
        link=link_name(setting.upload),
        heartbeat_s=setting.heartbeat_s,
        steps=size.manifest().inner.steps,
        round_s=round(statistics.median(one.round_s for one in found), 2),
        repeats=len(found),
        ring_trains_s=_median([one.ring_trains_s for one in found]),
        all_trains_s=tuple(one.trains_s for one in recoveries),
        import_torch_s=round(import_torch_s, 2),
        **medians,  # type: ignore[arg-type]
    )


def link_name(upload: str) -> str:
    """Name a link by what each daemon may send."""
    return "loopback" if upload == "0" else f"loopback, each daemon sends at most {upload}"


def seconds_table(rows: Sequence[SecondsRow]) -> list[str]:
    """Return the rows as a Markdown table."""
    head = (
        "lost",
        "back by",
        "stage",
        "link",
        "missed",
        "planned",
        "given",
        "transfer",
        "rebuild",
        "ring trains",
        "**trains again**",
        "counts",
        "round",
        "import of torch",
    )
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        size = f"{row.stage_params:,} parameters, {row.stage_bytes / 1e6:.2f} MB"
        each = ", ".join(_cell(one) for one in row.all_trains_s)
        figures = [
            *(_cell(x) for x in (row.missed_s, row.planned_s, row.given_s)),
            *(_cell(x) for x in (row.transfer_s, row.rebuild_s, row.ring_trains_s)),
            f"**{_cell(row.trains_s)}** ({each})",
            *(_cell(x) for x in (row.counts_s, row.round_s, row.import_torch_s)),
        ]
        cells = [f"`{row.case}`", ", ".join(row.rungs), size, row.link, *figures]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 2) if known else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
