"""What a daemon costs: idle, with its status page, with readers of the page, and while it applies.

Starts three real daemons: one without a page, one with, and one that trains alone while five
browsers show its page and another reader asks it again and again. The first two do nothing; the
difference between them is the page's. Of the node process alone; its p2pd is given beside it.
Without Playwright and Chromium, five event streams stand for the browsers. Linux only. Exits with
1 if the event loop lets wait for longer than the target while a round is applied.

    python bench/daemon.py --json
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from event_readers import event_readers
from lone_daemon import APPLYING, loop_times_ms, run_file, summary
from page_readers import Load, chromium, page_readers
from skerry.node.demo_swarm import LocalDaemon, LocalSwarm
from usage import over, usage

READERS = 5
TARGET_MS = 50.0
"""Of the event loop's lag, p99, while a round is applied."""
SETTLE_S = 5.0
"""A daemon that has just started still imports and opens its first connections."""
LIMIT_S = 600.0


@dataclass(slots=True)
class Lag:
    """How long answers took, in ms, by what the compute process was doing."""

    seen: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """As the reader saw it."""
    given_a_core: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Less what the event loop was ready to run and the kernel gave it no core."""
    worked: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Longest that the event loop was at work during one question."""

    def ask(self, connection: http.client.HTTPConnection, pid: int) -> bool:
        """Ask for the run once; return whether it is over."""
        worked, waited = loop_times_ms(pid)
        began = time.perf_counter()
        connection.request("GET", "/api/v1/run")
        text = connection.getresponse().read()
        took_ms = 1000 * (time.perf_counter() - began)
        worked_after, waited_after = loop_times_ms(pid)
        answer = json.loads(text)
        doing = answer["node"]["compute"]
        self.seen[doing].append(took_ms)
        self.given_a_core[doing].append(max(0.0, took_ms - (waited_after - waited)))
        self.worked[doing] = max(self.worked[doing], worked_after - worked)
        return bool(answer["run"] and answer["run"]["finished"])

    def as_data(self) -> dict[str, object]:
        """Return the figures."""
        return {
            "lag_while_applying": summary(self.seen[APPLYING]),
            "lag_while_applying_given_a_core": summary(self.given_a_core[APPLYING]),
            "lag_at_any_time": summary([ms for some in self.seen.values() for ms in some]),
            "loop_at_work_max_ms_while_applying": round(self.worked[APPLYING], 2),
        }


def start(swarm: LocalSwarm, name: str, page: bool) -> LocalDaemon:
    """Start a daemon with or without its page."""
    os.environ["SKERRY_PAGE__ENABLED"] = str(page).lower()
    os.environ["SKERRY_PAGE__PORT"] = "0"
    daemon = swarm.start(name)
    daemon.wait_until_ready()
    return daemon


def p2pd_of(daemon: LocalDaemon) -> int:
    """Return the process id of a daemon's network process."""
    children = psutil.Process(daemon.process.pid).children()
    return next(child.pid for child in children if "p2pd" in child.name())


@contextmanager
def watchers(url: str) -> Iterator[list[Load]]:
    """Have people look at the page, in browsers where there are any; yields what loading took."""
    executable = chromium()
    if executable is None:
        with event_readers(url, READERS):
            yield []
    else:
        with page_readers(url, READERS, executable) as loads:
            yield loads


def idle(swarm: LocalSwarm, seconds: float) -> dict[str, object]:
    """Compare daemons that take part in no run."""
    without, paged = start(swarm, "without", page=False), start(swarm, "paged", page=True)
    url = paged.client.status().page_url
    time.sleep(SETTLE_S)
    bare, page, p2pd = over(seconds, without.process.pid, paged.process.pid, p2pd_of(paged))
    with event_readers(url, 1) as (reader,):
        time.sleep(SETTLE_S)
        began = reader.num_bytes
        (streamed,) = over(seconds, paged.process.pid)
        per_reader = (reader.num_bytes - began) / seconds
    with watchers(url) as loads:
        time.sleep(SETTLE_S)
        (watched,) = over(seconds, paged.process.pid)
    for daemon in (without, paged):
        daemon.client.stop()
    return {
        "idle_without_page": bare,
        "idle": page,
        "idle_p2pd": p2pd,
        "with_1_stream": streamed,
        "bytes_per_s_and_reader": round(per_reader),
        f"with_{READERS}_watchers": watched,
        "page_loads": [asdict(load) for load in loads],
    }


def busy(swarm: LocalSwarm, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Ask a daemon that trains alone, while others watch it, how long its loop lets wait."""
    daemon = start(swarm, "alone", page=True)
    url = daemon.client.status().page_url
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    lag, pid = Lag(), daemon.process.pid
    with watchers(url):
        daemon.client.init(run_file(folder, options.rounds, options.layers, options.steps))
        before, deadline = usage(pid), time.monotonic() + LIMIT_S
        while not lag.ask(connection, pid):
            daemon.check_running()
            if time.monotonic() > deadline:
                raise SystemExit("the run does not end")
            time.sleep(options.pause)
        while_training = usage(pid).since(before)
    connection.close()
    params = daemon.client.status().run.params
    return {"params": params, "node": while_training, **lag.as_data()}


def measure(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Run both parts, one after the other."""
    load = [round(value, 1) for value in os.getloadavg()]
    with LocalSwarm(folder) as swarm:
        resting = idle(swarm, options.seconds)
        working = busy(swarm, folder, options)
        leftovers = swarm.stop()
    if leftovers:
        raise SystemExit(f"left behind: {leftovers}")
    return {
        "bench": "daemon",
        "commit": commit(),
        "watchers": "browsers" if chromium() else "streams",
        "load_average": load,
        "seconds": options.seconds,
        **resting,
        "while_training": working,
        "target_ms": TARGET_MS,
    }


def commit() -> str:
    """Return the commit that is measured, marked where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    """Measure and print; exits with 1 if the target is missed."""
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
    lag = result["while_training"]["lag_while_applying"]  # type: ignore[index]
    return int(lag["p99_ms"] > TARGET_MS or not lag["samples"])


if __name__ == "__main__":
    sys.exit(main())
