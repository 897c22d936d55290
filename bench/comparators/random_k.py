"""Random-k: all peers send the same, randomly chosen entries, so that no index is sent.

The seed of a round chooses one entry of every stretch of 4096/k, which is uniform, ascending and
costs no sort. Values go in half precision; what is not sent stays in the error feedback.
Source: the shared-seed sparsification of Konecny et al. 2016 (arXiv:1610.05492, section 3).

Shape suffixes: N entries of the shard, M chosen entries.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

TILE_ENTRIES = 4096


@dataclass(frozen=True, slots=True, eq=False)
class RandomPayload:
    """What is sent of one shard."""

    seed: int
    values_M: Tensor
    """[M] f16."""

    @property
    def num_bytes(self) -> int:
        """Bytes on the wire; the seed is the round's and known to all."""
        return 2 * self.values_M.numel()


class RandomScheme:
    """Encodes and decodes one shard; holds no state."""

    def __init__(self, numel: int, k: int) -> None:
        """Choose k of 4096 of ``numel`` entries. Raises: ValueError unless k divides 4096."""
        if TILE_ENTRIES % k:
            raise ValueError(f"k is {k}, need a divisor of {TILE_ENTRIES}")
        self._stretch, self._numel = TILE_ENTRIES // k, numel

    def positions(self, seed: int) -> Tensor:
        """Return the chosen entries [M] int64 of a round, ascending."""
        starts_M = torch.arange(0, self._numel, self._stretch)
        generator = torch.Generator().manual_seed(seed)
        starts_M += torch.randint(self._stretch, starts_M.shape, generator=generator)
        return starts_M.clamp_(max=self._numel - 1)

    def encode(self, feedback_N: Tensor, seed: int = 0) -> RandomPayload:
        """Return the round's entries; subtract what it decodes to, in place."""
        positions_M = self.positions(seed)
        payload = RandomPayload(seed, feedback_N[positions_M].half())
        feedback_N.index_add_(0, positions_M, payload.values_M.float(), alpha=-1)
        return payload

    def add(self, payload: RandomPayload, total_N: Tensor) -> None:
        """Add what was sent to ``total_N`` [N] f32."""
        total_N.index_add_(0, self.positions(payload.seed), payload.values_M.float())
