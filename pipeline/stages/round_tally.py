"""What a host of stages has trained in a round, read from the results of its tasks."""

from dataclasses import dataclass, field
from math import sqrt

from skerry.pipeline.stages.cuts import ORIGIN
from skerry.pipeline.stages.tasks import Begun, Result, Scored, Stepped


@dataclass(slots=True)
class RoundTally:
    """Text tokens and loss of one round."""

    text_tokens: int = 0
    """Of the hosted stage that saw most, summed over the inner steps that were taken."""
    _squares: dict[str, list[float]] = field(default_factory=dict)
    """Squared norms of each shard's gradient, one of each inner step that was taken."""
    _nats: float = 0.0
    _scored_tokens: int = 0
    _scores: dict[int, Scored] = field(default_factory=dict)
    """The losses of the present step, by microbatch; a later attempt's in place of an earlier."""

    @property
    def loss(self) -> float:
        """Mean over the text tokens trained, nats; 0 where the loss is not computed."""
        return self._nats / self._scored_tokens if self._scored_tokens else 0.0

    @property
    def norms(self) -> dict[str, float]:
        """Norm of each shard's gradient before it was clipped, as the root mean square of steps."""
        return {shard: sqrt(sum(some) / len(some)) for shard, some in self._squares.items()}

    def add(self, result: Result) -> None:
        """Take in what came of a task."""
        match result:
            case Begun():
                self._scores.clear()
            case Scored():
                self._scores[result.place.microbatch] = result
            case Stepped():
                self._end_step(result)

    def _end_step(self, stepped: Stepped) -> None:
        taken = [stage for stage in stepped.stages if not stage.reason]
        self.text_tokens += max((stage.text_tokens for stage in taken), default=0)
        for stage in taken:
            for shard, norm in stage.shard_norms.items():
                self._squares.setdefault(shard, []).append(norm * norm)
            if stage.visits.stage == ORIGIN:
                scores = [self._scores[number] for number in stage.visits.microbatches]
                self._nats += sum(score.loss for score in scores)
                self._scored_tokens += sum(score.text_tokens for score in scores)
        self._scores.clear()
