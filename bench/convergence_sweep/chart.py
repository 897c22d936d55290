"""The picture of a sweep: loss over rounds, and what each variation costs, group by group.

Shape suffixes: P points of a curve.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from convergence_sweep.configurations import DEFAULT, Configuration
from convergence_sweep.jobs import Result

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Told apart with every kind of colour blindness (Okabe and Ito 2008)."""
_SETTLED_ROUND = 5
"""From here on differences are drawn: before, the losses fall by tenths in each round."""


def draw(path: Path, configurations: Sequence[Configuration], results: Sequence[Result]) -> None:
    """Write an SVG, the same bytes for the same results; ``DEFAULT`` must be among them."""
    matplotlib.rcParams.update({"svg.hashsalt": "skerry", "svg.fonttype": "none", "font.size": 8})
    groups = list(dict.fromkeys(one.group for one in configurations))
    figure = Figure(figsize=(3.4 * len(groups), 5.6), layout="constrained")
    axes = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    for column, group in enumerate(groups):
        names = [one.name for one in configurations if one.group == group and one.name != DEFAULT]
        _panels(axes[0, column], axes[1, column], names, results)
        axes[0, column].set_title(group)
        axes[1, column].set_xlabel("round")
    axes[0, 0].set_ylabel("validation loss, nats per byte")
    axes[1, 0].set_ylabel(f"above {DEFAULT}, % (band: all seeds)")
    figure.savefig(path, format="svg", metadata={"Date": None})


def _panels(losses: Axes, differences: Axes, names: list[str], results: Sequence[Result]) -> None:
    """Draw one group: the losses above, the differences to the default below."""
    default = _curves(DEFAULT, results)
    losses.plot(_mean(default), color="black", linewidth=1, label=DEFAULT)
    differences.axhline(0, color="black", linewidth=1)
    for name, colour in zip(names, _COLOURS, strict=False):
        curves = _curves(name, results)
        pairs = [100 * (curves[seed] / default[seed] - 1) for seed in curves if seed in default]
        if not pairs:
            continue
        losses.plot(_mean(curves), color=colour, linewidth=1, label=name)
        rounds = np.arange(_SETTLED_ROUND, len(pairs[0]))
        settled = np.stack(pairs)[:, _SETTLED_ROUND:]
        differences.plot(rounds, settled.mean(0), color=colour, linewidth=1)
        differences.fill_between(
            rounds, settled.min(0), settled.max(0), color=colour, alpha=0.15, linewidth=0
        )
    losses.legend(frameon=False)
    for axis in (losses, differences):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)


def _curves(name: str, results: Sequence[Result]) -> dict[int, NDArray[np.float64]]:
    """Return the validation losses [P] by seed."""
    return {one.seed: np.array(one.curve) for one in results if one.configuration == name}


def _mean(curves: dict[int, NDArray[np.float64]]) -> NDArray[np.float64]:
    mean_P: NDArray[np.float64] = np.stack(list(curves.values())).mean(0)
    return mean_P
