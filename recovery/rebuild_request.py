"""What a node asks of the process that makes lost shards (rebuilder.py). Imports no torch."""

import json
from dataclasses import dataclass

from pydantic import TypeAdapter

from skerry.protocol.messages import ShardPayload
from skerry.recovery.healing import StageHealing


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of which others are made; its blocks lie in the blob store."""

    number: int
    blocks: tuple[ShardPayload, ...]
    norm: float
    """Of its last gradient, before that was clipped; 0: not known."""


@dataclass(frozen=True, slots=True)
class StaleCopy:
    """A stale copy of a shard; its parts lie in the blob store."""

    shard: str
    parts: tuple[ShardPayload, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be made, and of what."""

    manifest: str
    """Canonical JSON."""
    store: str
    """Folder of the blob store."""
    healings: tuple[StageHealing, ...]
    there: tuple[Stage, ...]
    copies: tuple[StaleCopy, ...] = ()

    def to_json(self) -> bytes:
        """Return it as one line."""
        return TypeAdapter(Request).dump_json(self)

    @staticmethod
    def from_json(text: bytes) -> "Request":
        """Read what to_json wrote."""
        return TypeAdapter(Request).validate_python(json.loads(text))


@dataclass(frozen=True, slots=True)
class Made:
    """Where the shards lie that were made."""

    shards: tuple[ShardPayload, ...]
    unusable: tuple[str, ...] = ()
    """Shards whose stale copies are none."""

    def to_json(self) -> bytes:
        """Return it as one line."""
        return TypeAdapter(Made).dump_json(self)

    @staticmethod
    def from_json(text: bytes) -> "Made":
        """Read what to_json wrote. Raises: ValueError."""
        return TypeAdapter(Made).validate_json(text)
