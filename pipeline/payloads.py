"""Encoded pseudo-gradients in the blob store: the codecs of all shards of one model.

The meeting point of compression/ and the blob store; used for our own contributions
(feedback.py) and for everyone's (outer.py). It trusts no payload.
"""

import torch

from skerry.compression.errors import CompressionError
from skerry.compression.pseudogradient import PseudoGradientCodec, SparseUpdate
from skerry.protocol.blobs import BlobStore
from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.layout import ShardSpec, layout_of
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import ShardPayload


class Payloads:
    """Encodes into and decodes from the blob store, shard by shard in layout order."""

    def __init__(self, manifest: Manifest, store: BlobStore) -> None:
        """Make the codec of each shard; ``k`` is the manifest's."""
        self.layout: tuple[ShardSpec, ...] = layout_of(manifest.model)
        self._store = store
        self._codecs = [
            PseudoGradientCodec(tuple(tensor.shape for tensor in spec.tensors), manifest.codec.k)
            for spec in self.layout
        ]

    def encode(self, position: int, feedback: torch.Tensor) -> ShardPayload:
        """Encode shard ``position`` and store the bytes.

        Args:
            position: of the shard in the layout.
            feedback: [numel] f32; what was sent is subtracted in place.
        Raises: StateError("SK-DSK-001") on a full disk.
        """
        data = self._codecs[position].encode(feedback)
        address = self._store.put(data)
        return ShardPayload(self.layout[position].name, address, len(data))

    def decode(self, position: int, payload: ShardPayload) -> SparseUpdate:
        """Read and decode one shard's payload.

        Raises: StateError if it is missing or damaged on disk, ProtocolError("size") or
        ProtocolError("address") if it is not as announced, CompressionError if it is malformed.
        """
        codec = self._codecs[position]
        stored = self._store.size(payload.address)
        if payload.size > codec.max_payload_bytes or stored not in (None, payload.size):
            detail = f"{payload.shard}: {stored} bytes, announced {payload.size}"
            raise ProtocolError("size", f"{detail}, limit {codec.max_payload_bytes}")
        return codec.decode(self._store.read(payload.address))

    def decode_all(self, shards: tuple[ShardPayload, ...]) -> list[SparseUpdate]:
        """Decode a whole contribution; raises as decode and if shards are missing or extra."""
        self._check_names(shards)
        return [self.decode(position, payload) for position, payload in enumerate(shards)]

    def flaw(self, shards: tuple[ShardPayload, ...]) -> str:
        """Return why a contribution must not be applied, or "" if it is sound.

        Decodes one shard at a time, so that memory does not grow with the model.
        """
        try:
            self._check_names(shards)
            for position, payload in enumerate(shards):
                self.decode(position, payload)
        except (CompressionError, ProtocolError) as error:
            return error.reason
        except StateError:
            return "missing"
        return ""

    def _check_names(self, shards: tuple[ShardPayload, ...]) -> None:
        names = tuple(payload.shard for payload in shards)
        if names != tuple(spec.name for spec in self.layout):
            raise ProtocolError("shards", f"shards {names[:8]!r} are not those of the model")
