"""One replica in stages, in one process: each stage with a gradient norm and an AdamW of its own.

A ring without a wire: the product's model, batches and optimizer; gradients are sums over text
tokens, divided by those that visited the stage, and clipped stage by stage, as stages/optimizer.py
does. Embedding and head are the origin's, which is not lost here.

Shape suffixes: B sequences, T text tokens, S = T + 1, D model width; N parameters of a shard.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skerry.pipeline.adamw import AdamW
from skerry.pipeline.model import Decoder
from skerry.pipeline.shards import flatten_shard, initial_shard, load_shard
from skerry.protocol.layout import ShardSpec, layout_of
from skerry.protocol.manifest import InnerSection, Manifest


class StagedModel:
    """The stages, their optimizers, and the norms of their last gradients."""

    def __init__(self, manifest: Manifest, stages: int, device: torch.device) -> None:
        """Make the initial parameters of the run's seed, in stages of equally many blocks."""
        self._manifest = manifest
        self.model = Decoder(manifest.model, manifest.seed).to(device)
        embed, *blocks, head = layout_of(manifest.model)
        size = len(blocks) // stages
        self.stages = [blocks[size * i : size * (i + 1)] for i in range(stages)]
        for spec in (embed, *blocks, head):
            load_shard(self.model, spec, initial_shard(manifest.seed, spec, len(blocks)))
        self._parameters = [self._of(specs) for specs in (*self.stages, [embed, head])]
        self._optimizers = [AdamW(some, manifest.inner) for some in self._parameters]
        self.norms = [1.0] * stages
        """L2 norm of each stage's last gradient before it was clipped."""

    @property
    def num_parameters(self) -> int:
        """Parameters of the model."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def blocks(self, stage: int) -> list[Tensor]:
        """Return a copy of a stage's parameters, [N] f32 for each block."""
        return [flatten_shard(self.model, spec) for spec in self.stages[stage]]

    def replace(
        self, stage: int, blocks: Sequence[Tensor], inner: InnerSection | None = None
    ) -> None:
        """Give a stage other parameters, [N] f32 for each block, and fresh moments.

        Args:
            inner: how it is trained from now on; None: as before, with a new warm-up.
        """
        for spec, flat in zip(self.stages[stage], blocks, strict=True):
            load_shard(self.model, spec, flat)
        section = inner or self._manifest.inner
        self._optimizers[stage] = AdamW(self._parameters[stage], section)

    def step(self, windows_BS: Tensor, number: int, orders: Sequence[tuple[int, ...]]) -> float:
        """Take inner step ``number``.

        Args:
            windows_BS: [B, S] int64.
            orders: which stages each of the B sequences visits, in this order.
        Returns: the mean loss, nats per text token. Raises: ArithmeticError if it is not finite.
        """
        tokens = windows_BS[0].numel() - 1
        total, visits = 0.0, [0] * len(self.stages)
        for order, rows in _grouped(orders).items():
            loss = self._summed_loss(windows_BS[rows], order)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
            for stage in order:
                visits[stage] += tokens * len(rows)
        for stage, count in enumerate((*visits, tokens * len(windows_BS))):
            self._take_step(stage, count, number)
        return total / (tokens * len(windows_BS))

    def validation_loss(self, windows_BS: Tensor) -> float:
        """Return the mean loss over some windows, all stages visited in order."""
        with torch.no_grad():
            loss = self._summed_loss(windows_BS, tuple(range(len(self.stages))))
        return loss.item() / windows_BS[:, 1:].numel()

    def _of(self, specs: Sequence[ShardSpec]) -> list[nn.Parameter]:
        return [tensor for spec in specs for tensor in self.model.shard_tensors(spec)]

    def _summed_loss(self, windows_BS: Tensor, order: tuple[int, ...]) -> Tensor:
        model = self.model
        x_BTD = model.embed(windows_BS[:, :-1], model.stream)
        for spec in (spec for stage in order for spec in self.stages[stage]):
            block = model.block[int(spec.name.removeprefix("block."))]
            x_BTD = block(x_BTD, model.stream)
        logits_BTV = model.head(x_BTD).float()
        return F.cross_entropy(
            logits_BTV.flatten(0, 1), windows_BS[:, 1:].flatten(), reduction="sum"
        )

    def _take_step(self, stage: int, count: int, number: int) -> None:
        """Step one stage, or the origin's part behind the last, on the mean over ``count``."""
        for parameter in self._parameters[stage]:
            if parameter.grad is not None:
                parameter.grad.div_(count)
        update = self._optimizers[stage].step(number)
        if not update.taken:
            raise ArithmeticError(f"the gradient of stage {stage} is not finite in step {number}")
        if stage < len(self.stages):
            self.norms[stage] = update.norm
        self._optimizers[stage].release_gradients()


def _grouped(orders: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    groups = defaultdict(list)
    for row, order in enumerate(orders):
        groups[order].append(row)
    return groups
