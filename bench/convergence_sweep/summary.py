"""From results to a table: means over seeds, and differences to the default in pairs.

A seed decides initial parameters, batches and which text is held back, so losses of two seeds
are not comparable: the mean loss is over those seeds that every configuration has. What says most
is the difference between two configurations of one seed; each row lists them all.
"""

from collections.abc import Collection, Sequence
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

    def mean_loss(self, seeds: Collection[int]) -> float:
        """Return the mean over ``seeds``, all of which it has."""
        return mean([self.losses[seed] for seed in seeds])


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


def shared_seeds(some: Sequence[Row]) -> list[int]:
    """Return the seeds that every row has, ascending."""
    everyones = set.intersection(*(set(row.losses) for row in some)) if some else set()
    return sorted(everyones)


def table(some: Sequence[Row]) -> str:
    """Return the rows as a Markdown table; a seed that has not run is a dash."""
    shared = shared_seeds(some)
    seeds = sorted({seed for row in some for seed in row.losses})
    of_shared = f"mean of seeds {', '.join(map(str, shared)) or '-'}"
    header = ["configuration", "", of_shared, *(f"seed {seed}" for seed in seeds)]
    header += [f"to `{DEFAULT}`", "bits per parameter"]
    lines = [header, ["---"] * len(header), *(_cells(row, seeds, shared) for row in some)]
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


def _cells(row: Row, seeds: list[int], shared: list[int]) -> list[str]:
    name = row.configuration.name
    losses = [f"{row.losses[seed]:.4f}" if seed in row.losses else "-" for seed in seeds]
    mean_loss = f"{row.mean_loss(shared):.4f}" if shared else "-"
    bits = f"{row.bits_per_parameter:.4g}"
    return [f"`{name}`", row.configuration.about, mean_loss, *losses, _difference(row), bits]


def _difference(row: Row) -> str:
    if row.configuration.name == DEFAULT or not row.differences:
        return "-"
    each = ", ".join(f"{value:+.2f}" for value in row.differences)
    return f"**{mean(row.differences):+.2f} %** ({each})"
