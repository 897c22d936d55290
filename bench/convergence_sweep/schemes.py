"""How a replica's error feedback becomes a payload: the codec, the reference scheme, or nothing.

Each works on one shard. What is applied is decoded from the payloads alone, as at any peer, and
all are aggregated by the same rule, the median clip included.

Shape suffixes: N entries of the shard, M kept entries.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from comparators.reference import ReferencePayload, ReferenceScheme
from convergence_sweep.configurations import Scheme
from skerry.compression.aggregate import Divisor, Rule, WeightedPayload, aggregate
from skerry.compression.drift import Drift, fold
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.pipeline.payloads import shard_codecs
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import Manifest

P = TypeVar("P")


class ShardScheme(Protocol[P]):
    """A way to send one shard; it holds no state of a replica, and all replicas weigh the same."""

    def encode(self, feedback: Tensor, drift: Drift) -> P:
        """Fold ``drift`` into error feedback [N] f32 and take out what is sent, in place."""

    def num_bytes(self, payload: P) -> int:
        """Return how much travels."""

    def aggregate(self, payloads: Sequence[P], divisor: Divisor) -> Tensor:
        """Return the mean [N] f32 of the replicas' payloads."""


class CodecScheme:
    """The product's codec."""

    def __init__(self, codec: PseudoGradientCodec) -> None:
        """Use the codec of one shard."""
        self._codec = codec

    def encode(self, feedback: Tensor, drift: Drift) -> bytes:
        """Encode as pipeline/payloads.py does."""
        return self._codec.encode(feedback, drift)

    def num_bytes(self, payload: bytes) -> int:
        """Count all bytes, the header included."""
        return len(payload)

    def aggregate(self, payloads: Sequence[bytes], divisor: Divisor) -> Tensor:
        """Aggregate as pipeline/payloads.py does."""
        weighted = [WeightedPayload(payload, weight=1) for payload in payloads]
        return aggregate(self._codec, weighted, Rule(divisor))


class PaperScheme:
    """The scheme of the SparseLoCo paper."""

    def __init__(self, reference: ReferenceScheme) -> None:
        """Use the scheme of one shard."""
        self._reference = reference

    def encode(self, feedback: Tensor, drift: Drift) -> ReferencePayload:
        """Keep what the paper keeps, as 2 bits and a codebook per tensor."""
        fold(feedback, drift)
        return self._reference.encode(feedback)

    def num_bytes(self, payload: ReferencePayload) -> int:
        """Count as the paper does: 14 bits per kept entry, and the codebooks."""
        return payload.num_bytes

    def aggregate(self, payloads: Sequence[ReferencePayload], divisor: Divisor) -> Tensor:
        """Apply our rule to the decoded entries."""
        updates = [self._reference.decode(payload) for payload in payloads]
        return _mean(updates, self._reference.numel, divisor)


class DenseScheme:
    """Every entry as fp32: nothing stays behind in the error feedback."""

    def encode(self, feedback: Tensor, drift: Drift) -> Tensor:
        """Take everything out."""
        fold(feedback, drift)
        payload_N = feedback.clone()
        feedback.zero_()
        return payload_N

    def num_bytes(self, payload: Tensor) -> int:
        """Count four bytes per entry."""
        return payload.nbytes

    def aggregate(self, payloads: Sequence[Tensor], divisor: Divisor) -> Tensor:
        """Apply our rule to all entries; both divisors come to the same."""
        everything_N = torch.arange(payloads[0].numel())
        updates = [(everything_N, payload) for payload in payloads]
        return _mean(updates, everything_N.numel(), divisor)


def shard_schemes(scheme: Scheme, manifest: Manifest) -> list[ShardScheme[Any]]:
    """Make the scheme of each shard in layout order, with the run's codec settings."""
    layout = layout_of(manifest.model)
    match scheme:
        case "codec":
            return [CodecScheme(codec) for codec in shard_codecs(manifest)]
        case "reference":
            shapes = [tuple(tensor.shape for tensor in spec.tensors) for spec in layout]
            return [PaperScheme(ReferenceScheme(one, manifest.codec.k)) for one in shapes]
        case "dense":
            return [DenseScheme() for _ in layout]


def _mean(updates: list[tuple[Tensor, Tensor]], numel: int, divisor: Divisor) -> Tensor:
    """Return the mean [N] of (indices, values), by the rule of compression/aggregate.py."""
    norms = [float(values_M.double().norm()) for _, values_M in updates]
    median = sorted(norms)[(len(norms) - 1) // 2]
    total_N, senders_N = torch.zeros(numel), torch.zeros(numel)
    for (indices_M, values_M), norm in zip(updates, norms, strict=True):
        clip = min(1.0, median / norm) if norm > 0 else 1.0
        total_N.index_add_(0, indices_M, values_M * clip)
        senders_N.index_add_(0, indices_M, torch.ones_like(values_M))
    if divisor == "replicas":
        return total_N / len(updates)
    return total_N / senders_N.clamp(min=1.0)
