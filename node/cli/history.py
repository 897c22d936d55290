"""What the event log of a node has told about its run so far, for the screen to show.

The failures and recoveries are those of the status page, found by the same rules.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from skerry.node.cli.figures import Figures, Tally
from skerry.node.cli.wording import clock, count, duration, loss, names_of
from skerry.node.page.happenings import Happenings
from skerry.node.page.lines import Committed, Entered, Line, Validated, read_line
from skerry.node.page.models import Severity, TimelineEntry

T = TypeVar("T")
_KEPT = 200


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the screen about something that happened."""

    time: float
    """Unix seconds."""
    text: str
    severity: Severity = "info"

    @property
    def line(self) -> str:
        """The text after the local time."""
        return f"{clock(self.time)}  {self.text}"


class History:
    """Folds the lines of a log, oldest first, into what one run has come to."""

    def __init__(self, run_id: str) -> None:
        """Begin before the first line; lines before the first "entered" count as the run's."""
        self._run_id = run_id
        self._forget()

    def take(self, lines: Iterable[str]) -> None:
        """Take in further lines; those of other runs, or cut short by a crash, are passed over."""
        for text in lines:
            line = read_line(text)
            if isinstance(line, Entered) and line.run != self._run_id:
                self._forget(elsewhere=True)
            elif isinstance(line, Entered):
                self._elsewhere = False
            if line is not None and not self._elsewhere:
                self._take(line)

    def figures(self) -> Figures:
        """Return losses and pace."""
        return self._tally.figures()

    def troubles(self) -> list[Happening]:
        """Return failures and how they were mended, oldest first."""
        return [_told(entry) for entry in self._entries.values() if entry.severity != "info"]

    def events(self) -> list[Happening]:
        """Return what else happened, oldest first: rounds, comings and goings."""
        calm = (_told(entry) for entry in self._entries.values() if entry.severity == "info")
        rounds = (
            Happening(line.time, _round_text(line, self._val_losses.get(number)))
            for number, line in self._rounds.items()
        )
        return sorted([*rounds, *calm], key=lambda happening: happening.time)

    def _forget(self, elsewhere: bool = False) -> None:
        self._elsewhere = elsewhere
        self._tally, self._happenings = Tally(), Happenings()
        self._entries: dict[int, TimelineEntry] = {}
        self._rounds: dict[int, Committed] = {}
        self._val_losses: dict[int, float] = {}

    def _take(self, line: Line) -> None:
        self._tally.take(line)
        if isinstance(line, Committed):
            _keep(self._rounds, line.round, line)
        if isinstance(line, Validated):
            _keep(self._val_losses, line.round, line.loss)
        for entry in self._happenings.take(line):
            _keep(self._entries, entry.id, entry)


def _keep(kept: dict[int, T], key: int, value: T) -> None:
    """Put in what is new or has changed; the oldest gives way."""
    kept[key] = value
    if len(kept) > _KEPT:
        del kept[next(iter(kept))]


def _told(entry: TimelineEntry) -> Happening:
    mended = f"; mended after {duration(entry.recovery_s)}" if entry.recovery_s is not None else ""
    return Happening(entry.time, f"{entry.text}{mended}", entry.severity)


def _round_text(line: Committed, val_loss: float | None) -> str:
    number = len(line.included)
    parts = [f"round {line.round}: {number} contribution{'' if number == 1 else 's'}"]
    parts += [f"without {names_of(line.late)}"] if line.late else []
    parts += [f"val loss {loss(val_loss)}"] if val_loss is not None else []
    return ", ".join([*parts, f"{count(line.text_tokens)} text tokens"])
