"""Encoded pseudo-gradients in the blob store: the codecs of all shards of one model.

The meeting point of compression/ and the blob store; used for our own contributions
(feedback.py) and for everyone's (outer.py). It trusts no payload.
"""

from collections.abc import Sequence

import torch

from skerry.compression.aggregate import Divisor, WeightedPayload, aggregate
from skerry.compression.drift import Drift
from skerry.compression.errors import CompressionError
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.pipeline.codecs import codec_options, shapes_of
from skerry.protocol.blobs import BlobStore
from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.layout import ShardSpec, layout_of
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import ShardPayload


class Payloads:
    """Encodes into and decodes from the blob store, shard by shard in layout order."""

    def __init__(self, manifest: Manifest, store: BlobStore) -> None:
        """Make the codec of each shard, with the manifest's options."""
        self.layout: tuple[ShardSpec, ...] = layout_of(manifest.model)
        self._store = store
        self._codecs = shard_codecs(manifest)

    def encode(
        self, position: int, feedback: torch.Tensor, drift: Drift | None = None
    ) -> ShardPayload:
        """Encode shard ``position`` and store the bytes.

        Args:
            position: of the shard in the layout.
            feedback: [numel] f32; what was sent is subtracted in place.
            drift: one round's, folded into the feedback first, in the same pass.
        Raises: StateError("SK-DSK-001") on a full disk.
        """
        data = self._codecs[position].encode(feedback, drift)
        address = self._store.put(data)
        return ShardPayload(self.layout[position].name, address, len(data))

    def add(
        self, position: int, payload: ShardPayload, into: torch.Tensor, factor: float = 1.0
    ) -> None:
        """Add ``factor`` times one shard's payload to ``into`` [numel] f32, in place.

        Raises: as ``_read`` and, if it is malformed, CompressionError; ``into`` is then untouched.
        """
        self._codecs[position].add(self._read(position, payload), into, factor)

    def aggregate(
        self,
        position: int,
        payloads: Sequence[tuple[ShardPayload, int]],
        divisor: Divisor,
    ) -> torch.Tensor:
        """Return the mean [numel] f32 of one shard's payloads, given with their weights.

        Raises: as ``add``.
        """
        weighted = [
            WeightedPayload(self._read(position, payload), weight) for payload, weight in payloads
        ]
        return aggregate(self._codecs[position], weighted, divisor)

    def flaw(self, shards: tuple[ShardPayload, ...]) -> str:
        """Return why a contribution must not be applied, or "" if it is sound.

        Decodes one shard at a time, so that memory does not grow with the model.
        """
        try:
            self._check_names(shards)
            for position, payload in enumerate(shards):
                self._codecs[position].check(self._read(position, payload))
        except (CompressionError, ProtocolError) as error:
            return error.reason
        except StateError:
            return "missing"
        return ""

    def _read(self, position: int, payload: ShardPayload) -> bytes:
        """Read one shard's payload.

        Raises: StateError if it is missing or damaged on disk, ProtocolError("size") or
        ProtocolError("address") if it is not as announced.
        """
        limit = self._codecs[position].max_payload_bytes
        stored = self._store.size(payload.address)
        if payload.size > limit or stored not in (None, payload.size):
            detail = f"{payload.shard}: {stored} bytes, announced {payload.size}"
            raise ProtocolError("size", f"{detail}, limit {limit}")
        return self._store.read(payload.address)

    def _check_names(self, shards: tuple[ShardPayload, ...]) -> None:
        names = tuple(payload.shard for payload in shards)
        if names != tuple(spec.name for spec in self.layout):
            raise ProtocolError("shards", f"shards {names[:8]!r} are not those of the model")


def shard_codecs(manifest: Manifest) -> tuple[PseudoGradientCodec, ...]:
    """Return the codecs of all shards in layout order. Raises: ValueError on a shard too large."""
    options = codec_options(manifest)
    return tuple(
        PseudoGradientCodec(shapes_of(spec), options) for spec in layout_of(manifest.model)
    )
