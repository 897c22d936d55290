"""What the page remembers of a run over restarts: one bounded SQLite file in the run's folder.

All access goes through one thread of its own, so the node's event loop never waits for the
disk. A file that is damaged or of another version is set aside; the event log, from which the
history is made, fills a new one. A full disk ends the recording, never the run.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from skerry.node.page.header import Past
from skerry.node.page.lines import log_entry
from skerry.node.page.models import LogEntry, TimelineEntry
from skerry.node.page.round import Round
from skerry.node.page.waterfall import KEPT_ROWS

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
SCHEMA_VERSION = 1
"""Raised when the stored models change: an older file is set aside and made anew."""
_TABLES = """
CREATE TABLE IF NOT EXISTS rounds (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS timeline (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, time REAL NOT NULL, body TEXT NOT NULL);
"""
_DAMAGED = ".damaged"
_OUTER = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
"""Errors that another file would have, too; the low byte of SQLite's code."""
_PRUNE_EVERY = 50
"""Batches between two prunings."""
_KEPT_ENTRIES = 200
"""Timeline entries handed back at the start."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept."""

    rounds: int = 5_000
    timeline: int = 2_000
    log: int = 20_000
    log_age_s: float = 30 * 86400.0


@dataclass(slots=True)
class Batch:
    """What is to be written at once."""

    rounds: dict[int, Round] = field(default_factory=dict)
    timeline: dict[int, TimelineEntry] = field(default_factory=dict)
    lines: list[tuple[int, float, str]] = field(default_factory=list)
    """Id, time and text of lines of the event log."""

    def __bool__(self) -> bool:
        """Say whether there is anything in it."""
        return bool(self.rounds or self.timeline or self.lines)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a file held when it was opened."""

    rounds: tuple[Round, ...]
    """The newest, oldest first."""
    timeline: tuple[TimelineEntry, ...]
    last_id: int
    """Of the log; 0 if there is none."""
    last_time: float
    last_lines: frozenset[str]
    """All lines of that time."""
    past: Past
    note: str
    """What was wrong with an earlier file; empty if nothing was."""


class History:
    """The history of one run; make one with ``open``, end it with ``close``."""

    def __init__(self, path: Path, limits: Limits) -> None:
        """Use ``open`` instead."""
        self._path, self._limits = path, limits
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="history")
        self._database: sqlite3.Connection | None = None
        self._batches = 0
        self.failure = ""
        """Why nothing is recorded any more; empty while all is well."""

    @classmethod
    async def open(cls, path: Path, limits: Limits | None = None) -> tuple["History", Remembered]:
        """Open or make the file; one that cannot be made is told in ``failure``."""
        self = cls(path, limits or Limits())
        try:
            return self, await self._run(self._open)
        except asyncio.CancelledError:  # the thread goes on and opens the file
            await self.close()
            raise

    async def close(self) -> None:
        """Write what is waiting and close the file; being cancelled does not cut that short."""
        closed = asyncio.wrap_future(self._thread.submit(self._close))
        self._thread.shutdown(wait=False)
        cancelled: asyncio.CancelledError | None = None
        while not closed.done():
            try:
                await asyncio.wait([closed])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def write(self, batch: Batch) -> None:
        """Write a batch soon, in order; never raises and never waits."""
        self._thread.submit(self._write, batch)

    async def rounds(self, before: int | None, limit: int) -> tuple[tuple[Round, ...], bool]:
        """Return the newest rows below ``before``, oldest first, and whether there are older."""
        bodies = await self._run(lambda: self._newest("rounds", before, limit + 1))
        rows = tuple(Round.model_validate_json(body) for _, body in bodies[-limit:])
        return rows, len(bodies) > limit

    async def timeline(self, limit: int) -> tuple[TimelineEntry, ...]:
        """Return the newest entries, oldest first."""
        bodies = await self._run(lambda: self._newest("timeline", None, limit))
        return tuple(TimelineEntry.model_validate_json(body) for _, body in bodies)

    async def log(self, before: int | None, limit: int) -> tuple[LogEntry, ...]:
        """Return the newest lines with an id below ``before``, oldest first."""
        bodies = await self._run(lambda: self._newest("log", before, limit))
        return tuple(log_entry(number, body) for number, body in bodies)

    async def log_after(self, number: int, limit: int) -> tuple[LogEntry, ...]:
        """Return the oldest lines with an id above ``number``, oldest first."""
        query = "SELECT id, body FROM log WHERE id > ? ORDER BY id LIMIT ?"
        bodies = await self._run(lambda: self._select(query, (number, limit)))
        return tuple(log_entry(found, body) for found, body in bodies)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # -- in the thread ---------------------------------------------------------------------

    def _open(self) -> Remembered:
        note = ""
        try:
            try:
                return self._load(note)
            except (sqlite3.DatabaseError, ValidationError) as error:
                if _is_outer(error):
                    raise
                note = f"the page's history could not be read and was set aside: {error}"
                _LOG.warning("%s: %s", self._path, note)
                self._set_aside()
                return self._load(note)
        except (sqlite3.Error, ValidationError, OSError) as error:
            self._fail(error)
            return Remembered((), (), 0, 0.0, frozenset(), Past(), note)

    def _load(self, note: str) -> Remembered:
        database = self._database = sqlite3.connect(self._path)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise sqlite3.DatabaseError(f"version {version}, this is {SCHEMA_VERSION}")
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict))
        database.executescript(_TABLES + f"PRAGMA user_version = {SCHEMA_VERSION};")
        rows = [Round.model_validate_json(b) for _, b in self._newest("rounds", None, KEPT_ROWS)]
        entries = [
            TimelineEntry.model_validate_json(body)
            for _, body in self._newest("timeline", None, _KEPT_ENTRIES)
        ]
        last_id, last_time = database.execute(
            "SELECT coalesce(max(id), 0), coalesce(max(time), 0.0) FROM log"
        ).fetchone()
        same = database.execute("SELECT body FROM log WHERE time = ?", (last_time,)).fetchall()
        lines = frozenset(body for (body,) in same)
        past = _past(database)
        return Remembered(tuple(rows), tuple(entries), last_id, last_time, lines, past, note)

    def _set_aside(self) -> None:
        """Move the file away, with what belongs to it; only the newest such one is kept."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        self._path.replace(self._path.with_name(self._path.name + _DAMAGED))
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _write(self, batch: Batch) -> None:
        if self._database is None:
            return
        rounds = [(row.round, row.model_dump_json()) for row in batch.rounds.values()]
        entries = [(entry.id, entry.model_dump_json()) for entry in batch.timeline.values()]
        try:
            with self._database as database:
                database.executemany("INSERT OR REPLACE INTO rounds VALUES (?, ?)", rounds)
                database.executemany("INSERT OR REPLACE INTO timeline VALUES (?, ?)", entries)
                database.executemany("INSERT OR REPLACE INTO log VALUES (?, ?, ?)", batch.lines)
                self._batches += 1
                if self._batches % _PRUNE_EVERY == 1:
                    self._prune(database)
        except sqlite3.Error as error:
            self._fail(error)

    def _prune(self, database: sqlite3.Connection) -> None:
        limits = self._limits
        kept = (("rounds", limits.rounds), ("timeline", limits.timeline), ("log", limits.log))
        for table, limit in kept:
            newest = f"SELECT id FROM {table} ORDER BY id DESC LIMIT 1 OFFSET ?"
            database.execute(f"DELETE FROM {table} WHERE id <= ({newest})", (limit,))
        database.execute("DELETE FROM log WHERE time < ?", (time.time() - limits.log_age_s,))

    def _newest(self, table: str, before: int | None, limit: int) -> Sequence[tuple[int, str]]:
        """Return ids and bodies, oldest first; ``table`` is one of our own names."""
        query = f"SELECT id, body FROM {table} WHERE id < ? ORDER BY id DESC LIMIT ?"
        return self._select(query, (2**62 if before is None else before, limit))[::-1]

    def _select(self, query: str, values: tuple[int, ...]) -> list[tuple[int, str]]:
        if self._database is None:
            return []
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._fail(error)
            return []

    def _fail(self, error: Exception) -> None:
        if not self.failure:
            self.failure = f"the page's history is no longer kept: {error}"
            _LOG.warning("%s: %s", self._path, self.failure)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _is_outer(error: Exception) -> bool:
    """Say whether the disk or its rights are to blame rather than what the file holds."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _OUTER


def _past(database: sqlite3.Connection) -> Past:
    """Read what the header says of the whole run."""
    started_at = "SELECT min(json_extract(body, '$.started_at')) FROM rounds"
    loss = (
        "SELECT id, json_extract(body, '$.val_loss') FROM rounds "
        "WHERE json_extract(body, '$.val_loss') IS NOT NULL ORDER BY id {} LIMIT 1"
    )
    first = database.execute(loss.format("ASC")).fetchone()
    last = database.execute(loss.format("DESC")).fetchone()
    return Past(
        started_at=database.execute(started_at).fetchone()[0],
        val_loss_start=first[1] if first else None,
        val_loss=last[1] if last else None,
        val_loss_round=last[0] if last else None,
    )
