"""Lines of the event log: where they come from, and how they read as text.

A line is one JSON object with ``time`` (unix seconds), ``event`` and any further details.
"""

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from skerry.node.cli.wording import printable
from skerry.node.home import Home
from skerry.protocol.errors import DaemonError


def event_lines(home: Home, last: int, follow: bool) -> Iterator[str]:
    """Yield the newest lines from the daemon, or from its file if none runs.

    Raises: DaemonError("SK-DMN-001") if there is neither, or nobody to follow.
    """
    if home.in_use or follow:
        from skerry.node.control_client import ControlClient

        with ControlClient(home.control_socket) as client:
            yield from client.logs(last, follow)
        return
    newest: deque[str] = deque(maxlen=last)
    if not home.events_file.exists():
        detail = f"no daemon runs and {home.events_file} does not exist"
        raise DaemonError("SK-DMN-001", detail)
    # A log that grew large was turned over, and the newest lines may be in both files.
    for path in (home.events_file.with_suffix(".old.jsonl"), home.events_file):
        newest.extend(_lines(path))
    yield from newest


def _lines(path: Path) -> Iterator[str]:
    with suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
        yield from (line.rstrip("\n") for line in file)


def event_text(line: str) -> str:
    """Return one line as "HH:MM:SS event key=value …" in local time.

    A line that was cut by a crash is shown as it is.
    """
    try:
        record = json.loads(line)
        clock = time.strftime("%H:%M:%S", time.localtime(record.pop("time")))
        name = str(record.pop("event"))
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        return printable(line)
    details = " ".join(f"{key}={_text(value)}" for key, value in record.items())
    return printable(f"{clock} {name} {details}".rstrip())


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
