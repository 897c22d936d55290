"""Small swarms that the planner's tests share."""

from collections.abc import Callable

import numpy as np
import pytest

from skerry.pipeline.planning.costs import HOME, CostModel
from skerry.pipeline.planning.problem import (
    Limits,
    ModelCosts,
    Network,
    Peer,
    Problem,
    Traffic,
)

MODEL = ModelCosts(
    blocks=8,
    block_params=1_000_000,
    embed_params=500_000,
    head_params=500_000,
    head_units=1.0,
    width=64,
    block_activation_bytes=1_000,
    head_activation_bytes=1_000,
)
ROOM_FOR_TWO = 100_000_000
"""Bytes: enough for two blocks with embedding and head, not for three."""
FOUR_SLOTS = Limits(slots=4)


def swarm(
    peers: int = 6,
    *,
    memory: int = ROOM_FOR_TWO,
    speeds: tuple[float, ...] = (),
    latency_s: float = 0.01,
    limits: Limits = FOUR_SLOTS,
    costs: CostModel = HOME,
    microbatches: int = 0,
    per_ring: int = 4,
) -> Problem:
    """A swarm of peers named p0, p1 ..; the first half in one site, the others in another.

    A unit takes 1 s forward and 2 s backward at speed 1; a payload occupies a link for 0.1 s.
    """
    speeds = speeds or (1.0,) * peers
    sites = ["near" if i < (peers + 1) // 2 else "far" for i in range(peers)]
    latency_NN = np.array(
        [[latency_s if a == b else 10 * latency_s for b in sites] for a in sites], np.float64
    )
    return Problem(
        peers=tuple(
            Peer(f"p{i}", 100 * speeds[i], 50 * speeds[i], memory, site=sites[i], domain=sites[i])
            for i in range(peers)
        ),
        network=Network(latency_NN, np.full((peers, peers), 10_000.0)),
        model=MODEL,
        traffic=Traffic(100, 1_000, microbatches, per_ring),
        limits=limits,
        costs=costs,
    )


@pytest.fixture(scope="session")
def make_swarm() -> Callable[..., Problem]:
    return swarm
