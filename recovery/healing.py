"""The planner of healing: which rung of the ladder brings each lost shard back.

A pure function of a Survey. For each lost shard the first rung that applies:

    COPY         a live host has it, as committed: nothing is lost but moments
    SHADOW       a peer keeps a stale copy (of embedding and head a neighbour does); of several, the
                 newest
    CHECKPOINT   a stale copy on the own disk of who is given it, if no shadow is newer
    AVERAGE      the stages on both sides are there, or will be by an earlier rung
    SWAP         the stage that has learned its role; at an end of the model the one beside it
    INTERPOLATE  several side by side: by depth between those that are there
    SEED         nothing is left: as the run began

Stale copies that are too old come after all that stages can be made of, and before the seed. On
which peer a stage comes back says the plan (pipeline/planning/replan.py).

Source: DESIGN of the ladder; CheckFree (arXiv:2506.15461) for AVERAGE, SWAP and the copies that
neighbours keep of embedding and head.
"""

from dataclasses import dataclass
from enum import StrEnum

from skerry.recovery.survey import Copies, Copy, LostStage, Survey
from skerry.recovery.swaps import swap_partner

FIRST = 0
"""The origin's stage: it is never passed over."""
OLDEST_SHADOW = 1000
"""Inner steps; an older copy is not used while there are neighbours."""


class Rung(StrEnum):
    """How a shard comes back."""

    COPY = "copy"
    SHADOW = "shadow"
    CHECKPOINT = "checkpoint"
    AVERAGE = "average"
    SWAP = "swap"
    INTERPOLATE = "interpolate"
    SEED = "seed"


MADE_UP = frozenset({Rung.AVERAGE, Rung.SWAP, Rung.INTERPOLATE, Rung.SEED})
"""What these bring back is not what was lost."""
TRAINED_IN = frozenset({Rung.INTERPOLATE})
"""What these bring back is passed over at first by part of the microbatches
(protocol/rings/bypass.py). Not so an average or a copy of the stage beside it: they are nearer to
what was lost, and passing over them gained nothing (bench/results/2026-11-22_recovery.md). And
where a stage begins from the seed, so does the rest of the model."""


@dataclass(frozen=True, slots=True)
class ShardHealing:
    """How one shard comes back."""

    shard: str
    rung: Rung
    sources: tuple[Copy, ...] = ()
    """Who has it, equally old; none where it is made from other stages, or from the seed."""
    made_of: tuple[int, ...] = ()
    """The stages that it is made of: before and after, or the one there is."""


@dataclass(frozen=True, slots=True)
class StageHealing:
    """How one stage comes back."""

    lost: LostStage
    shards: tuple[ShardHealing, ...]
    trains_in: int
    """Inner steps in which part of the microbatches pass over it when it is there; 0: all visit."""


def plan_healing(survey: Survey, oldest_shadow: int = OLDEST_SHADOW) -> tuple[StageHealing, ...]:
    """Return how each lost stage comes back, in the order in which that is to be done.

    Stages that others are made of come first. The same survey gives the same plan everywhere.
    """
    rungs = _Rungs(survey, oldest_shadow)
    found = []
    for lost in sorted(survey.lost, key=lambda one: (rungs.is_made_up(one.stage), one.stage)):
        shards = tuple(rungs.of(lost.stage, shard) for shard in survey.stages[lost.stage])
        may_skip = survey.may_skip and lost.stage != FIRST
        interpolated = any(one.rung in TRAINED_IN for one in shards)
        steps = survey.bypass_steps if may_skip and interpolated else 0
        found.append(StageHealing(lost, shards, steps))
    return tuple(found)


class _Rungs:
    """Which rung applies to which shard."""

    def __init__(self, survey: Survey, oldest_shadow: int) -> None:
        """See which stages have to be made from others."""
        self._survey, self._oldest_shadow = survey, oldest_shadow
        lost = [one.stage for one in survey.lost]
        self._made_up = {
            stage
            for stage in lost
            if any(self._exact(shard) is None for shard in self._blocks(stage))
        }
        self._there = [s for s in range(len(survey.stages)) if self._serves(s)]

    def is_made_up(self, stage: int) -> bool:
        """Say whether a stage has to be made from others."""
        return stage in self._made_up

    def of(self, stage: int, shard: str) -> ShardHealing:
        """Return how a shard of a lost stage comes back."""
        exact = self._exact(shard)
        if exact is not None:
            return exact
        if shard in self._blocks(stage) and self._there:
            return self._from_stages(stage, shard)
        return self._stale(shard) or ShardHealing(shard, Rung.SEED)

    def _exact(self, shard: str) -> ShardHealing | None:
        """Return a rung that brings the shard itself, if there is one."""
        if hosts := _newest(self._survey.hosts, shard):
            return ShardHealing(shard, Rung.COPY, hosts)
        stale = self._stale(shard)
        young = stale is not None and stale.sources[0].age <= self._oldest_shadow
        return stale if young else None

    def _stale(self, shard: str) -> ShardHealing | None:
        """Return the newest of all stale copies: the own, if another one is only as new."""
        own = _newest(self._survey.checkpoints, shard)
        shadows = _newest(self._survey.shadows, shard)
        if own and not (shadows and shadows[0].age < own[0].age):
            return ShardHealing(shard, Rung.CHECKPOINT, own)
        return ShardHealing(shard, Rung.SHADOW, shadows) if shadows else None

    def _from_stages(self, stage: int, shard: str) -> ShardHealing:
        partner = self._survey.partners.get(stage)
        if partner not in self._there and stage in (FIRST, len(self._survey.stages) - 1):
            partner = swap_partner(stage, len(self._survey.stages))
        if partner is not None and partner in self._there:
            return ShardHealing(shard, Rung.SWAP, made_of=(partner,))
        before = max((s for s in self._there if s < stage), default=None)
        after = min((s for s in self._there if s > stage), default=None)
        made_of = tuple(s for s in (before, after) if s is not None)
        is_average = made_of == (stage - 1, stage + 1)
        rung = Rung.AVERAGE if is_average else Rung.INTERPOLATE
        return ShardHealing(shard, rung, made_of=made_of)

    def _serves(self, stage: int) -> bool:
        """Say whether others can be made of a stage: it is there or will be, and has blocks."""
        return bool(self._blocks(stage)) and stage not in self._made_up

    def _blocks(self, stage: int) -> tuple[str, ...]:
        return tuple(shard for shard in self._survey.stages[stage] if is_block(shard))


def is_block(shard: str) -> bool:
    """Say whether a shard is a block: others like it can stand in for it."""
    return shard.startswith("block.")


def _newest(copies: Copies, shard: str) -> tuple[Copy, ...]:
    """Return all copies of a shard that are as new as the newest, by peer."""
    known = copies.get(shard, ())
    age = min((copy.age for copy in known), default=0)
    return tuple(sorted((c for c in known if c.age == age), key=lambda copy: copy.peer))
