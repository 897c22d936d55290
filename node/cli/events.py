"""Lines of the event log: where they come from, which are wanted, and how they read as text.

A line is one JSON object with ``time`` (unix seconds), ``event`` and any further details.
"""

import json
import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from skerry.node.cli.wording import clock, name_of, printable
from skerry.node.home import Home
from skerry.protocol.errors import DaemonError
from skerry.protocol.ids import is_hash

ALL_LINES = 10**6
_HASH_DIGITS = 8
_NAMES_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines of a log to print."""

    last: int = ALL_LINES
    """The newest so many; with ``follow``, of all lines before those to come."""
    names: frozenset[str] = frozenset()
    """Events of these names; empty: of any."""
    since: float = 0.0
    """Not before, unix seconds."""

    @property
    def all(self) -> bool:
        """Whether no line is passed over for what it says."""
        return not self.names and not self.since

    def takes(self, line: str) -> bool:
        """Say whether a line is wanted; one that a crash cut short says nothing to choose by."""
        if self.all:
            return True
        record = _record_of(line)
        named = not self.names or record.get("event") in self.names
        return bool(record) and named and record["time"] >= self.since


def event_lines(home: Home, wanted: Wanted, follow: bool) -> Iterator[str]:
    """Yield the wanted lines from the daemon, or from its file if none runs.

    Raises: DaemonError("SK-DMN-001") if there is neither, or nobody to follow.
    """
    if follow:
        yield from filter(wanted.takes, _daemon_lines(home, wanted.last, follow=True))
        return
    if home.in_use:
        lines = _daemon_lines(home, wanted.last if wanted.all else ALL_LINES, follow=False)
    else:
        lines = _file_lines(home)
    yield from deque(filter(wanted.takes, lines), maxlen=wanted.last)


def _daemon_lines(home: Home, last: int, follow: bool) -> Iterator[str]:
    from skerry.node.control_client import ControlClient

    with ControlClient(home.control_socket) as client:
        yield from client.logs(last, follow)


def _file_lines(home: Home) -> Iterator[str]:
    if not home.events_file.exists():
        detail = f"no daemon runs and {home.events_file} does not exist"
        raise DaemonError("SK-DMN-001", detail)
    # A log that grew large was turned over, and the newest lines may be in both files.
    for path in (home.events_file.with_suffix(".old.jsonl"), home.events_file):
        with suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
            yield from (line.rstrip("\n") for line in file)


def known_names(home: Home) -> list[str]:
    """Return the names of the events in the newest part of a home's log; none without one."""
    try:
        with home.events_file.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _NAMES_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return sorted({record["event"] for line in lines if (record := _record_of(line))})


def _record_of(line: str) -> dict[str, Any]:
    """Return a line of the event log as data; empty if it is not a whole one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    named = isinstance(record, dict) and isinstance(record.get("event"), str)
    return record if named and type(record.get("time")) in (int, float) else {}


def event_text(line: str) -> str:
    """Return one line as "HH:MM:SS event key=value …" in local time, with ids and hashes short.

    A line that was cut by a crash is shown as it is.
    """
    record = _record_of(line)
    if not record:
        return printable(line)
    time, name = clock(record.pop("time")), record.pop("event")
    details = " ".join(f"{key}={_text(value)}" for key, value in record.items())
    return printable(f"{time} {name} {details}".rstrip())


def _text(value: object) -> str:
    match value:
        case str():
            return value[:_HASH_DIGITS] if is_hash(value) else name_of(value)
        case list():
            return f"[{' '.join(map(_text, value))}]"
        case dict():
            return "{" + " ".join(f"{key}={_text(item)}" for key, item in value.items()) + "}"
        case float():
            return f"{value:.6g}"
        case _:
            return json.dumps(value)
