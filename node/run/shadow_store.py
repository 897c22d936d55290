"""The stale copies that this node keeps for other peers: of each shard the newest, on disk.

A copy is kept as it came, a whole one and differences upon it, under the signed word of the host
that sent it. Nothing is decoded here: whoever brings the shard back does that.
"""

import logging
import threading
from pathlib import Path

from skerry.node.run.frame_file import framed, read_frames
from skerry.protocol.blobs import BlobStore, PartialBlob, remove_files, write_atomic
from skerry.protocol.codec import open_shadow
from skerry.protocol.messages import SignedShadow

_LOG = logging.getLogger(__name__)


class ShadowStore:
    """Copies by shard. Methods block on the disk."""

    def __init__(self, folder: Path) -> None:
        """Keep copies in ``folder``, created if missing; those that were cut short are dropped."""
        self.blobs = BlobStore(folder)
        self._file, self._lock = folder / "copies.bin", threading.Lock()
        self.blobs.clear_leftovers()
        remove_files(folder.glob("*.part"))
        found = (frame.item for frame in read_frames(self._file, open_shadow))
        self.copies: dict[str, SignedShadow] = {x.message.shard: x for x in found if self.has(x)}
        """The newest complete copy of each shard."""

    def has(self, copy: SignedShadow, all_but: int = 0) -> bool:
        """Say whether the parts of a copy are here, ``all_but`` so many of the last."""
        parts = copy.message.parts[: len(copy.message.parts) - all_but]
        return all(self.blobs.size(part.address) == part.size for part in parts)

    def keep(self, copy: SignedShadow, last: PartialBlob, oldest: int) -> None:
        """Put a copy, whose last part has just come, in the place of the one before it.

        Copies of rounds before ``oldest`` are dropped, and whatever belongs to none. Two hosts'
        may come in two threads at once: neither takes the other's new part for nobody's.

        Raises: ProtocolError if the bytes are not the announced ones, StateError.
        """
        with self._lock:
            last.finish()
            kept = {**self.copies, copy.message.shard: copy}
            kept = {shard: one for shard, one in kept.items() if one.message.round >= oldest}
            write_atomic(self._file, framed(one.envelope for one in kept.values()))
            self.copies = kept
            wanted = [part.address for one in kept.values() for part in one.message.parts]
            remove_files(self.blobs.set_aside(wanted))
