"""Surveys for the tests of healing: drawn at random, or a small one to vary."""

from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import strategies as st

from skerry.protocol.ids import PeerId
from skerry.recovery.survey import Copy, LostStage, Place, Survey, Taker
from skerry.recovery.swaps import learned_roles, visiting_order

PEERS = [PeerId(f"peer-{letter}") for letter in "abcdef"]
GONE, TAKER = PeerId("peer-x"), PeerId("peer-t")


def ring(stages: int, blocks: int = 2) -> tuple[tuple[str, ...], ...]:
    """Stages of equally many blocks; the first with embedding and head."""
    names = [
        tuple(f"block.{i}" for i in range(blocks * s, blocks * (s + 1))) for s in range(stages)
    ]
    return (("embed", *names[0], "head"), *names[1:])


def survey(*lost: int, stages: int = 5, place: Place = Place.SPARE, **changes: Any) -> Survey:
    """Stages of a ring of five are lost with one peer, and nothing is left elsewhere."""
    gone = tuple(LostStage(stage, GONE, Taker(TAKER, place)) for stage in lost)
    return replace(Survey(ring(stages), gone), **changes)


def copies(shards: tuple[str, ...], peer: PeerId, age: int = 0) -> dict[str, tuple[Copy, ...]]:
    """All of some shards on one peer."""
    return {shard: (Copy(peer, age),) for shard in shards}


def _drawn(seed: int) -> Survey:
    dice = Random(seed)
    stages = ring(dice.randint(1, 7), dice.randint(1, 3))
    numbers = list(range(len(stages)))
    lost = sorted(dice.sample(numbers, dice.randint(1, len(numbers))))
    shards = [shard for stage in lost for shard in stages[stage]]
    return Survey(
        stages=stages,
        lost=tuple(LostStage(n, GONE, Taker(TAKER, dice.choice([*Place]))) for n in lost),
        hosts=_held(dice, shards),
        shadows=_held(dice, shards),
        checkpoints=_held(dice, shards),
        partners=learned_roles([visiting_order(len(stages), dice.random() < 0.5)]),
        may_skip=dice.random() < 0.8,
    )


def _held(dice: Random, shards: list[str]) -> dict[str, tuple[Copy, ...]]:
    some = dice.sample(shards, dice.randint(0, len(shards)))
    return {
        shard: tuple(
            Copy(dice.choice(PEERS), dice.randint(0, 2000)) for _ in range(dice.randint(1, 3))
        )
        for shard in some
    }


surveys = st.builds(_drawn, st.integers(0, 2**32))
"""Anything that can be left of a ring."""
