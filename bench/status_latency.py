"""How long a daemon takes to answer Status, above all while it applies a round.

Starts one real daemon that trains alone, with a model large enough that applying takes
noticeable time, and asks for the status again and again over one connection to the control
socket. Prints one JSON line; times in milliseconds as the caller sees them.

    python bench/status_latency.py --rounds 6
"""

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from lone_daemon import APPLYING, loop_times_ms, run_file, summary
from skerry.node.demo_swarm import LocalDaemon, LocalSwarm
from skerry.proto import control_pb2 as pb

TARGET_MS = 100.0
_START_SECONDS = 300.0


@dataclass
class Samples:
    """Answer times by what the compute process was doing, in ms."""

    by_state: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    slow: list[dict[str, object]] = field(default_factory=list)
    """Every answer over the target."""
    loop_on_cpu_ms: float = 0.0
    """Longest that the daemon's event loop was at work during one question."""

    def take(self, daemon: LocalDaemon, timeout_s: float = 30.0) -> pb.StatusReply:
        """Ask once."""
        worked, waited = loop_times_ms(daemon.process.pid)
        began = time.perf_counter()
        reply = daemon.client.status(deadline=timeout_s)
        took_ms = 1000 * (time.perf_counter() - began)
        worked_after, waited_after = loop_times_ms(daemon.process.pid)
        self.loop_on_cpu_ms = max(self.loop_on_cpu_ms, worked_after - worked)
        self.by_state[reply.compute].append(took_ms)
        if took_ms > TARGET_MS:
            times = {"ms": took_ms, "worked_ms": worked_after - worked}
            times["waited_for_a_cpu_ms"] = waited_after - waited
            rounded = {name: round(value, 1) for name, value in times.items()}
            self.slow.append({"compute": reply.compute, **rounded})
        return reply


def measure(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Run a daemon through all rounds and ask it all the while."""
    samples, applying_s, began = Samples(), 0.0, time.monotonic()
    with LocalSwarm(folder) as swarm:
        daemon = swarm.start("alone")
        daemon.wait_until_ready()
        daemon.client.init(run_file(folder, options.rounds, options.layers, options.steps))
        last = time.perf_counter()
        while not (reply := samples.take(daemon)).run.finished:
            now = time.perf_counter()
            applying_s += (now - last) if reply.compute == APPLYING else 0.0
            last = now
            daemon.check_running()
            time.sleep(options.pause)
            if time.monotonic() > began + _START_SECONDS + 60 * options.rounds:
                raise SystemExit("the run does not end")
        leftovers = swarm.stop()
    if leftovers:
        raise SystemExit(f"left behind: {leftovers}")
    everything = [value for values in samples.by_state.values() for value in values]
    applying = summary(samples.by_state[APPLYING])
    return {
        "bench": "status_latency",
        "params": reply.run.params,
        "rounds": options.rounds,
        "p50_ms": applying["p50_ms"],
        "p99_ms": applying["p99_ms"],
        "max_ms": applying["max_ms"],
        "samples_while_applying": applying["samples"],
        "applying_s_per_round": round(applying_s / options.rounds, 2),
        "all": summary(everything),
        "by_compute_state": {name: summary(v) for name, v in sorted(samples.by_state.items())},
        "loop_on_cpu_max_ms": round(samples.loop_on_cpu_ms, 2),
        "over_target": samples.slow[:20],
        "target_ms": TARGET_MS,
    }


def main() -> int:
    """Print the result; exits with 1 if an answer during an update took longer than the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--layers", type=int, default=8, help="of 3 M parameters each")
    parser.add_argument("--steps", type=int, default=2, help="inner steps per round")
    parser.add_argument("--pause", type=float, default=0.005, help="seconds between two questions")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
        result = measure(Path(folder), options)
    print(json.dumps(result))
    return int(result["max_ms"] > TARGET_MS or not result["samples_while_applying"])  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
