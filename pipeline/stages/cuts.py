"""Which shards make up a stage, and what one visit of a microbatch passes. Plain names, no torch.

A stage is named by its number and consists of shards, as in a plan: stage 0 of the embedding, the
first blocks (there may be none) and the head; the others of consecutive blocks. The shards of a
stage are those of the outer exchange, so a host's parameters are exchanged as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise

from skerry.protocol.layout import ShardSpec, layout_of
from skerry.protocol.manifest import ModelSection

ORIGIN = 0
"""The stage that comes with embedding, head and loss."""
EMBED, HEAD = "embed", "head"

Stages = Mapping[int, tuple[str, ...]]
"""Shard names by stage number."""


def cut(section: ModelSection, sizes: Sequence[int]) -> Stages:
    """Cut a model into stages of so many blocks each; the first number may be 0.

    Raises: ValueError if the numbers do not add up to the model's blocks.
    """
    if sum(sizes) != section.layers or min(sizes[1:], default=1) < 1 or sizes[0] < 0:
        raise ValueError(f"stages of {list(sizes)} blocks, the model has {section.layers}")
    bounds = pairwise(accumulate(sizes, initial=0))
    blocks = [tuple(f"block.{i}" for i in range(*bound)) for bound in bounds]
    return {ORIGIN: (EMBED, *blocks[0], HEAD), **dict(enumerate(blocks[1:], start=1))}


def hosted_specs(section: ModelSection, stages: Stages) -> tuple[ShardSpec, ...]:
    """Return the shards of some stages in layout order.

    Raises: ValueError if one is not the model's, is in two stages or in the wrong one.
    """
    layout = {spec.name: spec for spec in layout_of(section)}
    names = [name for shards in stages.values() for name in shards]
    if len(set(names)) < len(names) or not set(names) <= set(layout):
        raise ValueError(f"shards {names[:8]} are not distinct shards of the model")
    for number, shards in stages.items():
        if ({EMBED, HEAD} <= set(shards)) != (number == ORIGIN) or not shards:
            raise ValueError(f"stage {number} cannot be made of {list(shards)[:8]}")
        if number != ORIGIN and {EMBED, HEAD} & set(shards):
            raise ValueError(f"stage {number} has the embedding or the head, which belong to 0")
    return tuple(spec for name, spec in layout.items() if name in set(names))


def blocks_of(stages: Stages, visited: Iterable[int]) -> tuple[str, ...]:
    """Return the blocks of the visited stages, in the order of the visit.

    Raises: KeyError if a stage is not among ``stages``.
    """
    return tuple(name for number in visited for name in stages[number] if name not in (EMBED, HEAD))
