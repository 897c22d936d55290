"""Lost blocks made of other stages, as a healing plan says: the plan's rungs as tensors.

Shape suffix: N parameters of a block.
"""

from collections.abc import Mapping

from torch import Tensor

from skerry.recovery.healing import Rung, ShardHealing, StageHealing, is_block
from skerry.recovery.neighbours import Neighbour, averaged, copied, interpolated


def rebuilt(
    healing: StageHealing, there: Mapping[int, Neighbour], exponent: int = 1
) -> dict[str, Tensor]:
    """Return the blocks of a stage that its plan makes of other stages, [N] f32 by shard.

    Shards that come back by another rung are left out: their bytes come from a peer, or the seed.

    Args:
        there: by number, at least the stages that the plan makes it of.
        exponent: of the gradient norm, see ``neighbours.shares``.
    Raises: KeyError if one of those stages is missing.
    """
    shards = [one for one in healing.shards if is_block(one.shard)]
    made_of = next((one for one in shards if one.made_of), None)
    if made_of is None:
        return {}
    blocks = _made(made_of, healing.lost.stage, there, len(shards), exponent)
    pairs = zip(shards, blocks, strict=True)
    return {one.shard: block for one, block in pairs if one.made_of}


def _made(
    one: ShardHealing, stage: int, there: Mapping[int, Neighbour], size: int, exponent: int
) -> list[Tensor]:
    """Return all blocks of a stage; how is the same for all that are made of others."""
    before, after = there[one.made_of[0]], there[one.made_of[-1]]
    match one.rung:
        case Rung.AVERAGE:
            return averaged(before, after, size, exponent)
        case Rung.SWAP:
            return copied(before.blocks, size)
        case _:
            gap = max(1, one.made_of[-1] - one.made_of[0])
            return interpolated(before.blocks, after.blocks, (stage - one.made_of[0]) / gap, size)
