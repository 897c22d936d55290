"""A daemon that trains alone, for benches of how it behaves meanwhile: its run, text and clocks."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

_WORDS = ("skerry", "island", "tide", "harbour", "ferry", "gull", "lantern", "rope")
_RUN = """
name = "alone"
rounds = {rounds}
[model]
layers = {layers}
d_model = 512
heads = 8
kv_heads = 4
ffn_dim = 1408
context = 32
[data]
source = "text"
path = "{text}"
validation_batches = 1
validation_every = 1
[inner]
steps = {steps}
batch_size = 1
"""
"""Large enough that applying a round takes noticeable time: 3 M parameters per layer."""

APPLYING = "applying"
"""What the compute process is doing while a round is applied."""


def write_text(path: Path) -> None:
    """Write a small text to train on, always the same."""
    random = Random(1)
    path.write_text("\n".join(" ".join(random.choices(_WORDS, k=8)) for _ in range(2000)))


def run_file(folder: Path, rounds: int, layers: int, steps: int) -> str:
    """Return a run file over a text that this writes into ``folder``."""
    write_text(folder / "text.txt")
    return _RUN.format(rounds=rounds, layers=layers, text=folder / "text.txt", steps=steps)


def loop_times_ms(pid: int) -> tuple[float, float]:
    """Return how long a process's first thread, its event loop, has worked and waited for a CPU.

    Linux only; zeros elsewhere.
    """
    try:
        worked, waited, _ = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    except OSError:
        return 0.0, 0.0
    return int(worked) / 1e6, int(waited) / 1e6


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of ``values`` do not exceed."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def summary(values: Sequence[float]) -> dict[str, float | int]:
    """Return the numbers of some times in ms; they are zero without samples."""
    if not values:
        return {"samples": 0, "p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
    numbers = {"p50_ms": quantile(values, 0.5), "p99_ms": quantile(values, 0.99)}
    return {"samples": len(values), **numbers, "max_ms": round(max(values), 2)}
