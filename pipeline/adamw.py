"""AdamW on some of a model's parameters, clipped, with the learning rate of the manifest.

Serves both kinds of hosts: a full replica steps all parameters at once (inner.py), a ring's peer
each of its stages as soon as that stage's microbatches are done (stages/).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, isfinite, pi, sqrt

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

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


@dataclass(frozen=True, slots=True)
class Update:
    """What came of one step."""

    norm: float
    """L2 norm of the gradient before it was clipped."""
    taken: bool
    """Whether the parameters changed; they do not if the gradient was not finite."""


class AdamW:
    """Clipped AdamW with decoupled weight decay on matrices only.

    Written out rather than torch.optim's, whose first use imports torch's compiler: seconds and
    100 MB on every start of every peer. A test holds the two against each other.
    Source: Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], section: InnerSection) -> None:
        """Optimize ``parameters`` in place; their gradients share one norm."""
        self._parameters, self.section = list(parameters), section
        self._places = {parameter: i for i, parameter in enumerate(self._parameters)}
        self.reset()

    def reset(self) -> None:
        """Forget the moments; the learning rate ramps up again."""
        self._steps_taken = 0
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]

    @property
    def steps_taken(self) -> int:
        """Steps that the moments are made of."""
        return self._steps_taken

    def steps(self, parameter: nn.Parameter) -> bool:
        """Say whether a parameter is one of those that are stepped here."""
        return parameter in self._places

    def moments_of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        """Return the mean of a parameter's gradients and of their squares, themselves."""
        place = self._places[parameter]
        return self._means[place], self._squares[place]

    def resume(self, steps_taken: int) -> None:
        """Count the moments, whose values were put in their place, as those of so many steps."""
        self._steps_taken = steps_taken

    def step(self, number: int) -> Update:
        """Take inner step ``number`` of the run along the parameters' gradients.

        Clips the gradients in place. A parameter without one stays as it is.
        """
        norm = float(clip_grad_norm_(self._parameters, self.section.clip, foreach=False))
        if not isfinite(norm):
            return Update(norm, taken=False)
        rate = learning_rate(self.section, number, self._steps_taken)
        self._steps_taken += 1
        self._descend(rate)
        return Update(norm, taken=True)

    def release_gradients(self) -> None:
        """Free the gradients' memory until the next step."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def _descend(self, lr: float) -> None:
        section = self.section
        mean_bias = 1 - section.beta1**self._steps_taken
        square_bias = 1 - section.beta2**self._steps_taken
        states = zip(self._parameters, self._means, self._squares, strict=True)
        for parameter, mean, square in states:
            if (gradient := parameter.grad) is None:
                continue
            if parameter.ndim >= 2:
                parameter.mul_(1 - lr * section.weight_decay)
            mean.lerp_(gradient, 1 - section.beta1)
            square.mul_(section.beta2).addcmul_(gradient, gradient, value=1 - section.beta2)
            scale = square.sqrt().div_(sqrt(square_bias)).add_(section.eps)
            parameter.addcdiv_(mean, scale, value=-lr / mean_bias)
