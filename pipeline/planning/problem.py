"""What is planned for: peers, the links between them, the model, the traffic and the limits.

Times follow from text tokens per second through one block. A *unit* is the computation of one
block; the head's is counted in units too. Sizes are bytes, rates bytes per second.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skerry.pipeline.planning.costs import HOME, CostModel

UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer, as measured or as promised."""

    name: str
    forward: float
    """Text tokens per second through one block, forward."""
    backward: float
    """The same, backward."""
    memory: int = UNLIMITED
    upload: float = float("inf")
    download: float = float("inf")
    site: str = ""
    """Where it is; links are known between sites."""
    domain: str = ""
    """What fails together: all peers of one domain may vanish at once."""


@dataclass(frozen=True, slots=True)
class Network:
    """Every pair of peers, in their order: [N, N] one-way seconds, [N, N] bytes per second."""

    latency_NN: NDArray[np.float64]
    bandwidth_NN: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ModelCosts:
    """The model as the planner sees it: blocks all alike between an embedding and a head."""

    blocks: int
    block_params: int
    embed_params: int
    head_params: int
    head_units: float
    """Forward and backward of head and loss, in forward units."""
    width: int
    """Entries of a row of the residual stream."""
    block_activation_bytes: int
    """Kept of one text token while one block's backward is computed."""
    head_activation_bytes: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What travels, and how much of it in one inner step."""

    microbatch_tokens: int
    """Text tokens of one microbatch."""
    payload_bytes: int
    """One microbatch's activations, or their gradients, as they are sent."""
    microbatches: int
    """Of one inner step of the whole swarm; 0: ``per_ring`` times the rings."""
    per_ring: int = 8
    overhead_s: float = 0.0
    """Added to every hop: copies and serialisation."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan may do."""

    slots: int = 8
    """Microbatches whose activations one peer keeps at a time."""
    skip_ratio: float = 0.0
    """Share of the stages that a microbatch skips; the first never is."""
    swap_ratio: float = 0.0
    """Share of the microbatches that take the two stages at each end in reverse (CheckFree+)."""
    stages: int = 0
    """Number of stages; 0: the planner chooses."""
    max_blocks: int = 0
    """Most blocks on one peer; 0: as many as its memory takes."""
    full_replicas: bool = True
    """Whether a peer with room for the whole model trains it alone."""
    shadow_below: int = 3
    """A stage hosted in fewer failure domains gets a stale copy on another peer; 0: none does.

    At 0.6 losses an hour and 5 minutes to replace a peer, a model of 8 stages loses a whole stage
    every 2.3 hours with 2 hosts of each, but every 32 hours with 3 (computed, independent losses).
    """


@dataclass(frozen=True, slots=True)
class Problem:
    """All that a plan follows from, but for a seed."""

    peers: tuple[Peer, ...]
    network: Network
    model: ModelCosts
    traffic: Traffic
    limits: Limits = field(default_factory=Limits)
    costs: CostModel = HOME

    def __post_init__(self) -> None:
        """Raise ValueError if names repeat or the network is of other peers."""
        size = len(self.peers)
        if len({peer.name for peer in self.peers}) != size:
            raise ValueError("two peers have the same name")
        for table_NN in (self.network.latency_NN, self.network.bandwidth_NN):
            if table_NN.shape != (size, size):
                raise ValueError(f"links are {table_NN.shape}, need {(size, size)}")

    def forward_s(self, peer: int) -> float:
        """Return the seconds of one unit, forward, for one microbatch."""
        return self.traffic.microbatch_tokens / self.peers[peer].forward

    def backward_s(self, peer: int) -> float:
        """Return the seconds of one unit, backward, for one microbatch."""
        return self.traffic.microbatch_tokens / self.peers[peer].backward
