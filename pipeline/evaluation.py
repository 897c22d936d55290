"""Validation loss: the same windows of the validation text every time.

Shape suffixes: B windows, S = T + 1 text tokens of one.
"""

import numpy as np
import torch
from torch import Tensor

from skerry.pipeline.corpus import Corpus
from skerry.pipeline.model import Decoder, window_loss


class ValidationWindows:
    """Evenly spaced windows of the validation text, of ``context + 1`` bytes each."""

    def __init__(self, corpus: Corpus, context: int, most: int) -> None:
        """Take ``most`` windows; fewer where the text has fewer."""
        self._text, self._context = corpus.validation, context
        self._available = (len(corpus.validation) - 1) // context
        self._count = min(self._available, most)

    def __len__(self) -> int:
        """Return how many windows there are."""
        return self._count

    def some(self, first: int, count: int) -> Tensor:
        """Return windows ``first`` to before ``first + count``, at most to the last, [B, S]."""
        numbers = range(first, min(first + count, self._count))
        starts = [i * self._available // self._count * self._context for i in numbers]
        windows = np.stack([self._text[start : start + self._context + 1] for start in starts])
        return torch.from_numpy(windows.astype(np.int64))


def validation_loss(
    model: Decoder, corpus: Corpus, context: int, batch_size: int, num_batches: int
) -> float:
    """Mean loss over evenly spaced windows of the validation text, without gradients.

    Args:
        model: on any device.
        corpus: its validation part holds at least one window of ``context + 1``.
        context: text tokens per window.
        batch_size: windows at once.
        num_batches: batches at most; fewer where the text has fewer windows.
    Returns: nats per text token; every text token counts the same.
    """
    windows = ValidationWindows(corpus, context, batch_size * num_batches)
    device = model.embed.tokens.device
    total = 0.0
    with torch.no_grad():
        for first in range(0, len(windows), batch_size):
            windows_BS = windows.some(first, batch_size).to(device)
            total += float(window_loss(model, windows_BS)) * len(windows_BS)
    return total / len(windows)
