"""What a daemon costs: idle, with its status page, with readers of the page, and while it applies.

Starts three real daemons: one without a page, one with, and one that trains alone with five open
event streams while its page is asked again and again. The first two do nothing; the difference
between them is the page's. Reads /proc, so Linux only. Of the node process alone; its p2pd is
given beside it.

    python bench/daemon.py --json
"""

import argparse
import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import psutil

from skerry.node.demo_swarm import LocalDaemon, LocalSwarm
from status_latency import _RUN, _WORDS, APPLYING, loop_times_ms, summary

READERS = 5
SETTLE_S = 5.0
"""A daemon that has just started still imports and opens its first connections."""
LIMIT_S = 600.0


@dataclass(frozen=True)
class Usage:
    """What one process has used so far."""

    at: float
    cpu_s: float
    wakeups: int
    """Voluntary context switches of all threads."""
    resident_bytes: int

    def since(self, before: "Usage") -> dict[str, float]:
        """Return rates from ``before`` until now."""
        passed = self.at - before.at
        return {
            "cpu_percent": round(100 * (self.cpu_s - before.cpu_s) / passed, 3),
            "wakeups_per_s": round((self.wakeups - before.wakeups) / passed, 1),
            "resident_mb": round(self.resident_bytes / 1e6, 1),
        }


def usage(pid: int) -> Usage:
    """Read what a process has used."""
    process = psutil.Process(pid)
    wakeups = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                wakeups += int(line.split()[1])
    times = process.cpu_times()
    memory = process.memory_info().rss
    return Usage(time.monotonic(), times.user + times.system, wakeups, memory)


def p2pd_of(daemon: LocalDaemon) -> int:
    """Return the process id of a daemon's network process."""
    children = psutil.Process(daemon.process.pid).children()
    return next(child.pid for child in children if "p2pd" in child.name())


def over(seconds: float, *pids: int) -> list[dict[str, float]]:
    """Watch processes for a while."""
    before = [usage(pid) for pid in pids]
    time.sleep(seconds)
    return [usage(pid).since(then) for pid, then in zip(pids, before, strict=True)]


@contextmanager
def readers(url: str, count: int) -> Iterator[list[int]]:
    """Keep event streams open; yields how many bytes each has read."""
    read, connections = [0] * count, []

    def follow(number: int, answer: http.client.HTTPResponse) -> None:
        try:
            while data := answer.read1(65536):
                read[number] += len(data)
        except (OSError, ValueError, AttributeError):  # closed below
            return

    threads = []
    for number in range(count):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        connection.request("GET", "/api/v1/events")
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"no event stream: {answer.status}")
        connections.append((connection, answer))
        threads.append(threading.Thread(target=follow, args=(number, answer), daemon=True))
        threads[-1].start()
    try:
        yield read
    finally:
        for connection, _ in connections:
            if connection.sock is not None:
                connection.sock.close()


def start(swarm: LocalSwarm, name: str, page: bool) -> LocalDaemon:
    """Start a daemon with or without its page."""
    os.environ["SKERRY_PAGE__ENABLED"] = str(page).lower()
    try:
        daemon = swarm.start(name)
    finally:
        del os.environ["SKERRY_PAGE__ENABLED"]
    daemon.wait_until_ready()
    return daemon


def idle(swarm: LocalSwarm, seconds: float) -> dict[str, object]:
    """Compare daemons that take part in no run."""
    without, paged = start(swarm, "without", page=False), start(swarm, "paged", page=True)
    time.sleep(SETTLE_S)
    pids = [without.process.pid, paged.process.pid, p2pd_of(paged)]
    bare, page, p2pd = over(seconds, *pids)
    with readers(paged.client.status().page_url, READERS) as read:
        time.sleep(SETTLE_S)
        began = sum(read)
        (watched,) = over(seconds, paged.process.pid)
        per_reader = (sum(read) - began) / READERS / seconds
    for daemon in (without, paged):
        daemon.client.stop()
    return {
        "idle_without_page": bare,
        "idle": page,
        "idle_p2pd": p2pd,
        f"with_{READERS}_readers": watched,
        "bytes_per_s_and_reader": round(per_reader),
    }


def busy(swarm: LocalSwarm, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Ask a daemon that trains alone, with readers of its page, how long its loop lets wait."""
    text = folder / "text.txt"
    random = Random(1)
    text.write_text("\n".join(" ".join(random.choices(_WORDS, k=8)) for _ in range(2000)))
    daemon = start(swarm, "alone", page=True)
    url = daemon.client.status().page_url
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    run = _RUN.format(rounds=options.rounds, layers=options.layers, text=text, steps=options.steps)
    daemon.client.init(run)
    lags: dict[str, list[float]] = {}
    worked_ms, deadline = 0.0, time.monotonic() + LIMIT_S
    with readers(url, READERS):
        before = usage(daemon.process.pid)
        while time.monotonic() < deadline:
            loop_before, _ = loop_times_ms(daemon.process.pid)
            began = time.perf_counter()
            connection.request("GET", "/api/v1/run")
            answer = json.loads(connection.getresponse().read())
            took_ms = 1000 * (time.perf_counter() - began)
            loop_after, _ = loop_times_ms(daemon.process.pid)
            worked_ms = max(worked_ms, loop_after - loop_before)
            lags.setdefault(answer["node"]["compute"], []).append(took_ms)
            if answer["run"] and answer["run"]["finished"]:
                break
            time.sleep(options.pause)
        else:
            raise SystemExit("the run does not end")
        while_training = usage(daemon.process.pid).since(before)
    connection.close()
    return {
        "params": answer["run"]["params"],
        "applying": summary(lags.get(APPLYING, [])),
        "all": summary([value for values in lags.values() for value in values]),
        "loop_on_cpu_max_ms": round(worked_ms, 2),
        "usage": while_training,
    }


def measure(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Run both parts, one after the other."""
    with LocalSwarm(folder) as swarm:
        resting = idle(swarm, options.seconds)
        working = busy(swarm, folder, options)
        leftovers = swarm.stop()
    if leftovers:
        raise SystemExit(f"left behind: {leftovers}")
    return {"bench": "daemon", "seconds": options.seconds, **resting, "while_training": working}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each idle part")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--layers", type=int, default=8, help="blocks of the model")
    parser.add_argument("--steps", type=int, default=2, help="inner steps per round")
    parser.add_argument("--pause", type=float, default=0.005, help="seconds between questions")
    parser.add_argument("--json", action="store_true", help="one line instead of indented lines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
        result = measure(Path(folder), options)
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    sys.exit(main())
