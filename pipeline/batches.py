"""Which text is in which batch: a pure function of the seed and the batch's number.

The training text is a row of windows of ``context + 1`` bytes at a stride of ``context``: each
byte but the first is predicted once. A pass visits all windows once, in an order of its own.
Peers share the numbering and take different numbers, so within a pass no text is trained twice.
"""

from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ROUNDS = 4
"""Feistel rounds; four make the order indistinguishable from a random one (Luby, Rackoff 1988)."""


class Batches:
    """The numbered batches of one training text.

    ``num_windows``: windows in a pass.
    """

    def __init__(
        self, training: NDArray[np.uint8], context: int, batch_size: int, seed: int
    ) -> None:
        """Number the windows of ``training`` [bytes]. Raises: ValueError if there is none."""
        self.num_windows = (len(training) - 1) // context
        if self.num_windows < 1:
            raise ValueError(f"{len(training)} bytes of text, at least {context + 1} needed")
        self._training = training
        self._context = context
        self._batch_size = batch_size
        self._seed = seed

    def batch(self, index: int) -> Tensor:
        """Return batch ``index`` >= 0 as [B, context + 1] int64, on the CPU.

        It holds the windows at places ``index * B`` to ``index * B + B - 1`` of the endless row
        of passes, so it may reach from one pass into the next.
        """
        starts_B = self._windows(index) * self._context
        places_BS = starts_B[:, None] + np.arange(self._context + 1)
        return torch.from_numpy(self._training[places_BS].astype(np.int64))

    def _windows(self, index: int) -> NDArray[np.int64]:
        """Return the window numbers [B] of one batch."""
        first = index * self._batch_size
        places = [divmod(first + i, self.num_windows) for i in range(self._batch_size)]
        passes_B = np.array([number for number, _ in places], dtype=np.int64)
        within_B = np.array([place for _, place in places], dtype=np.uint64)
        windows_B = np.empty(self._batch_size, dtype=np.int64)
        for number in np.unique(passes_B):
            mine_B = passes_B == number
            keys = _round_keys(self._seed, int(number))
            windows_B[mine_B] = permuted(within_B[mine_B], self.num_windows, keys)
        return windows_B


def permuted(places: NDArray[np.uint64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Map places of ``range(size)`` one to one onto ``range(size)``, in no visible order.

    A Feistel network permutes the smallest power of four that holds the range; places that fall
    outside go through it again until they are inside (cycle walking), which keeps it one to one.
    No table is kept: a text of any size costs the same.

    Args:
        places: [n] uint64, below ``size``.
        keys: [rounds] uint64.
    Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains".
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    result = _feistel(places, half_bits, keys)
    while (outside := result >= size).any():
        result[outside] = _feistel(result[outside], half_bits, keys)
    return result


def _feistel(
    values: NDArray[np.uint64], half_bits: int, keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    shift, mask = np.uint64(half_bits), np.uint64(2**half_bits - 1)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return (left << shift) | right


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over the word: the finaliser of SplitMix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _round_keys(seed: int, number: int) -> NDArray[np.uint64]:
    hashed = blake2b(f"skerry pass {seed} {number}".encode(), digest_size=8 * _ROUNDS).digest()
    return np.frombuffer(hashed, dtype="<u8").astype(np.uint64)
