"""What is compared when replicas are rings: the wire between their stages, and skipped stages.

All are variations of the sweep's default, whose replicas are all full. Half of the replicas are
rings of as many stages as the model has blocks, the first with embedding, head and loss, so that a
text token crosses a wire as often as there are blocks, in each direction. Activations travel as
int8; what a subspace does is compared at 8 and 32 times fewer coordinates than the model is wide.
"""

from collections.abc import Sequence

from convergence_sweep.configurations import CONFIGURATIONS, DEFAULT, Configuration, RingShape
from convergence_sweep.local_ring import Route

RATIOS = (8, 32)


def routes(stages: int, skip_ratio: float, first: int, count: int) -> Sequence[Route]:
    """Return the routes of microbatches number ``first`` to ``first + count - 1`` of a ring.

    The first stage is never skipped and all others equally often: which are follows the numbers
    round and round, as a plan's quotas would have it.
    """
    skipped = min(round(stages * skip_ratio), stages - 2)
    middle = stages - 1
    found: list[Route] = []
    for number in range(first, first + count):
        left_out = {1 + (number * skipped + i) % middle for i in range(skipped)}
        found.append([(i, (i,)) for i in range(stages) if i not in left_out])
    return found


def _of_ratio(ratio: int) -> tuple[Configuration, ...]:
    return (
        Configuration(
            f"full-reparam-{ratio}",
            "reparam",
            f"all full, reparam, d/r {ratio}: what the constraint itself costs",
            ring=RingShape(share=0.0, ratio=ratio, mode="reparam"),
        ),
        Configuration(
            f"wire-{ratio}",
            "wire",
            f"half rings, wire, d/r {ratio}",
            ring=RingShape(ratio=ratio, mode="wire"),
        ),
        Configuration(
            f"all-wire-{ratio}",
            "wire",
            f"all rings, wire, d/r {ratio}",
            ring=RingShape(share=1.0, ratio=ratio, mode="wire"),
        ),
        Configuration(
            f"reparam-{ratio}",
            "reparam",
            f"half rings, reparam, d/r {ratio}",
            ring=RingShape(ratio=ratio, mode="reparam"),
        ),
    )


def _skipping(percent: int, share: float) -> Configuration:
    about = f"half rings, no subspace, {percent} % of the stages skipped"
    return Configuration(f"skip-{percent}", "skip", about, ring=RingShape(skip=share))


RING_CONFIGURATIONS = (
    next(one for one in CONFIGURATIONS if one.name == DEFAULT),
    Configuration("rings", "skip", "half rings, no subspace", ring=RingShape()),
    Configuration(
        "full-wire",
        "wire",
        "all full, with the fixed embedding part that mode wire brings",
        ring=RingShape(share=0.0, ratio=8, mode="wire"),
    ),
    *(one for ratio in RATIOS for one in _of_ratio(ratio)),
    _skipping(17, 1 / 6),
    _skipping(33, 1 / 3),
)
"""In the order in which they are run."""
