"""How long until a peer trains again: joined, killed and restarted, its compute process killed.

Real daemons over loopback. Each line of JSON names the model, the link and what was waited for;
seconds are from the event itself to the begin of the first inner steps afterwards. What a fresh
process spends on importing torch is measured beside it, since most of each figure is that.

    python bench/restarts.py --repeats 3
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from torch_import import import_seconds

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "integration")]

from swarm import Peer, Swarm  # noqa: E402

LONG_S = 300.0
LINK = "loopback"


def main() -> int:
    """Measure each thing several times in one swarm of three."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(_MEASURES), help="of these")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="skerry-restarts-") as folder,
        Swarm(Path(folder)) as swarm,
    ):
        peers = swarm.start("a", "b", "c", "joiner")
        swarm.begin(peers[:3], 0, steps=100, replay=2)
        peers[0].wait_for("applied", patience=LONG_S, round=4)
        model = f"{peers[0].status().run.params} parameters"
        for name in options.only or _MEASURES:
            measure = _MEASURES[name]
            found = [measure(swarm, peers) for _ in range(options.repeats)]
            print(json.dumps({"what": name, "model": model, "link": LINK, **_middle(found)}))
        swarm.stop()
    return 0


def _join(swarm: Swarm, peers: list[Peer]) -> dict[str, float]:
    """A peer takes part for the first time: nothing of the run is on its disk."""
    joiner = peers[3]
    mark, began = joiner.mark(), time.time()
    joiner.client.join(swarm.token)
    fetched = joiner.wait_for("state-downloaded", mark, LONG_S)
    trains = _trains(joiner, mark)
    joiner.client.leave()
    home = joiner.home.runs
    home.rename(home.with_name(f"runs-{time.time_ns()}"))
    loading = next(e for e in joiner.log.events[mark:] if e.get("phase") == "loading")
    return {
        "seconds": trains - began,
        "compute_process_s": loading["time"] - began,
        "chain_and_state_s": fetched["time"] - loading["time"],
        "replay_and_admission_s": trains - fetched["time"],
        **_own_import(),
    }


def _killed(swarm: Swarm, peers: list[Peer]) -> dict[str, float]:
    """SIGKILL to a daemon, started again at once; its memory of the run is on its disk."""
    victim = peers[2]
    began, mark = time.time(), len(victim.recorded())
    victim.kill()
    victim.restart()
    victim.ready()
    return {"seconds": _trains(victim, mark) - began, **_own_import()}


def _compute(swarm: Swarm, peers: list[Peer]) -> dict[str, float]:
    """SIGKILL to a compute process; its daemon starts another one."""
    victim = peers[1]
    pid, mark, began = victim.pid_of("compute"), victim.mark(), time.time()
    os.kill(pid, signal.SIGKILL)
    lost = victim.wait_for("phase", mark, LONG_S, phase="starting")
    mark = victim.log.events.index(lost)  # before that, the old process may have begun a round
    return {"seconds": _trains(victim, mark) - began, **_own_import()}


def _trains(peer: Peer, mark: int) -> float:
    """Return when inner steps begin for the first time after event ``mark``, in Unix seconds."""
    started = peer.wait_for("phase", mark, LONG_S, phase="training")
    return float(started["time"])


def _own_import() -> dict[str, float]:
    return {"import_torch_s": import_seconds()}


def _middle(found: list[dict[str, float]]) -> dict[str, object]:
    middle = {key: round(statistics.median(one[key] for one in found), 2) for key in found[0]}
    return {**middle, "all_seconds": [round(one["seconds"], 2) for one in found]}


_MEASURES: dict[str, Callable[[Swarm, list[Peer]], dict[str, float]]] = {
    "compute process killed": _compute,
    "join": _join,
    "peer killed and restarted": _killed,
}


if __name__ == "__main__":
    sys.exit(main())
