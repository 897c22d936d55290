"""Where points go: what every sink can do, and which ones the settings ask for."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from skerry.node.config import SinksSection
from skerry.node.sinks.scalars import Point


@dataclass(frozen=True, slots=True)
class RunName:
    """Which run's points a sink takes."""

    run_id: str
    name: str
    peer_id: str
    folder: Path
    """For files of this run."""


class Sink(Protocol):
    """Takes the points of one run; tensorboard.py and weights_biases.py."""

    def write(self, point: Point) -> None:
        """Take a point."""

    def close(self) -> None:
        """Write what is still held back."""


_MODULES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""What each needs; the extra of this package has the name of the setting."""


def wanted(settings: SinksSection) -> Iterator[str]:
    """Yield the sinks that are on."""
    yield from (name for name in _MODULES if getattr(settings, name))


def missing(settings: SinksSection) -> Iterator[str]:
    """Yield the sinks that are on but not installed."""
    yield from (name for name in wanted(settings) if find_spec(_MODULES[name]) is None)


def open_sinks(settings: SinksSection, run: RunName) -> list[Sink]:
    """Open the sinks that are on and installed."""
    ready = set(wanted(settings)) - set(missing(settings))
    sinks: list[Sink] = []
    if "tensorboard" in ready:
        from skerry.node.sinks.tensorboard import TensorBoard

        sinks.append(TensorBoard(run))
    if "wandb" in ready:
        from skerry.node.sinks.weights_biases import WeightsBiases

        sinks.append(WeightsBiases(run, settings.wandb_project))
    return sinks
