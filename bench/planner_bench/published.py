"""The published topology of 20 peers in 12 cloud sites, as a problem, and its published paths."""

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from skerry.pipeline.planning.costs import PUBLISHED, CostModel
from skerry.pipeline.planning.problem import (
    Limits,
    ModelCosts,
    Network,
    Peer,
    Problem,
    Traffic,
)
from skerry.pipeline.planning.simulator import Route, Scenario, Simulator, Stop

DATA = Path(__file__).parents[1] / "data"
MICROBATCHES = 30
"""Of one inner step of all rings, as in the published runs that skip."""
_BITS_PER_BYTE = 8
_MBIT = 1e6


@dataclass(frozen=True, slots=True)
class Schedule:
    """Published paths and the time that was published for them."""

    name: str
    seconds: float
    paths: tuple[tuple[int, ...], ...]
    microbatches: int
    """On each path."""


def topology() -> dict[str, Any]:
    """Return gcp12.json."""
    read: dict[str, Any] = json.loads((DATA / "gcp12.json").read_text())
    return read


def schedules() -> list[Schedule]:
    """Return the published schedules."""
    read = json.loads((DATA / "skippipe_paths.json").read_text())
    return [
        Schedule(name, one["seconds"], tuple(map(tuple, one["paths"])), one["microbatches"])
        for name, one in read.items()
        if name != "what"
    ]


def problem(costs: CostModel, limits: Limits) -> Problem:
    """Return the published peers; with the published cost model also the published slip.

    The table gives 2.0 Mbit/s between two sites, a thousandth of what their neighbours have; any
    other cost model uses the corrected figure.
    """
    data = topology()
    run = data["published_run"]
    sites, tokens = run["nodes"], run["context"] * run["samples_per_microbatch"]
    unit_s = run["compute_s"]["forward"] / run["blocks_per_stage"]
    backward_s = run["compute_s"]["backward"] / run["blocks_per_stage"]
    return Problem(
        peers=tuple(
            Peer(f"{site}-{i}", tokens / unit_s, tokens / backward_s, site=site, domain=site)
            for i, site in enumerate(sites)
        ),
        network=network(data, sites, as_published=costs is PUBLISHED),
        model=ModelCosts(
            blocks=run["stages"] * run["blocks_per_stage"],
            block_params=1,  # memory is limited by blocks and slots there
            embed_params=1,
            head_params=1,
            head_units=run["compute_s"]["loss"] / unit_s,
            width=run["dim"],
            block_activation_bytes=0,
            head_activation_bytes=0,
        ),
        traffic=Traffic(
            microbatch_tokens=tokens,
            payload_bytes=run["activation_bytes"],
            microbatches=MICROBATCHES,
            overhead_s=run["per_hop_overhead_s"],
        ),
        limits=limits,
        costs=costs,
    )


def limits_of(slots: int, skip_ratio: float) -> Limits:
    """Return what the published runs allow: 6 stages of 4 blocks, one for each peer."""
    run = topology()["published_run"]
    return Limits(
        slots=slots,
        skip_ratio=skip_ratio,
        stages=run["stages"],
        max_blocks=run["blocks_per_stage"],
        full_replicas=False,
        shadow_below=0,
    )


def network(data: dict[str, Any], sites: list[str], as_published: bool) -> Network:
    """Return the links of peers at these sites."""
    figures = {}
    for link in data["links"]:
        rate = link.get("published_mbit_s", link["mbit_s"]) if as_published else link["mbit_s"]
        figures[frozenset((link["a"], link["b"]))] = (link["latency_ms"], rate)
    same = (data["same_site"]["latency_ms"], data["same_site"]["mbit_s"])
    table = np.array([[figures.get(frozenset((a, b)), same) for b in sites] for a in sites])
    return Network(table[:, :, 0] / 1e3, table[:, :, 1] * _MBIT / _BITS_PER_BYTE)


def simulated_s(schedule: Schedule) -> float:
    """Return our simulator's time of a published schedule, under the published cost model."""
    run = topology()["published_run"]
    posed = problem(PUBLISHED, limits_of(run["slots_per_node"], 0.0))
    routes = tuple(
        Route(tuple(Stop(peer, run["blocks_per_stage"]) for peer in path), posed.model.head_units)
        for path in schedule.paths
    )
    turns = [range(len(routes))] * schedule.microbatches
    scenario = Scenario(routes, tuple(chain(*turns)), run["slots_per_node"])
    return Simulator(posed).makespan_s(scenario)
