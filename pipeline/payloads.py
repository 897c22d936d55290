"""Encoded pseudo-gradients in the blob store: the codecs of the shards that this peer hosts.

The meeting point of compression/ and the blob store; used for our own contributions
(feedback.py) and for everyone's (outer.py), which may hold other shards of the model than those
hosted here. It trusts no payload.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from skerry.compression.aggregate import Rule, WeightedPayload, aggregate
from skerry.compression.drift import Drift
from skerry.compression.errors import CompressionError
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.pipeline.codecs import codec_options, shapes_of
from skerry.protocol.blobs import BlobStore, check_blob
from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.layout import ShardSpec, layout_of
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import ShardPayload


@dataclass(frozen=True, slots=True)
class Believed:
    """One contribution's payload of one shard, and how far it counts."""

    payload: ShardPayload
    weight: int
    """Text tokens of the round."""
    trust: float
    """Above 0, at most 1 (compression/aggregate.py)."""


class Payloads:
    """Encodes into and decodes from the blob store, shard by shard in layout order."""

    def __init__(
        self, manifest: Manifest, store: BlobStore, layout: tuple[ShardSpec, ...] | None = None
    ) -> None:
        """Make the codec of each hosted shard, all of the model's by default."""
        self._model = {spec.name: place for place, spec in enumerate(layout_of(manifest.model))}
        self.layout = layout_of(manifest.model) if layout is None else layout
        self._store = store
        self._codecs = shard_codecs(manifest, self.layout)
        votes = manifest.aggregation.min_votes
        self._rule = Rule(manifest.outer.divisor, min_votes=votes)

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

    def make_durable(self) -> None:
        """Have all that was encoded survive a power cut."""
        self._store.lasting.make_durable()

    def add(
        self, position: int, payload: ShardPayload, into: torch.Tensor, factor: float = 1.0
    ) -> None:
        """Add ``factor`` times one shard's payload to ``into`` [numel] f32, in place.

        Raises: as ``read`` and, if it is malformed, CompressionError; ``into`` is then untouched.
        """
        self._codecs[position].add(self.read(position, payload), into, factor)

    def aggregate(self, position: int, some: Sequence[Believed]) -> torch.Tensor:
        """Return the mean [numel] f32 of one shard's payloads, by the run's rule.

        Raises: as ``add``.
        """
        weighted = [
            WeightedPayload(self.read(position, one.payload), one.weight, one.trust) for one in some
        ]
        return aggregate(self._codecs[position], weighted, self._rule)

    def codec(self, position: int) -> PseudoGradientCodec:
        """Return the codec of a shard."""
        return self._codecs[position]

    def flaw(self, shards: tuple[ShardPayload, ...]) -> str:
        """Return why a contribution must not be taken, or "" if it is sound as far as hosted.

        Decodes one shard at a time, so that memory does not grow with the model.
        """
        if not self.are_shards(shards):
            return "shards"
        found = {payload.shard: payload for payload in shards}
        mine = ((i, found[s.name]) for i, s in enumerate(self.layout) if s.name in found)
        reasons = (self.shard_flaw(position, payload) for position, payload in mine)
        return next(filter(None, reasons), "")

    def shard_flaw(self, position: int, payload: ShardPayload) -> str:
        """Return why one shard's payload must not be applied, or "" if it is sound."""
        try:
            self._codecs[position].check(self.read(position, payload))
        except (CompressionError, ProtocolError) as error:
            return error.reason
        except StateError:
            return "missing"
        return ""

    def are_shards(self, shards: tuple[ShardPayload, ...]) -> bool:
        """Say whether these are shards of the model, each once and in layout order."""
        places = [self._model.get(payload.shard, -1) for payload in shards]
        return bool(places) and places[0] >= 0 and places == sorted(set(places))

    def read(self, position: int, payload: ShardPayload) -> bytes:
        """Read one shard's payload.

        Raises: StateError if it is missing or damaged on disk, ProtocolError("size") or
        ProtocolError("address") if it is not as announced.
        """
        limit = self._codecs[position].max_payload_bytes
        stored = self._store.size(payload.address)
        if stored not in (None, payload.size):
            check_blob(self._store, payload.address)  # a torn file is no false word
        if payload.size > limit or stored not in (None, payload.size):
            detail = f"{payload.shard}: {stored} bytes, announced {payload.size}"
            raise ProtocolError("size", f"{detail}, limit {limit}")
        return self._store.read(payload.address)


def shard_codecs(
    manifest: Manifest, layout: tuple[ShardSpec, ...] | None = None
) -> tuple[PseudoGradientCodec, ...]:
    """Return the codecs of shards, by default of all. Raises: ValueError on a shard too large."""
    options = codec_options(manifest)
    specs = layout_of(manifest.model) if layout is None else layout
    return tuple(PseudoGradientCodec(shapes_of(spec), options) for spec in specs)
