"""What a node asks of its compute process to keep stale copies of its stages elsewhere."""

from dataclasses import dataclass
from typing import Literal

from skerry.protocol.ids import Address
from skerry.protocol.messages import ShardPayload

SHADOWS_FOLDER = "shadows"
"""In the folder of the compute process: copies to be sent, and what the next ones build upon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shade:
    """Encode a hosted shard's parameters in the open round. Replied by ``Shaded``."""

    kind: Literal["shade"] = "shade"
    request: int
    shard: str
    base: Address | None
    """The bf16 parameters that the holder has confirmed; None: a whole copy is wanted."""
    step: int = 0
    """Inner steps that are over: the parameters as they are now; 0: those of the round's start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaded:
    """A shard's copy is ready to be sent."""

    kind: Literal["shaded"] = "shaded"
    request: int
    round: int
    """That was open."""
    payload: ShardPayload
    """What is to be sent."""
    whole: bool
    """Whether it needs no copy before it."""
    bits: ShardPayload
    """The bf16 parameters that it makes: the base of the next one."""
