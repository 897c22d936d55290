"""What a process uses while one watches: processor time, wakeups, memory. Reads /proc."""

import time
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process has used so far."""

    at_s: float
    cpu_s: float
    wakeups: int
    """Voluntary context switches of all threads."""
    resident_bytes: int

    def since(self, before: "Usage") -> dict[str, float]:
        """Return rates from ``before`` until now, and the memory it holds now."""
        passed_s = self.at_s - before.at_s
        return {
            "cpu_percent": round(100 * (self.cpu_s - before.cpu_s) / passed_s, 3),
            "wakeups_per_s": round((self.wakeups - before.wakeups) / passed_s, 1),
            "resident_mb": round(self.resident_bytes / 1e6, 1),
        }


def usage(pid: int) -> Usage:
    """Read what a process has used."""
    process = psutil.Process(pid)
    tasks = [_thread(task) for task in Path(f"/proc/{pid}/task").iterdir()]
    cpu_s, wakeups = sum(cpu_s for cpu_s, _ in tasks), sum(number for _, number in tasks)
    return Usage(time.monotonic(), cpu_s, wakeups, process.memory_info().rss)


def over(seconds: float, *pids: int) -> list[dict[str, float]]:
    """Watch processes for a while."""
    before = [usage(pid) for pid in pids]
    time.sleep(seconds)
    return [usage(pid).since(then) for pid, then in zip(pids, before, strict=True)]


def _thread(task: Path) -> tuple[float, int]:
    """Return a thread's seconds on a CPU, to the nanosecond, and its wakeups."""
    worked_ns = int((task / "schedstat").read_text().split()[0])
    lines = (task / "status").read_text().splitlines()
    (switches,) = (line for line in lines if line.startswith("voluntary_ctxt_switches:"))
    return worked_ns / 1e9, int(switches.split()[1])
