"""An hour of a small swarm: does any of its processes grow?

Starts real daemons with their status pages, one reader of an event stream, and a run without end;
reads memory, open files and threads of every process every ten seconds; and draws a line through
what was read after the warm-up. Reads /proc, so Linux only. Exits with 1 if something grows or does
not end when it is told to.

    python bench/soak.py                           # an hour
    python bench/soak.py --minutes 5 --warm-up 1   # a look
    python bench/soak.py --from FOLDER/samples.jsonl   # of an earlier one that kept its FOLDER
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from event_readers import EventReader, event_readers
from skerry.node.demo_swarm import INTERRUPTS
from soaking.readings import Reading, folder_bytes, stored
from soaking.report import ProcessReport, as_data, markdown, reports, table
from soaking.swarm import GentleSwarm, gentle_swarm

INTERRUPTED = 130
RESULTS = Path(__file__).parent / "results"
_NICE = 10


@dataclass(slots=True)
class Soak:
    """One soak: what it is told, and what it has read so far."""

    options: argparse.Namespace
    folder: Path
    readings: list[Reading] = field(default_factory=list)
    disk_bytes: list[int] = field(default_factory=list)
    """All homes together, once per reading."""
    reader: EventReader | None = None
    left_behind: list[str] = field(default_factory=list)
    interrupted: bool = False

    def run(self, progress: Progress) -> None:
        """Start everything, watch it for the time given, and end it."""
        seconds = 60 * self.options.minutes
        task = progress.add_task("starting", total=seconds)
        with ExitStack() as stack:
            lines = stack.enter_context((self.folder / "samples.jsonl").open("w"))
            swarm = stack.enter_context(gentle_swarm(self.folder, self.options.peers))
            self.left_behind = swarm.left_behind
            (self.reader,) = stack.enter_context(event_readers(swarm.page_url, 1))
            began, due_s = time.monotonic(), 0.0
            try:
                while (passed_s := time.monotonic() - began) < seconds:
                    if passed_s >= due_s:
                        self._read(swarm, began, lines)
                        due_s += self.options.every
                    progress.update(task, completed=passed_s, description=self._now())
                    self._let_train(swarm)
                self._read(swarm, began, lines)
            except KeyboardInterrupt:
                self.interrupted = True

    def _let_train(self, swarm: GentleSwarm) -> None:
        """Have the swarm train for its share of one period."""
        trains_s = self.options.duty * self.options.period
        swarm.let_train(True)
        time.sleep(trains_s)
        swarm.let_train(False)
        time.sleep(self.options.period - trains_s)

    def _read(self, swarm: GentleSwarm, began: float, lines: TextIO) -> None:
        swarm.check()
        now = swarm.read(began)
        self.readings += now
        self.disk_bytes.append(folder_bytes(daemon.home.path for daemon in swarm.daemons))
        lines.writelines(one.as_line() for one in now)
        lines.flush()

    def _now(self) -> str:
        return f"round {self.readings[-1].round}" if self.readings else "starting"


def environment() -> dict[str, object]:
    """Return what the figures depend on: commit, hardware, versions."""
    here = Path(__file__).parent
    commit = _git(here, "rev-parse", "--short", "HEAD")
    return {
        "commit": commit + ("-dirty" if _git(here, "status", "--porcelain", "-uno") else ""),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def result(soak: Soak, found: Sequence[ProcessReport]) -> dict[str, object]:
    """Return everything as data."""
    last = soak.readings[-1]
    return {
        "bench": "soak",
        "command": f"python bench/soak.py {' '.join(sys.argv[1:])}".strip(),
        **environment(),
        "peers": soak.options.peers,
        "minutes": round(last.at_s / 60, 1),
        "warm_up_minutes": soak.options.warm_up,
        "rounds": last.round,
        "swarm_cpu_percent": round(sum(one.cpu_percent for one in found), 1),
        "events_read": soak.reader.num_events if soak.reader else None,
        "event_bytes_read": soak.reader.num_bytes if soak.reader else None,
        "disk_bytes": [soak.disk_bytes[0], soak.disk_bytes[-1]] if soak.disk_bytes else None,
        "interrupted": soak.interrupted,
        "left_behind": soak.left_behind,
        "is_flat": all(one.is_flat for one in found),
        "processes": [as_data(one) for one in found],
    }


def page(data: dict[str, object], found: Sequence[ProcessReport]) -> str:
    """Return the dated page."""
    notes = {name: value for name, value in data.items() if name not in ("bench", "processes")}
    listed = "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in notes.items())
    return f"# Soak of a small swarm\n\n{listed}\n\n{markdown(found)}\n"


def options_from(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--minutes", type=float, default=60.0)
    add("--warm-up", type=float, default=10.0, metavar="MINUTES", help="not part of the line")
    add("--every", type=float, default=10.0, metavar="SECONDS", help="between two readings")
    add("--peers", type=int, default=3)
    add("--duty", type=float, default=0.1, help="share of the time that training may take")
    add("--period", type=float, default=2.0, metavar="SECONDS", help="of training and rest")
    add("--from", type=Path, dest="samples", metavar="FILE", help="report on it, start nothing")
    add("--folder", type=Path, help="keep homes, logs and samples.jsonl there")
    add("--write", action="store_true", help="write a dated page into bench/results")
    add("--json", action="store_true", help="one line of JSON alone")
    options = parser.parse_args(arguments)
    if not options.warm_up < options.minutes:
        parser.error("--warm-up leaves nothing of --minutes")
    if not 0 < options.duty <= 1:
        parser.error("--duty is a share: more than 0, at most 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak and print; exits with 1 if something grows, with 130 after Ctrl-C."""
    options = options_from(arguments)
    console = Console(stderr=True)
    soak = soaked(options, console)
    found = reports(soak.readings, 60 * options.warm_up)
    if not found:
        console.print("ended before the warm-up did: nothing to say")
        return INTERRUPTED
    data = result(soak, found)
    if not options.json:
        Console(width=160).print(table(found))
    print(json.dumps(data))
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{time.strftime('%Y-%m-%d')}_soak.md").write_text(page(data, found))
    return INTERRUPTED if soak.interrupted else int(not data["is_flat"] or bool(soak.left_behind))


def soaked(options: argparse.Namespace, console: Console) -> Soak:
    """Soak, or read what an earlier soak has read."""
    if options.samples:
        return Soak(options, options.samples.parent, stored(options.samples))
    os.nice(_NICE)
    os.environ["SKERRY_PAGE__PORT"] = "0"
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="skerry-soak-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        soak = Soak(options, folder)
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            soak.run(progress)
    return soak


def interrupt(number: int, frame: FrameType | None) -> None:
    """Treat every polite end like Ctrl-C, so that no daemon is left."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    for one in INTERRUPTS:
        signal.signal(one, interrupt)
    sys.exit(main())
