"""What a node asks of the process that times a block (stages/timing.py). Does not import torch."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

Speed = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class SpeedRequest:
    """Which run's blocks are to be timed, and with what."""

    manifest: str
    """Canonical JSON."""
    threads: int
    """Torch threads."""
    memory: int
    """Bytes that it may take."""

    def to_json(self) -> bytes:
        """Return it as one line."""
        return TypeAdapter(SpeedRequest).dump_json(self)

    @staticmethod
    def from_json(text: bytes) -> "SpeedRequest":
        """Read what to_json wrote."""
        return TypeAdapter(SpeedRequest).validate_json(text)


@dataclass(frozen=True, slots=True)
class BlockSpeed:
    """Text tokens per second through one block."""

    forward: Speed
    backward: Speed
    """With the forward that is computed again for it."""
    threads: int
    """Torch threads with which it was measured."""

    def to_json(self) -> bytes:
        """Return it as one line."""
        return TypeAdapter(BlockSpeed).dump_json(self)

    @staticmethod
    def from_json(text: bytes) -> "BlockSpeed":
        """Read what to_json wrote. Raises: ValueError."""
        return TypeAdapter(BlockSpeed).validate_json(text)
