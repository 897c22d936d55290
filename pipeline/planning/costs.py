"""What the simulator assumes of links and schedules, by name.

``PUBLISHED`` is the model behind the published times of SkipPipe (arXiv 2502.19913, repository
gensyn-ai/skippipe, schedulers/com_sym.py): links never contend, peers take what came first, and
rest 0.13 s between two computations (0.09 s after one of a microbatch that has just begun).
``UPLINKS`` differs in two points: a sender's tensors leave one after the other, and backward work
goes first. ``HOME`` is what ``skerry plan`` assumes: downlinks are shared as well, and a gradient
leaves before the weights' own gradients are computed.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CostModel:
    """How time is counted."""

    contended: bool = True
    """A sender's tensors leave one after the other."""
    downlinks: bool = True
    """A receiver's tensors arrive one after the other."""
    backward_first: bool = True
    rest_s: float = 0.0
    """Pause of a peer after a computation."""
    rest_injected_s: float = 0.0
    """Pause after the first forward of a microbatch."""
    ship_after: float = 2 / 3
    """Share of a backward after which the gradient leaves: recomputation and the gradient of the
    input are two of three equal parts, that of the weights follows (zero bubble schedules,
    arXiv 2401.10241)."""
    detect_s: float = 5.0
    """From a peer's going down until its microbatches start again."""
    bypass: bool = False
    """Whether microbatches pass by stages whose hosts are all down."""


PUBLISHED = CostModel(
    contended=False,
    downlinks=False,
    backward_first=False,
    rest_s=0.13,
    rest_injected_s=0.09,
    ship_after=1.0,
)
UPLINKS = CostModel(downlinks=False, ship_after=1.0)
HOME = CostModel()
