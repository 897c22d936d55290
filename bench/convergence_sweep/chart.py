"""The picture of a sweep: loss over rounds, and what each variation costs, group by group.

Shape suffixes: P points of a curve.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from convergence_sweep.configurations import DEFAULT
from convergence_sweep.jobs import Result
from convergence_sweep.summary import Row, shared_seeds

Curves = Mapping[int, NDArray[np.float64]]
"""Validation losses [P] by seed."""

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart with every kind of colour blindness (Okabe and Ito 2008)."""
_UNSETTLED = 1 / 3
"""Over this part of the rounds losses fall by tenths in each, and no differences are drawn."""


def draw(path: Path, some: Sequence[Row], results: Sequence[Result]) -> None:
    """Write an SVG with a column of panels per group; ``DEFAULT`` must be among the rows."""
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "skerry", "font.size": 8})
    curves = {row.configuration.name: _curves(row.configuration.name, results) for row in some}
    shared = shared_seeds(some)
    groups = list(dict.fromkeys(row.configuration.group for row in some))
    figure = Figure(figsize=(3.2 * len(groups), 5.6), layout="constrained")
    axes = figure.subplots(2, len(groups), sharex=True, squeeze=False)
    for column, group in enumerate(groups):
        names = [row.configuration.name for row in some if row.configuration.group == group]
        varied = {name: curves[name] for name in names if name != DEFAULT}
        _draw_losses(axes[0, column], {DEFAULT: curves[DEFAULT], **varied}, shared)
        _draw_differences(axes[1, column], varied, curves[DEFAULT])
        axes[0, column].set_title(group)
    seeds = ", ".join(map(str, shared))
    axes[0, 0].set_ylabel(f"validation loss, nats per byte\n(mean of seeds {seeds})")
    axes[1, 0].set_ylabel(f"% above {DEFAULT}\n(line: mean, band: all seeds)")
    figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_losses(axis: Axes, curves: Mapping[str, Curves], seeds: Collection[int]) -> None:
    for (name, by_seed), colour in zip(curves.items(), ("black", *_COLOURS), strict=False):
        if seeds:
            mean_P = np.stack([by_seed[seed] for seed in seeds]).mean(0)
            axis.plot(mean_P, color=colour, linewidth=1, label=name)
    axis.legend(frameon=False)
    _plain(axis)


def _draw_differences(axis: Axes, curves: Mapping[str, Curves], default: Curves) -> None:
    axis.axhline(0, color="black", linewidth=1)
    for by_seed, colour in zip(curves.values(), _COLOURS, strict=False):
        pairs = [100 * (by_seed[seed] / default[seed] - 1) for seed in by_seed if seed in default]
        if not pairs:
            continue
        first = int(_UNSETTLED * len(pairs[0]))
        settled = np.stack(pairs)[:, first:]
        rounds = np.arange(first, len(pairs[0]))
        axis.plot(rounds, settled.mean(0), color=colour, linewidth=1)
        limits = (settled.min(0), settled.max(0))
        axis.fill_between(rounds, *limits, color=colour, alpha=0.15, linewidth=0)
    axis.set_xlabel("round")
    _plain(axis)


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)


def _curves(name: str, results: Sequence[Result]) -> Curves:
    return {one.seed: np.array(one.curve) for one in results if one.configuration == name}
