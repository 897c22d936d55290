"""The step of one stage: its gradients over its own text tokens, clipped, into its own AdamW."""

from collections.abc import Sequence
from math import hypot

from torch import nn

from skerry.pipeline.adamw import AdamW
from skerry.pipeline.stages.stage_model import StageModel
from skerry.pipeline.stages.tally import Tally
from skerry.pipeline.stages.tasks import StageStep, StageVisits
from skerry.protocol.manifest import InnerSection


class StageOptimizer:
    """Steps one stage as soon as its microbatches are done, whatever the other stages do."""

    def __init__(
        self, stage: int, shards: Sequence[str], model: StageModel, section: InnerSection
    ) -> None:
        """Optimize ``shards`` of ``model``, those of ``stage``, in place."""
        self._stage, self._first = stage, shards[0]
        self._shards: dict[str, list[nn.Parameter]] = {
            shard: model.parameters_of(shard) for shard in shards
        }
        parameters = [parameter for some in self._shards.values() for parameter in some]
        self.adamw = AdamW(parameters, section)

    def reset(self) -> None:
        """Forget the moments; the learning rate ramps up again."""
        self.adamw.reset()

    def release_gradients(self) -> None:
        """Free the gradients' memory."""
        self.adamw.release_gradients()

    def step(self, number: int, tally: Tally, expected: tuple[int, ...] | None) -> StageStep:
        """Take inner step ``number`` of the run along the summed gradients, and free them.

        Each shard's sum is divided by the text tokens that visited that shard: where a microbatch
        skips a stage, the gradient is the mean over those that did not (DESIGN 9). Stages without
        any stay as they are.

        Args:
            tally: of the step; nothing is owed any more.
            expected: the microbatches that the gradient must be made of; None: whichever it is.
        """
        # The origin counts at the embedding: what got there has passed the head as well.
        counted = tally.of(self._first)
        visits = StageVisits(self._stage, tuple(sorted(counted.microbatches)))
        norm, reason, shard_norms = 0.0, "", dict[str, float]()
        if expected is not None and visits.microbatches != expected:
            reason = "visits"
        elif not counted.text_tokens:
            reason = "idle"
        else:
            self._divide(tally)
            shard_norms = self._norms()
            update = self.adamw.step(number)
            norm, reason = update.norm, "" if update.taken else "non-finite"
        self.release_gradients()
        kept = {} if reason else shard_norms
        return StageStep(visits, counted.text_tokens, norm, reason, kept)

    def _divide(self, tally: Tally) -> None:
        for shard, parameters in self._shards.items():
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(tally.of(shard).text_tokens)

    def _norms(self) -> dict[str, float]:
        """Return the L2 norm of each shard's gradient, before it is clipped."""
        return {
            shard: hypot(*(float(p.grad.norm()) for p in parameters if p.grad is not None))
            for shard, parameters in self._shards.items()
        }
