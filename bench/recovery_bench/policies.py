"""What is compared: how a lost stage comes back, and how often stages are lost.

The published recovery is CheckFree's (arXiv:2506.15461) as its code has it: gradient norms after
clipping, a learning rate larger by a tenth from then on, no warm-up.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeVar

from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import Manifest

T = TypeVar("T", int, float)
STEP_S = 91.3
"""Seconds of an iteration in the paper: what turns failures per hour into failures per step."""
RATES = (16, 10, 5)
"""Percent of the stages that are lost in an hour, the most telling first."""
PUBLISHED_EXTRA = {5: 40, 10: 45, 16: 80}
"""Percent more iterations to a fixed loss with CheckFree+ (500M parameters; from its table 2)."""
FREE = "none"
"""The policy that all others are compared with: nothing is lost."""


def _setting(default: T, about: str) -> T:
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True, slots=True)
class Size:
    """How much one job trains. The defaults take about a minute on one core of 2026."""

    stages: int = _setting(6, "stages, besides the origin's embedding and head")
    blocks: int = _setting(1, "blocks of each stage")
    d_model: int = _setting(96, "model width; 4 heads, 2 key-value heads")
    ffn_dim: int = _setting(256, "feed-forward width")
    context: int = _setting(32, "text tokens per sequence")
    batch_size: int = _setting(8, "sequences per step, each a microbatch of its own")
    steps: int = _setting(800, "inner steps")
    lr: float = _setting(1e-3, "learning rate after the warm-up, constant as in the paper")
    warmup_steps: int = _setting(30, "inner steps until then, and after a stage came back")
    every: int = _setting(20, "inner steps between two measurements of the validation loss")
    windows: int = _setting(64, "validation sequences that are measured")

    @property
    def text_tokens(self) -> int:
        """Trained by a job."""
        return self.steps * self.batch_size * self.context


Rung = Literal["none", "restart", "shadow", "average", "published", "random"]


@dataclass(frozen=True, slots=True)
class Policy:
    """One way of recovery."""

    name: str
    about: str
    rung: Rung
    shadow_every: int = 1
    """Inner steps between two shadows, or two checkpoints."""
    exponent: int = 1
    swaps: bool = False
    """Whether every other microbatch takes the two stages at each end in reverse (CheckFree+)."""
    bypass_steps: int = 0
    """Inner steps during which ever fewer microbatches pass over a made-up stage; half at first."""
    pairs: bool = False
    """Whether stages are lost two at a time, side by side; half as often."""
    rates: tuple[int, ...] = RATES[:1]
    """At which it is compared."""


POLICIES = (
    Policy(FREE, "nothing is lost, or a live host has a copy", "none", rates=(0,)),
    Policy(
        "restart-50",
        "all go back to a checkpoint every 50 steps",
        "restart",
        shadow_every=50,
        rates=RATES,
    ),
    Policy("shadow-10", "shadows in bf16 every 10 steps", "shadow", shadow_every=10, rates=RATES),
    Policy("average", "average of the neighbours, ends copied, warm-up", "average", rates=RATES),
    Policy(
        "plus",
        "CheckFree+ with pre-clip norms and a warm-up",
        "average",
        swaps=True,
        rates=RATES,
    ),
    Policy(
        "average-bypass",
        "average, bypassed for 30 steps",
        "average",
        bypass_steps=30,
        rates=RATES,
    ),
    Policy("plus-published", "CheckFree+ as published", "published", swaps=True),
    Policy("swaps", "nothing is lost, but the ends swap", "none", swaps=True, rates=(0,)),
    Policy("pairs", "two side by side: interpolated", "average", pairs=True),
    Policy(
        "pairs-bypass",
        "two side by side: interpolated, bypassed for 30 steps",
        "average",
        bypass_steps=30,
        pairs=True,
    ),
    Policy("shadow-50", "shadows in bf16 every 50 steps", "shadow", shadow_every=50),
    Policy(
        "pairs-shadow-10",
        "two side by side: shadows every 10 steps",
        "shadow",
        shadow_every=10,
        pairs=True,
    ),
    Policy("published", "CheckFree as published, ends copied", "published"),
    Policy("average-squared", "average with squared norms", "average", exponent=2),
    Policy("random", "new random parameters", "random"),
)
"""In the order in which they are run."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Stages that are lost at the beginning of a step."""

    step: int
    stages: tuple[int, ...]


def losses(size: Size, percent: float, seed: int, pairs: bool) -> list[Loss]:
    """Draw which stages are lost when; the same for all policies.

    Each stage is lost in each step with the same probability, from the end of the warm-up on. Of
    two that would be lost side by side in one step only the first is: that is what pairs are for.

    Args:
        percent: of the stages in an hour of the paper's steps.
    """
    dice = Random(f"{seed} {percent} {pairs}")
    chance = percent / 100 * STEP_S / 3600 / (2 if pairs else 1)
    found = []
    for step in range(size.warmup_steps, size.steps):
        lost: list[int] = []
        for stage in range(size.stages - pairs):
            if dice.random() < chance and (not lost or lost[-1] < stage - 1):
                lost += [stage, stage + 1] if pairs else [stage]
        if lost:
            found.append(Loss(step, tuple(lost)))
    return found


def manifest_of(size: Size, seed: int) -> Manifest:
    """Return the manifest of a job; its learning rate does not decay."""
    model = {
        "layers": size.stages * size.blocks,
        "d_model": size.d_model,
        "ffn_dim": size.ffn_dim,
        "context": size.context,
    }
    inner = {
        "steps": size.warmup_steps,  # which bounds the warm-up of a stage that came back
        "batch_size": size.batch_size,
        "lr": size.lr,
        "min_lr_ratio": 1.0,
        "warmup_steps": size.warmup_steps,
    }
    named = {"owner": PeerId("bench"), "name": "recovery", "rounds": 1, "seed": seed}
    return Manifest.model_validate({**named, "model": model, "inner": inner})
