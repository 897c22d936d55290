"""Throw bytes at every parser of what strangers send, guided by coverage (atheris, libFuzzer).

Each target of tests/fuzz/targets.py runs in a process of its own, which is ended if it holds more
than the memory limit or takes too long over one input. What is found is kept in tests/fuzz/corpus.
Needs the extra ``fuzz``. Exits with 1 if something was found, or a target could not run.

    pip install -e ".[fuzz]" && python bench/fuzz.py --seconds 60 --json
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

FUZZ = Path(__file__).parents[1] / "tests" / "fuzz"
CORPUS = FUZZ / "corpus"
MEMORY_MB = 1024
"""Of the whole process; torch and hivemind take about half of it for themselves."""
INPUT_SECONDS = 30
MAX_INPUT_BYTES = 16 * 1024
COMPILED = [
    f"skerry.compression.{module}"
    for module in ("agreement", "cpu_tiles", "gaps", "tile_sums", "votes")
]
"""Modules of kernels: numba cannot read functions that atheris has rewritten."""
KEPT_FILES, KEPT_BYTES = 24, 2048
"""How many new inputs of a target are kept by --keep, and up to which size."""

sys.path.insert(0, str(FUZZ))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one target."""

    target: str
    seconds: float
    runs: int
    inputs: int
    """Inputs found that each reach something new."""
    peak_mb: int
    found: tuple[str, ...]
    """Files of inputs that the target failed at."""


def main() -> int:
    """Run the targets one after the other."""
    options = _options()
    if options.child:
        _fuzz(options.child, options.rest)
    names = options.target or sorted(_targets())
    outcomes = []
    for name in names:
        outcome = _run(name, options.seconds / len(names), options.keep)
        outcomes.append(outcome)
        print(json.dumps(asdict(outcome)) if options.json else _line(outcome), flush=True)
    return 1 if any(outcome.found or not outcome.runs for outcome in outcomes) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for all targets together")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--keep", action="store_true", help="add what is new to the corpus")
    parser.add_argument("--json", action="store_true", help="one JSON line per target")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args()


def _targets() -> dict[str, Callable[[bytes], bool]]:
    # Loaded from tests/, which no type checker looks into.
    targets: dict[str, Callable[[bytes], bool]] = import_module("targets").TARGETS
    return targets


def _run(name: str, seconds: float, keep: bool) -> Outcome:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        work, crashes = Path(folder, "corpus"), Path(folder, "found")
        work.mkdir()
        crashes.mkdir()
        seeds = CORPUS / name
        seeds.mkdir(parents=True, exist_ok=True)
        told = _call(
            name,
            f"-max_total_time={max(1, round(seconds))}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-timeout={INPUT_SECONDS}",
            f"-max_len={MAX_INPUT_BYTES}",
            f"-artifact_prefix={crashes}/",
            "-print_final_stats=1",
            str(work),
            str(seeds),
        )
        found = sorted(crashes.iterdir())
        runs = _stat(told, "number_of_executed_units")
        if found or not runs:
            print(told[-4000:], file=sys.stderr)
        for path in found:
            shutil.copy(path, seeds)
        inputs = len(list(work.iterdir()))
        if keep:
            _keep(work, seeds)
        return Outcome(
            target=name,
            seconds=round(time.monotonic() - began, 1),
            runs=runs,
            inputs=inputs,
            peak_mb=_stat(told, "peak_rss_mb"),
            found=tuple(path.name for path in found),
        )


def _keep(work: Path, seeds: Path) -> None:
    """Keep the smallest of the new inputs, as many as there is room for."""
    new = sorted(work.iterdir(), key=lambda path: (path.stat().st_size, path.name))
    room = max(0, KEPT_FILES - len(list(seeds.iterdir())))
    fitting = [path for path in new if path.stat().st_size <= KEPT_BYTES]
    for path in fitting[:: max(1, len(fitting) // max(1, room))][:room]:
        shutil.copy(path, seeds)


def _call(name: str, *arguments: str) -> str:
    command = [sys.executable, __file__, "--child", name, "--", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return done.stdout + done.stderr


def _stat(told: str, name: str) -> int:
    match = re.search(rf"stat::{name}:\s+(\d+)", told)
    return int(match[1]) if match else 0


def _line(outcome: Outcome) -> str:
    found = ", ".join(outcome.found) or "nothing"
    return (
        f"{outcome.target:14} {outcome.runs:9} runs in {outcome.seconds:6.1f} s, "
        f"{outcome.inputs:4} inputs, {outcome.peak_mb:4} MB at most; found {found}"
    )


def _fuzz(name: str, arguments: list[str]) -> None:
    """Become libFuzzer; does not return."""
    atheris = import_module("atheris")
    target = _targets()[name]
    with atheris.instrument_imports(include=["skerry"], exclude=COMPILED):
        target(b"")  # imports what it needs, instrumented
        target(bytes(64))

    def once(data: bytes) -> None:
        target(data)

    atheris.Setup([name, *arguments], once)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
