"""One run's past and present for the page: the event log, folded and remembered.

Follows the log of the node, keeps the newest rows and lines at hand, and hands all of them to
the history's thread. Nothing here decides anything: a fault ends the page's knowledge, not
the run.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

from skerry.node.page.happenings import Happenings
from skerry.node.page.history import Batch, History, Limits, Remembered
from skerry.node.page.lines import (
    Began,
    Diverged,
    Left,
    Line,
    Validated,
    committed_line,
    log_entry,
    of_run,
    read_line,
)
from skerry.node.page.models import LogEntry, TimelineEntry
from skerry.node.page.pulse import Pulse
from skerry.node.page.round import Round
from skerry.node.page.waterfall import KEPT_ROWS, Waterfall
from skerry.node.run.context import RunContext
from skerry.node.run.journal import Journal
from skerry.node.run.notable import committed
from skerry.protocol.layout import FP32_BYTES, layout_of

HISTORY_FILE = "history.sqlite"
_RECENT_LINES = 1_000
_BACKLOG_LINES = 2_000
"""Read again at the start; older rounds come from the commit chain."""
_BREATH_LINES = 50
"""Lines taken at a stretch at the start, so that the node goes on meanwhile."""
_FLUSH_SECONDS = 0.5
_RECENT_ENTRIES = 200


@dataclass(frozen=True, slots=True)
class Changed:
    """What is new since a reader last looked."""

    revision: int
    rounds: tuple[Round, ...]
    timeline: tuple[TimelineEntry, ...]


@dataclass(slots=True)
class _Recent:
    """What changed last, by its number; the value is the revision of the change."""

    rounds: dict[int, int] = field(default_factory=dict)
    timeline: dict[int, int] = field(default_factory=dict)
    entries: dict[int, TimelineEntry] = field(default_factory=dict)
    log: deque[LogEntry] = field(default_factory=lambda: deque(maxlen=_RECENT_LINES))


class Chronicle:
    """Make one with ``open``, let ``follow`` run, end it with ``close``."""

    def __init__(self, context: RunContext, history: History, found: Remembered) -> None:
        """Use ``open`` instead."""
        self._context, self.history, self._found = context, history, found
        params = sum(spec.numel for spec in layout_of(context.manifest.model))
        self.waterfall = Waterfall(context.me, FP32_BYTES * params, found.rounds)
        self._happenings = Happenings(found.timeline, found.last_time)
        self._recent = _Recent()
        self._next_id = found.last_id + 1
        self._in_chain = {row.round for row in found.rounds if row.commit}
        self._batch = Batch()
        self._flushing: asyncio.TimerHandle | None = None
        self.revision = 0
        """Grows with every change."""
        self.pulse = Pulse()
        """Beats whenever something changed."""
        self.past, self.note = found.past, found.note
        self.diverged = 0
        """Times that the own state was not the agreed one."""
        self.recovered = (0, 0.0)
        """Number of recoveries of this daemon's time, and the seconds they took."""

    @classmethod
    async def open(
        cls, context: RunContext, folder: Path, limits: Limits | None = None
    ) -> "Chronicle":
        """Go on with the history in the run's ``folder``, filled up from the event log."""
        history, found = await History.open(folder / HISTORY_FILE, limits)
        return cls(context, history, found)

    async def follow(self, journal: Journal) -> None:
        """Take in the log from where the history ends, until the run is left."""
        backlog = journal.last(_BACKLOG_LINES)
        belongs = of_run(backlog, self._context.run_id)
        number, left = 0, False
        async for text in journal.follow(len(backlog)):
            known = number < len(backlog)
            if not known or belongs[number]:
                left = isinstance(read_line(text), Left)
                if not known or self._is_new(text):
                    self.take(text)
            number += 1
            if number >= len(backlog) and left:
                return
            if known and number % _BREATH_LINES == 0:
                await asyncio.sleep(0)

    async def close(self) -> None:
        """Write what is left and close the history."""
        if self._flushing is not None:
            self._flushing.cancel()
        self._flush()
        await self.history.close()

    def take(self, text: str) -> None:
        """Take in one line of the log."""
        number, self._next_id = self._next_id, self._next_id + 1
        self.revision += 1
        entry = log_entry(number, text)
        self._recent.log.append(entry)
        self._batch.lines.append((number, entry.time, text))
        line = read_line(text)
        if line is not None:
            self._fold(line)
        self._changed()

    def changed_since(self, revision: int) -> Changed:
        """Return rows and entries that changed after ``revision``."""
        now, recent = time.time(), self._recent
        rows = [self.waterfall.live(n, now) for n, r in recent.rounds.items() if r > revision]
        entries = [recent.entries[n] for n, r in recent.timeline.items() if r > revision]
        return Changed(
            self.revision,
            tuple(sorted((row for row in rows if row), key=lambda row: row.round)),
            tuple(sorted(entries, key=lambda entry: entry.id)),
        )

    @property
    def last_id(self) -> int:
        """Id of the newest line of the log."""
        return self._next_id - 1

    async def log_after(self, number: int, limit: int) -> tuple[LogEntry, ...]:
        """Return the oldest lines above ``number``, from memory if they are there."""
        recent = self._recent.log
        if recent and recent[0].id <= number + 1:
            found = [entry for entry in recent if entry.id > number]
            return tuple(found[:limit])
        if number >= self.last_id:
            return ()
        self._flush()
        return await self.history.log_after(number, limit)

    async def rounds(self, before: int | None, limit: int) -> tuple[tuple[Round, ...], bool]:
        """Return rows, those that still change as they are now."""
        self._flush()
        stored, more = await self.history.rounds(before, limit)
        if self.history.failure and not stored:
            stored, more = self._rows_at_hand(before, limit)
        now = time.time()
        return tuple(self.waterfall.live(row.round, now) or row for row in stored), more

    async def timeline(self, limit: int) -> tuple[TimelineEntry, ...]:
        """Return the newest entries, oldest first."""
        self._flush()
        stored = await self.history.timeline(limit)
        if self.history.failure and not stored:
            entries = sorted(self._recent.entries.values(), key=lambda entry: entry.id)
            return tuple(entries[-limit:])
        return stored

    async def log(self, before: int | None, limit: int) -> tuple[LogEntry, ...]:
        """Return the newest lines below ``before``, oldest first."""
        self._flush()
        stored = await self.history.log(before, limit)
        if self.history.failure and not stored:
            last = self._next_id if before is None else before
            return tuple(entry for entry in self._recent.log if entry.id < last)[-limit:]
        return stored

    def _is_new(self, text: str) -> bool:
        time = log_entry(0, text).time
        if time == self._found.last_time:
            return text not in self._found.last_lines
        return time > self._found.last_time

    def _fold(self, line: Line) -> None:
        self._remember(line)
        if isinstance(line, Began):
            self._fill_from_chain(line.round - 1)
        for number in self.waterfall.take(line):
            self._row_changed(number)
        for entry in self._happenings.take(line):
            self._recent.timeline[entry.id] = self.revision
            self._recent.entries[entry.id] = self._batch.timeline[entry.id] = entry
            if entry.recovery_s is not None:
                number, seconds = self.recovered
                self.recovered = (number + 1, seconds + entry.recovery_s)
        while len(self._recent.entries) > _RECENT_ENTRIES:
            oldest = min(self._recent.entries)
            del self._recent.entries[oldest], self._recent.timeline[oldest]

    def _remember(self, line: Line) -> None:
        """Keep what the header says of the whole run."""
        if isinstance(line, Began) and self.past.started_at is None:
            self.past = replace(self.past, started_at=line.time)
        elif isinstance(line, Diverged):
            self.diverged += 1
        elif isinstance(line, Validated):
            first = self.past.val_loss_start
            self.past = replace(
                self.past,
                val_loss_start=line.loss if first is None else first,
                val_loss=line.loss,
                val_loss_round=line.round,
            )

    def _fill_from_chain(self, newest: int) -> None:
        """Take rounds that others trained before this node came from the commit chain."""
        rounds = self._context.state.rounds
        missing: list[Round] = []
        for name in rounds.chain.path(rounds.at):
            signed = rounds.chain[name]
            number = signed.message.round
            if number > newest:
                continue
            if number in self._in_chain:
                break
            self._in_chain.add(number)
            line = committed_line(committed(rounds.chain, signed))
            if newest - number < KEPT_ROWS:
                for changed in self.waterfall.take_from_chain(line):
                    self._row_changed(changed)
            else:
                alone = Waterfall(self._context.me, self.waterfall.dense_bytes)
                alone.take_from_chain(line)
                missing += alone.rows.values()
        self._batch.rounds |= {row.round: row for row in missing}

    def _row_changed(self, number: int) -> None:
        row = self.waterfall.rows.get(number)
        if row is None:
            return
        self._recent.rounds[number] = self.revision
        self._batch.rounds[number] = row
        for old in [n for n in self._recent.rounds if n not in self.waterfall.rows]:
            del self._recent.rounds[old]

    def _rows_at_hand(self, before: int | None, limit: int) -> tuple[tuple[Round, ...], bool]:
        numbers = sorted(n for n in self.waterfall.rows if before is None or n < before)
        rows = tuple(self.waterfall.rows[n] for n in numbers[-limit:])
        return rows, len(numbers) > limit

    def _changed(self) -> None:
        if self._flushing is None:
            loop = asyncio.get_running_loop()
            self._flushing = loop.call_later(_FLUSH_SECONDS, self._flush)
        self.pulse.beat()

    def _flush(self) -> None:
        """Hand what is waiting to the history's thread."""
        self._flushing = None
        if self._batch:
            batch, self._batch = self._batch, Batch()
            self.history.write(batch)
