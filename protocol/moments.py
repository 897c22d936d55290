"""The optimizer's moments of one peer, for another that starts where it stands.

What a node and its compute process say to each other of them; see compute.py.
"""

from dataclasses import dataclass
from typing import Literal

from skerry.protocol.messages import ShardPayload


@dataclass(frozen=True, slots=True)
class ShardMoments:
    """Where the moments of one shard lie."""

    payload: ShardPayload
    """As large as the shard's parameters."""
    steps: int
    """That they are made of."""


Moments = tuple[ShardMoments, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveMoments:
    """Store the moments in the blob store, also between two inner steps.

    Replied by ``MomentsGiven``.
    """

    kind: Literal["give-moments"] = "give-moments"
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentsGiven:
    """The moments of all hosted shards that have been stepped."""

    kind: Literal["moments-given"] = "moments-given"
    request: int
    moments: Moments
