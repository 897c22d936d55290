"""Validation loss: the same windows of the validation text every time."""

import numpy as np
import torch

from skerry.pipeline.corpus import Corpus
from skerry.pipeline.model import Decoder, window_loss


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
    available = (len(corpus.validation) - 1) // context
    num_windows = min(available, batch_size * num_batches)
    starts = [i * available // num_windows * context for i in range(num_windows)]
    device = model.embed.tokens.device
    total = 0.0
    with torch.no_grad():
        for first in range(0, num_windows, batch_size):
            some = starts[first : first + batch_size]
            windows = np.stack([corpus.validation[start : start + context + 1] for start in some])
            windows_BS = torch.from_numpy(windows.astype(np.int64)).to(device)
            total += float(window_loss(model, windows_BS)) * len(some)
    return total / num_windows
