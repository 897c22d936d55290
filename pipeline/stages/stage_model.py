"""The part of the model that one peer of a ring hosts: the same modules, under the same names.

``block.3.q`` of a full replica is ``block.3.q`` here, so shards.py moves its parameters likewise.

Shape suffixes: B sequences, T text tokens, D model width, V vocabulary.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from skerry.pipeline.model import Block, Embedding, Head, ShardedModel
from skerry.pipeline.stages.cuts import EMBED, HEAD, Stages, hosted_specs
from skerry.pipeline.stream import Stream
from skerry.protocol.layout import ShardSpec
from skerry.protocol.manifest import ModelSection


class StageModel(ShardedModel):
    """Embedding and head if it is the origin's, and blocks; zero until their shards are loaded."""

    def __init__(self, section: ModelSection, seed: int, stages: Stages) -> None:
        """Allocate the parameters of some stages. Raises: ValueError as ``hosted_specs``."""
        super().__init__()
        self.specs: tuple[ShardSpec, ...] = hosted_specs(section, stages)
        names = [spec.name for spec in self.specs]
        self.embed = Embedding(section) if EMBED in names else None
        self.block = nn.ModuleDict(
            {name.removeprefix("block."): Block(section) for name in names if "." in name}
        )
        self.head = Head(section) if HEAD in names else None
        self.stream = Stream(section, seed)

    def embedded(self, tokens_BT: Tensor) -> Tensor:
        """Return the embeddings [B, T, D] of text tokens [B, T] int64; origin only."""
        assert self.embed is not None, "the caller checks that this is the origin"
        rows_BTD: Tensor = self.embed(tokens_BT, self.stream)
        return rows_BTD

    def through(self, x_BTD: Tensor, blocks: Sequence[str]) -> Tensor:
        """Pass the residual stream [B, T, D] through blocks, in the given order."""
        for name in blocks:
            x_BTD = self.block[name.removeprefix("block.")](x_BTD, self.stream)
        return x_BTD

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Return the head's logits [B, T, V] f32; origin only."""
        assert self.head is not None, "the caller checks that this is the origin"
        logits_BTV: Tensor = self.head(x_BTD)
        return logits_BTV.float()

    def parameters_of(self, shard: str) -> list[nn.Parameter]:
        """Return the parameters of a hosted shard, by name, in layout order."""
        spec = next(spec for spec in self.specs if spec.name == shard)
        return self.shard_tensors(spec)
