"""Inner steps of a full replica: AdamW on this peer's batches.

The moments are kept across rounds, and on disk for the next start (kept_moments.py). A process that
starts anew without any ramps its learning rate up while they form again.

Shape suffixes: B sequences, S text tokens of a window (one more than are predicted).
"""

from math import isfinite

from torch import Tensor

from skerry.pipeline.adamw import AdamW
from skerry.pipeline.model import Decoder, window_loss
from skerry.protocol.manifest import InnerSection


class InnerOptimizer:
    """Steps on whole batches, with one gradient norm over the whole model."""

    def __init__(self, model: Decoder, section: InnerSection) -> None:
        """Optimize the parameters of ``model`` in place."""
        self._model = model
        self.adamw = AdamW(list(model.parameters()), section)

    def reset(self) -> None:
        """Forget the moments; the learning rate ramps up again."""
        self.adamw.reset()

    def step(self, windows_BS: Tensor, number: int) -> float | None:
        """Take inner step ``number`` of the run.

        Args:
            windows_BS: [B, T + 1] int64; all but the first of each row are predicted.
            number: for the schedule, the same on all peers.
        Returns: the mean loss before the step, nats per text token; None if loss or gradient was
        not finite, in which case nothing changed.
        """
        self.release_gradients()
        loss = window_loss(self._model, windows_BS)
        loss.backward()  # type: ignore[no-untyped-call]
        value = loss.item()
        return value if isfinite(value) and self.adamw.step(number).taken else None

    def release_gradients(self) -> None:
        """Free the gradients' memory until the next step."""
        self.adamw.release_gradients()
