"""A long soak of the simulated swarm under the churn of a spot market.

Peers are taken away in bursts of up to six, 0.6 times an hour each, and replaced after five minutes
in the mean, while rounds take four minutes: of eight peers one is lost in every third round.
What is asked: that every invariant of the rounds holds, and how much of the text tokens of an
undisturbed swarm is trained. The soak is run in segments; --out keeps what is done, so that it may
be stopped and started again.

    python tests/chaos/churn.py --rounds 16000 --out churn.jsonl
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "protocol" / "rounds")]

from fault_plan import FaultPlan, draw_churn  # noqa: E402
from simulated_faults import run_plan  # noqa: E402

ROUND_S = 240.0
"""What a round stands for; simulated_faults.py lets it pass in ten seconds, ten heartbeats."""
PER_HOUR = 0.6
"""Losses of each peer (Bamboo's p3 trace: 0.611)."""
AWAY_S = 300.0
SEGMENT_ROUNDS = 250
CALM_ROUNDS = 50
"""Of the undisturbed swarm that a segment is compared with."""
GOAL = 0.85


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of the soak."""

    seed: int
    peers: int
    rounds: int
    failures: int
    goodput: float
    """Text tokens per second over those of the undisturbed swarm."""


def run_segment(seed: int, peers: int, rounds: int) -> Segment:
    """Run one piece. Raises: AssertionError if an invariant does not hold."""
    calm = run_plan(FaultPlan(seed, peers, min(rounds, CALM_ROUNDS), ()), replay=rounds)
    per_round = PER_HOUR * ROUND_S / 3600
    plan = draw_churn(seed, peers, rounds, per_round, AWAY_S / ROUND_S)
    outcome = run_plan(plan, replay=rounds)  # nobody is away for so long as to need a download
    return Segment(seed, peers, rounds, outcome.failures, outcome.rate / calm.rate)


def summary(done: Sequence[Segment]) -> dict[str, float | int]:
    """Return what all pieces come to together."""
    rounds = sum(one.rounds for one in done)
    return {
        "segments": len(done),
        "rounds": rounds,
        "failures": sum(one.failures for one in done),
        "goodput": round(sum(one.goodput * one.rounds for one in done) / max(1, rounds), 4),
        "worst": round(min((one.goodput for one in done), default=0.0), 4),
    }


def read(path: Path) -> list[Segment]:
    """Return what is done; a last line cut short by a kill is left out."""
    text = path.read_text() if path.exists() else ""
    whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [Segment(**json.loads(line)) for line in whole]


def main() -> int:
    """Run what is missing, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=16_000, help="of all segments together")
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("churn.jsonl"))
    options = parser.parse_args()
    wanted = range(-(-options.rounds // SEGMENT_ROUNDS))
    for seed in wanted:
        if any((one.seed, one.peers) == (seed, options.peers) for one in read(options.out)):
            continue
        segment = run_segment(seed, options.peers, SEGMENT_ROUNDS)
        with options.out.open("a") as file:
            file.write(json.dumps(asdict(segment)) + "\n")
        print(json.dumps(asdict(segment)), file=sys.stderr)
    found = summary([one for one in read(options.out) if one.peers == options.peers])
    print(json.dumps(found))
    return int(found["goodput"] < GOAL)


if __name__ == "__main__":
    sys.exit(main())
