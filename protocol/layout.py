"""Which tensors a model has and to which shard each belongs; pure integers, no torch.

Shards are the unit of the outer exchange: ``embed``, ``block.0`` … and ``head``. A shard's
parameters at rest and on the wire are its tensors in layout order, little-endian fp32, without
a header; their sizes follow from the manifest, so nothing needs to be announced to be checked.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from skerry.protocol.ids import Digest, content_hash
from skerry.protocol.manifest import ModelSection
from skerry.protocol.messages import ShardPayload, ShardState

FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name within its shard and shape of one parameter tensor."""

    name: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of entries."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """One shard's tensors in their fixed order."""

    name: str
    tensors: tuple[TensorSpec, ...]

    @property
    def numel(self) -> int:
        """Number of parameters."""
        return sum(tensor.numel for tensor in self.tensors)

    @property
    def state_bytes(self) -> int:
        """Size of the fp32 parameters."""
        return FP32_BYTES * self.numel


def layout_of(model: ModelSection) -> tuple[ShardSpec, ...]:
    """Return all shards of a model, in order."""
    embed = ShardSpec("embed", (TensorSpec("tokens", (model.vocab_size, model.written_dim)),))
    head = ShardSpec(
        "head",
        (
            TensorSpec("norm", (model.d_model,)),
            TensorSpec("output", (model.vocab_size, model.d_model)),
        ),
    )
    blocks = (ShardSpec(f"block.{i}", _block(model)) for i in range(model.layers))
    return (embed, *blocks, head)


def state_digest(shards: Iterable[ShardPayload | ShardState]) -> Digest:
    """Return the digest of the parameters that one peer hosts, from the shards' addresses.

    They are given in layout order. All that host the same shards of a state have the same digest.
    """
    lines = "".join(f"{shard.shard} {shard.address}\n" for shard in shards)
    return Digest(content_hash(lines.encode()))


def _block(model: ModelSection) -> tuple[TensorSpec, ...]:
    d, kv = model.d_model, model.d_model // model.heads * model.kv_heads
    w = model.written_dim
    return (
        TensorSpec("attention_norm", (d,)),
        TensorSpec("q", (d, d)),
        TensorSpec("k", (kv, d)),
        TensorSpec("v", (kv, d)),
        TensorSpec("o", (w, d)),
        TensorSpec("ffn_norm", (d,)),
        TensorSpec("gate", (model.ffn_dim, d)),
        TensorSpec("up", (model.ffn_dim, d)),
        TensorSpec("down", (w, model.ffn_dim)),
    )
