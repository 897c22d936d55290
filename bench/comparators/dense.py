"""Every entry of a shard in half precision or in 8 bits.

Shape suffixes: N entries of the shard, M entries of a tensor, C symbols of the codebook.
"""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from comparators.quantiser import quantise

SYMBOLS = 256


@dataclass(frozen=True, slots=True, eq=False)
class HalfPayload:
    """What is sent of one shard."""

    values_N: Tensor
    """[N] f16."""

    @property
    def num_bytes(self) -> int:
        """Bytes on the wire."""
        return 2 * self.values_N.numel()


class HalfScheme:
    """IEEE half precision (OpenDiLoCo's default)."""

    def encode(self, feedback_N: Tensor) -> HalfPayload:
        """Return all of [N] f32, rounded; subtract what it decodes to, in place."""
        payload = HalfPayload(feedback_N.half())
        feedback_N.sub_(payload.values_N)
        return payload

    def add(self, payload: HalfPayload, total_N: Tensor) -> None:
        """Add what was sent to ``total_N`` [N] f32."""
        total_N.add_(payload.values_N)


@dataclass(frozen=True, slots=True, eq=False)
class BytePayload:
    """What is sent of one shard, tensor by tensor."""

    symbols_M: tuple[Tensor, ...]
    """[M] u8 each."""
    codebooks_C: tuple[Tensor, ...]
    """[256] f32 each."""

    @property
    def num_bytes(self) -> int:
        """Bytes on the wire."""
        return sum(symbols.numel() for symbols in self.symbols_M) + 4 * SYMBOLS * len(
            self.codebooks_C
        )


class ByteScheme:
    """8 bits per entry with one codebook per tensor, as hivemind and INTELLECT-1 send them."""

    def __init__(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        """Lay out a shard with these tensors, one after the other."""
        self._sizes = [prod(shape) for shape in shapes]

    def encode(self, feedback_N: Tensor) -> BytePayload:
        """Return all of [N] f32, quantised; subtract what it decodes to, in place."""
        sent = []
        for values_M in torch.split(feedback_N, self._sizes):
            symbols_M, codebook_C = quantise(values_M, SYMBOLS)
            values_M.sub_(codebook_C[symbols_M.int()])
            sent.append((symbols_M, codebook_C))
        return BytePayload(tuple(one for one, _ in sent), tuple(other for _, other in sent))

    def add(self, payload: BytePayload, total_N: Tensor) -> None:
        """Add what was sent to ``total_N`` [N] f32."""
        parts = zip(
            torch.split(total_N, self._sizes), payload.symbols_M, payload.codebooks_C, strict=True
        )
        for total_M, symbols_M, codebook_C in parts:
            total_M.add_(codebook_C[symbols_M.int()])
