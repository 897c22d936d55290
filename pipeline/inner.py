"""Inner steps: AdamW on this peer's batches, with the learning rate of the manifest.

The moments stay on the peer: they are kept across rounds and never sent. They are not written
to disk either; a process that starts anew ramps its learning rate up while they form again.

Shape suffixes: B sequences, S text tokens of a window (one more than are predicted).
"""

from math import cos, isfinite, pi, sqrt

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from skerry.pipeline.model import Decoder, window_loss
from skerry.protocol.manifest import InnerSection


def learning_rate(section: InnerSection, number: int, steps_taken: int) -> float:
    """Return the learning rate of inner step ``number`` of the run.

    Linear from lr/warmup_steps to lr, then a cosine down to min_lr_ratio lr at decay_steps, then
    level. A peer that took fewer steps than a round has, because it joined or restarted, rises
    linearly once more: with fresh moments AdamW's first steps are all of full size. In a run's
    first round the warm-up is the slower of the two and decides alone.

    Args:
        number: the same on all peers.
        steps_taken: since the moments were last reset.
    """
    span = max(1, section.decay_steps - section.warmup_steps)
    passed = min(1.0, max(0, number - section.warmup_steps) / span)
    floor = section.min_lr_ratio
    decayed = section.lr * (floor + (1 - floor) * (1 + cos(pi * passed)) / 2)
    fresh = _risen(steps_taken, min(section.warmup_steps, section.steps))
    return decayed * min(_risen(number, section.warmup_steps), fresh)


def _risen(steps: int, length: int) -> float:
    return min(1.0, (steps + 1) / length) if length else 1.0


class InnerOptimizer:
    """AdamW with decoupled weight decay on matrices only.

    Written out rather than torch.optim's, whose first use imports torch's compiler: seconds and
    100 MB on every start of every peer. A test holds the two against each other.
    Source: Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2.
    """

    def __init__(self, model: Decoder, section: InnerSection) -> None:
        """Optimize the parameters of ``model`` in place."""
        self._model, self._section = model, section
        self.reset()

    def reset(self) -> None:
        """Forget the moments; the learning rate ramps up again."""
        self._steps_taken = 0
        parameters = list(self._model.parameters())
        self._means = [torch.zeros_like(parameter) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in parameters]

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
        norm = clip_grad_norm_(self._model.parameters(), self._section.clip, foreach=False)
        value = loss.item()
        if not (isfinite(value) and isfinite(norm.item())):
            return None
        rate = learning_rate(self._section, number, self._steps_taken)
        self._steps_taken += 1
        self._descend(rate)
        return value

    def release_gradients(self) -> None:
        """Free the gradients' memory until the next step."""
        for parameter in self._model.parameters():
            parameter.grad = None

    @torch.no_grad()
    def _descend(self, lr: float) -> None:
        section = self._section
        mean_bias = 1 - section.beta1**self._steps_taken
        square_bias = 1 - section.beta2**self._steps_taken
        parameters = self._model.parameters()
        for parameter, mean, square in zip(parameters, self._means, self._squares, strict=True):
            if (gradient := parameter.grad) is None:
                continue
            if parameter.ndim >= 2:
                parameter.mul_(1 - lr * section.weight_decay)
            mean.lerp_(gradient, 1 - section.beta1)
            square.mul_(section.beta2).addcmul_(gradient, gradient, value=1 - section.beta2)
            scale = square.sqrt().div_(sqrt(square_bias)).add_(section.eps)
            parameter.addcdiv_(mean, scale, value=-lr / mean_bias)
