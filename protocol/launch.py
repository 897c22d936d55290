"""What a compute process is started with: its command line."""

import json
from dataclasses import dataclass

from pydantic import TypeAdapter

from skerry.protocol.compute import Hosting
from skerry.protocol.ids import PeerId


@dataclass(frozen=True, slots=True)
class Launch:
    """What a compute process is told on its command line, as JSON."""

    manifest: str
    """Canonical JSON of the manifest."""
    store: str
    """Folder of the blob store, shared with the node process."""
    folder: str
    """Folder for error feedback, ledger and optimizer's moments of this run."""
    author: PeerId
    """This peer; what is random in its error feedback is its own."""
    threads: int
    """Torch threads."""
    hosting: Hosting | None = None
    """The stages of a peer of a ring; None: the whole model."""

    def to_json(self) -> str:
        """Return it as one line."""
        return TypeAdapter(Launch).dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "Launch":
        """Read what to_json wrote."""
        return TypeAdapter(Launch).validate_python(json.loads(text))
