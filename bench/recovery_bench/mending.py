"""How a policy brings lost stages back, by the product's own rules (recovery/).

Shape suffix: N parameters of a shard.
"""

from collections.abc import Sequence
from itertools import chain

from torch import Tensor

from recovery_bench.policies import Policy
from recovery_bench.staged import StagedModel
from skerry.pipeline.shadow_codec import decode_shadow, encode_shadow
from skerry.pipeline.shards import initial_shard
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import InnerSection, Manifest
from skerry.protocol.rings.bypass import Bypass
from skerry.recovery.healing import StageHealing, plan_healing
from skerry.recovery.neighbours import Neighbour
from skerry.recovery.rebuilding import rebuilt
from skerry.recovery.survey import Copy, LostStage, Place, Survey, Taker
from skerry.recovery.swaps import learned_roles, visiting_order

_HOLDER = PeerId("holder")
PUBLISHED_LR = 1.1
"""By what the published code multiplies the learning rate of a stage that came back."""


class Shadows:
    """What the holders of all stages' shadows have, as bytes brought it there."""

    def __init__(self, every: int) -> None:
        """Send every ``every`` steps."""
        self._every = every
        self._held: dict[tuple[int, int], Tensor] = {}
        self.sent_bytes = 0
        self.whole_bytes = 0
        """What plain bf16 would have been."""

    def send(self, model: StagedModel, step: int) -> None:
        """Send shadows of all stages before step ``step`` if they are due."""
        if step % self._every:
            return
        for stage in range(len(model.stages)):
            for place, flat_N in enumerate(model.blocks(stage)):
                base_N = self._held.get((stage, place))
                payload = encode_shadow(flat_N, base_N)
                self._held[stage, place] = decode_shadow(payload, flat_N.numel(), base_N)
                self.sent_bytes += len(payload)
                self.whole_bytes += 2 * flat_N.numel()

    def blocks(self, model: StagedModel, stage: int) -> list[Tensor]:
        """Return what is held of a stage, [N] f32 for each block."""
        places = range(len(model.stages[stage]))
        return [self._held[stage, place].float() for place in places]


class Mender:
    """Brings stages back and sends microbatches around those that are not to be trusted yet."""

    def __init__(self, policy: Policy, manifest: Manifest, model: StagedModel) -> None:
        """Mend ``model`` as ``policy`` says."""
        self._policy, self._manifest, self._model = policy, manifest, model
        self._bypass = Bypass(steps=policy.bypass_steps)
        self._made: dict[int, int] = {}
        self.shadows = Shadows(policy.shadow_every) if policy.rung == "shadow" else None

    def orders(self, step: int, microbatches: int) -> list[tuple[int, ...]]:
        """Return which stages each microbatch of a step visits, in this order."""
        stages = len(self._model.stages)
        plain = [
            visiting_order(stages, self._policy.swaps and number % 2 == 1)
            for number in range(microbatches)
        ]
        passing = {
            stage: self._bypass.passing(step - made, microbatches)
            for stage, made in self._made.items()
        }
        return [
            tuple(stage for stage in order if number not in passing.get(stage, ()))
            for number, order in enumerate(plain)
        ]

    def mend(self, lost: Sequence[int], step: int) -> None:
        """Bring back the stages lost at the beginning of a step, with what is left of others."""
        left = {
            stage: Neighbour(self._model.blocks(stage), self._norm(stage))
            for stage in range(len(self._model.stages))
            if stage not in lost
        }
        survey = self._survey(lost)
        for healing in plan_healing(survey):
            stage = healing.lost.stage
            self._model.replace(stage, self._remade(healing, left), self._inner())
            self._made[stage] = step

    def _survey(self, lost: Sequence[int]) -> Survey:
        """Return what is left of this one ring, as its peers would see it."""
        names = [tuple(spec.name for spec in specs) for specs in self._model.stages]
        shadows = {name: (Copy(_HOLDER, 0),) for name in chain(*names)} if self.shadows else {}
        return Survey(
            stages=tuple(names),
            lost=tuple(LostStage(n, _HOLDER, Taker(_HOLDER, Place.SAME)) for n in lost),
            shadows=shadows,
            partners=learned_roles([visiting_order(len(names), self._policy.swaps)]),
        )

    def _remade(self, healing: StageHealing, left: dict[int, Neighbour]) -> list[Tensor]:
        """Return the blocks of a lost stage."""
        if self._policy.rung == "random":
            return self._random(healing.lost.stage)
        if self.shadows:
            return self.shadows.blocks(self._model, healing.lost.stage)
        return list(rebuilt(healing, left, self._policy.exponent).values())

    def _norm(self, stage: int) -> float:
        norm = self._model.norms[stage]
        if self._policy.rung == "published":
            return min(norm, self._manifest.inner.clip) + 1e-4
        return norm

    def _random(self, stage: int) -> list[Tensor]:
        layers = self._manifest.model.layers
        seed = self._manifest.seed + 1
        return [initial_shard(seed, spec, layers) for spec in self._model.stages[stage]]

    def _inner(self) -> InnerSection | None:
        if self._policy.rung != "published":
            return None
        inner = self._manifest.inner
        return inner.model_copy(update={"lr": PUBLISHED_LR * inner.lr, "warmup_steps": 0})
