"""Let many things go wrong by a seeded plan, in the simulated swarm or among real processes.

Prints one line of JSON: which kinds of faults have hit which phases, which faults never saw theirs
("elsewhere") or could not be brought about ("skipped"), and that the run came to one state on all
peers with every text token counted once; exits with 1 and the plan if it did not. A plan that broke
something is run again by its seed and sizes.

    python bench/chaos.py --seed 7 --faults 500            # simulated: some hundreds a minute
    python bench/chaos.py --seed 7 --faults 40 --real      # daemons: half a minute each
    python bench/chaos.py --seed 7 --faults 9 --real --phase join --phase transfer
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / folder) for folder in ("", "chaos", "integration", "protocol/rounds")]

from fault_plan import SIMULATED, FaultPlan, Kind, Phase, draw_plan, to_json  # noqa: E402

ROUNDS_PER_FAULT = 4
SPARE_ROUNDS = 12
"""So many a peer may be away to miss more than it can replay, and be waited for before that."""


def main() -> int:
    """Draw a plan, run it, and say what came of it."""
    options = _options()
    kinds = [Kind(name) for name in options.kind] or (Kind if options.real else SIMULATED)
    phases = [Phase(name) for name in options.phase] or Phase
    rounds = SPARE_ROUNDS + ROUNDS_PER_FAULT * options.faults
    plan = draw_plan(
        options.seed, options.peers, rounds, options.faults, tuple(kinds), tuple(phases)
    )
    try:
        print(_real(plan, options.keep) if options.real else _simulated(plan))
    except AssertionError as error:
        print(error, to_json(plan), sep="\n", file=sys.stderr)
        return 1
    return 0


def _simulated(plan: FaultPlan) -> str:
    from simulated_faults import run_plan

    began = time.perf_counter()
    outcome = run_plan(plan)
    found = {
        "seed": plan.seed,
        **outcome.tally.fields(),
        "rounds": plan.rounds,
        "text_tokens": outcome.text_tokens,
        "simulated_seconds": round(outcome.seconds),
        "seconds": round(time.perf_counter() - began, 1),
    }
    return json.dumps(found)


def _real(plan: FaultPlan, folder: Path | None) -> str:
    from real_faults import run_plan, summary

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    if folder is not None:
        folder.mkdir(parents=True)
        return summary(plan.seed, run_plan(plan, folder, say))
    with tempfile.TemporaryDirectory(prefix="skerry-chaos-") as temporary:
        return summary(plan.seed, run_plan(plan, Path(temporary), say))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--real", action="store_true", help="daemons instead of the simulation")
    parser.add_argument("--kind", action="append", default=[], choices=[str(k) for k in Kind])
    parser.add_argument("--phase", action="append", default=[], choices=[str(p) for p in Phase])
    parser.add_argument("--keep", type=Path, help="a new folder for the homes of real daemons")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
