"""What each process of a swarm holds at one moment: memory, open files, threads, processor time."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from skerry.node.demo_swarm import LocalDaemon

ROLES = ("node", "compute", "p2pd")
_WORKER = "skerry.pipeline.worker"


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment."""

    peer: str
    role: str
    pid: int
    at_s: float
    """Seconds since the soak began."""
    round: int
    """Newest round of the peer that has begun."""
    resident_bytes: int
    unique_bytes: int
    """What ending this process alone would free (USS)."""
    proportional_bytes: int
    """Shared pages divided by those who share them (PSS)."""
    num_fds: int
    num_threads: int
    cpu_s: float

    @property
    def name(self) -> str:
        """Peer and role; a process that took another's place has its name."""
        return f"{self.peer} {self.role}"

    def as_line(self) -> str:
        """Return it as one line of the file of samples."""
        return json.dumps(asdict(self)) + "\n"


def stored(file: Path) -> list[Reading]:
    """Read a file of samples, of a soak that has ended or not."""
    return [Reading(**json.loads(line)) for line in file.read_text().splitlines()]


@dataclass(frozen=True, slots=True)
class Moment:
    """When a reading is taken, and of which round."""

    began: float
    """Monotonic seconds at which the soak began."""
    round: int


def role_of(process: psutil.Process) -> str:
    """Say what a child of a daemon does; a new kind of child shows under its own name."""
    if _WORKER in process.cmdline():
        return "compute"
    return "p2pd" if "p2pd" in process.name() else process.name()


def processes(daemon: LocalDaemon) -> dict[str, psutil.Process]:
    """Return a daemon's processes by role: its own and its children's."""
    node = psutil.Process(daemon.process.pid)
    return {"node": node} | {role_of(child): child for child in node.children()}


def read(peer: str, role: str, process: psutil.Process, moment: Moment) -> Reading:
    """Read one process. Raises: psutil.Error if it has ended."""
    with process.oneshot():
        memory = process.memory_full_info()
        times = process.cpu_times()
        return Reading(
            peer=peer,
            role=role,
            pid=process.pid,
            at_s=round(time.monotonic() - moment.began, 2),
            round=moment.round,
            resident_bytes=memory.rss,
            unique_bytes=memory.uss,
            proportional_bytes=memory.pss,
            num_fds=process.num_fds(),
            num_threads=process.num_threads(),
            cpu_s=times.user + times.system,
        )


def folder_bytes(folders: Iterable[Path]) -> int:
    """Return how much all files below some folders hold; one removed meanwhile counts nothing."""
    total = 0
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                total += path.lstat().st_size
            except FileNotFoundError:
                continue
    return total
