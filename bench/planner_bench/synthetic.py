"""Swarms of any size: unequal machines and uplinks, spread over the 12 sites."""

from random import Random

from planner_bench.published import network, topology
from skerry.pipeline.planning.problem import Limits, ModelCosts, Peer, Problem, Traffic

_WIDTH, _FFN = 2048, 5504
_BLOCK_PARAMS = 50_000_000
_VOCABULARY = 32_000
_ROW_BYTES = 42
"""int8 in 40 dimensions (docs/codecs.md)."""
_TOKENS = 4096
_MBIT_BYTES = 1e6 / 8


def swarm(peers: int, skip_ratio: float) -> Problem:
    """Return a swarm for a model of 32 blocks and 1.7 G parameters, the same at every call."""
    rng, data = Random(peers), topology()
    sites = [data["sites"][i % len(data["sites"])] for i in range(peers)]
    links = network(data, sites, as_published=False)
    members = []
    for i, site in enumerate(sites):
        speed = 2 ** rng.uniform(-1, 1)
        upload = rng.choice([20, 50, 100, 200, 500]) * _MBIT_BYTES
        members.append(
            Peer(
                name=f"{site}-{i}",
                forward=60_000 * speed,
                backward=20_000 * speed,
                memory=rng.choice([8, 12, 16, 24]) * 2**30,
                upload=upload,
                download=4 * upload,
                site=site,
                domain=site,
            )
        )
    return Problem(
        peers=tuple(members),
        network=links,
        model=ModelCosts(
            blocks=32,
            block_params=_BLOCK_PARAMS,
            embed_params=_VOCABULARY * _WIDTH,
            head_params=_VOCABULARY * _WIDTH,
            head_units=3.0 * _VOCABULARY * _WIDTH / _BLOCK_PARAMS,
            width=_WIDTH,
            block_activation_bytes=4 * (14 * _WIDTH + 4 * _FFN),
            head_activation_bytes=4 * 3 * _VOCABULARY,
        ),
        traffic=Traffic(_TOKENS, _TOKENS * _ROW_BYTES, microbatches=0, overhead_s=0.005),
        limits=Limits(skip_ratio=skip_ratio),
    )
