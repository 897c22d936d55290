"""From results to a table: means over seeds, and differences to the default in pairs.

A seed decides initial parameters, batches and which text is held back, so losses of two seeds
are not comparable and their spread says little. The difference between two configurations of
one seed is; each row says how far these differences lie apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from convergence_sweep.configurations import DEFAULT, Configuration
from convergence_sweep.jobs import Result

REFERENCE = "reference"
ALLOWED_PERCENT = 0.5
"""By how much the default's loss may exceed the reference's."""


@dataclass(frozen=True, slots=True)
class Row:
    """One configuration's results."""

    configuration: Configuration
    losses: dict[int, float]
    """Final validation loss by seed, nats per text token."""
    differences: tuple[float, ...]
    """Percent above the default, for each seed that both have."""
    bits_per_parameter: float

    @property
    def mean_loss(self) -> float:
        """Mean over seeds."""
        return mean(list(self.losses.values()))


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value."""
    return sum(values) / len(values)


def rows(configurations: Sequence[Configuration], results: Sequence[Result]) -> list[Row]:
    """Return a row for each configuration that has a result; results are of one size."""
    losses = {one.name: _losses(one.name, results) for one in configurations}
    default = _losses(DEFAULT, results)
    return [
        Row(
            configuration=one,
            losses=losses[one.name],
            differences=percent_above(losses[one.name], default),
            bits_per_parameter=mean(
                [r.bits_per_parameter for r in results if r.configuration == one.name]
            ),
        )
        for one in configurations
        if losses[one.name]
    ]


def percent_above(losses: dict[int, float], base: dict[int, float]) -> tuple[float, ...]:
    """Return by how many percent each seed's loss exceeds the base's of the same seed."""
    return tuple(100 * (losses[seed] / base[seed] - 1) for seed in losses if seed in base)


def table(some: Sequence[Row], seeds: Sequence[int]) -> str:
    """Return the rows as a Markdown table; a seed that has not run is a dash."""
    names = [f"seed {seed}" for seed in seeds]
    header = ["configuration", "", "mean loss", *names, f"to `{DEFAULT}`", "each seed", "bits"]
    lines = [header, ["---"] * len(header), *(_cells(row, seeds) for row in some)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def percent_above_reference(some: Sequence[Row]) -> tuple[float, ...]:
    """Return the default's difference to the reference by seed; none if either has not run."""
    losses = {row.configuration.name: row.losses for row in some}
    return percent_above(losses.get(DEFAULT, {}), losses.get(REFERENCE, {}))


def verdict(above: Sequence[float]) -> str:
    """Say in a sentence whether the default stays within what is allowed above the reference."""
    if not above:
        return f"`{DEFAULT}` against `{REFERENCE}`: no seed of both has run yet."
    outcome = "within" if mean(above) <= ALLOWED_PERCENT else "NOT within"
    return (
        f"`{DEFAULT}` against `{REFERENCE}`: {mean(above):+.2f} % in the mean of {len(above)} "
        f"seed(s), worst {max(above):+.2f} %: {outcome} the allowed +{ALLOWED_PERCENT} %."
    )


def _losses(name: str, results: Sequence[Result]) -> dict[int, float]:
    return {one.seed: one.final_loss for one in results if one.configuration == name}


def _cells(row: Row, seeds: Sequence[int]) -> list[str]:
    losses = [f"{row.losses[seed]:.4f}" if seed in row.losses else "-" for seed in seeds]
    apart = " ".join(f"{value:+.2f}" for value in row.differences) or "-"
    difference = f"{mean(row.differences):+.2f} %" if row.differences else "-"
    name = row.configuration.name
    bits = f"{row.bits_per_parameter:.4g}"
    return [
        f"`{name}`",
        row.configuration.about,
        f"{row.mean_loss:.4f}",
        *losses,
        difference,
        apart,
        bits,
    ]
