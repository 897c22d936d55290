"""A shard's parameters as one flat fp32 vector: from the seed, in and out of a model and bytes.

The vector is the shard's tensors in layout order, each row-major; on disk and on the wire it is
little-endian. Every peer must get the same bits from the same seed, so the initial values use
integers and single correctly rounded fp32 operations only, and no library's normal distribution.
"""

from hashlib import blake2b
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skerry.pipeline.model import ShardedModel
from skerry.protocol.blobs import BlobStore
from skerry.protocol.errors import StateError
from skerry.protocol.ids import Address
from skerry.protocol.layout import ShardSpec, TensorSpec

INITIAL_STD = 0.02
"""Standard deviation of initial matrices (GPT-2; the Llama models' initializer_range)."""

_RESIDUAL_WRITERS = frozenset({"o", "down"})
_LANES = 4
"""16-bit lanes of one 64-bit random word."""
_LANE_MEAN_SUM = _LANES * (2**16 - 1) // 2
_LANE_SUM_STD = sqrt(_LANES * (2**32 - 1) / 12)
_WORDS_AT_ONCE = 2**20


def initial_shard(seed: int, spec: ShardSpec, num_layers: int) -> Tensor:
    """Make a shard's initial parameters, the same bits on every platform and numpy version.

    Norm gains are 1. Matrix entries are near-normal: the sum of the four 16-bit lanes of one
    Philox word, centred and scaled to a standard deviation of 0.02. Philox's word stream for a
    key is guaranteed by numpy, Generator.standard_normal is not. Matrices that write to the
    residual (o, down) are smaller by sqrt(2 * num_layers), so that it does not grow with depth.

    Args:
        seed: the manifest's.
        spec: the shard; its name selects the stream.
        num_layers: blocks of the whole model.
    Returns: flat f32 [spec.numel].
    Source: Radford et al. 2019 (GPT-2) section 2.3 for the residual scaling.
    """
    key = blake2b(f"skerry initial {seed} {spec.name}".encode(), digest_size=16).digest()
    words = np.random.Philox(key=int.from_bytes(key, "little"))
    parts = [_initial_tensor(words, tensor, num_layers) for tensor in spec.tensors]
    return torch.from_numpy(np.concatenate(parts))


def load_shard(model: ShardedModel, spec: ShardSpec, flat: Tensor) -> None:
    """Copy ``flat`` [spec.numel] into the model's parameters of that shard.

    Raises: ValueError if the number of entries is wrong.
    """
    if flat.numel() != spec.numel:
        raise ValueError(f"{flat.numel()} parameters for {spec.name}, which has {spec.numel}")
    pieces = split_shard(spec, flat)
    with torch.no_grad():
        for parameter, piece in zip(model.shard_tensors(spec), pieces, strict=True):
            parameter.copy_(piece.view_as(parameter))


def split_shard(spec: ShardSpec, flat_N: Tensor) -> tuple[Tensor, ...]:
    """Return the parts of ``flat_N`` [spec.numel] that belong to each tensor, in layout order."""
    return torch.split(flat_N, [tensor.numel for tensor in spec.tensors])


def flatten_shard(model: ShardedModel, spec: ShardSpec, out: Tensor | None = None) -> Tensor:
    """Return a copy of the model's parameters of one shard, flat f32 on the model's device.

    Args:
        out: [spec.numel] where to put it, if not into a tensor of its own.
    """
    pieces = [tensor.detach().reshape(-1) for tensor in model.shard_tensors(spec)]
    return torch.cat(pieces, out=out)


def to_bytes(flat: Tensor) -> memoryview:
    """Return flat f32 as little-endian bytes: its own memory where the machine is that, too."""
    return flat.detach().cpu().numpy().astype("<f4", copy=False).view(np.uint8).data


def from_bytes(data: bytes | memoryview, spec: ShardSpec) -> Tensor:
    """Read what to_bytes wrote; returns flat f32 [spec.numel] that owns its memory.

    Raises: StateError("SK-DSK-002") if the size is not the shard's.
    """
    if len(data) != spec.state_bytes:
        raise StateError(
            "SK-DSK-002", f"{spec.name}: {len(data)} bytes, expected {spec.state_bytes}"
        )
    return torch.from_numpy(np.frombuffer(data, dtype="<f4").astype(np.float32))


def read_shard(store: BlobStore, address: Address, spec: ShardSpec) -> Tensor:
    """Read a shard's parameters from the disk into the memory of the tensor that is returned.

    Returns: flat f32 [spec.numel]. Raises: StateError("SK-DSK-002") as ``BlobStore.read_into``.
    """
    values = np.empty(spec.numel, dtype="<f4")
    store.read_into(address, values.view(np.uint8).data)
    return torch.from_numpy(values.astype(np.float32, copy=False))


def _initial_tensor(
    words: np.random.Philox, tensor: TensorSpec, num_layers: int
) -> NDArray[np.float32]:
    if len(tensor.shape) == 1:
        return np.ones(tensor.numel, dtype=np.float32)
    depth = sqrt(2 * num_layers) if tensor.name in _RESIDUAL_WRITERS else 1.0
    scale = np.float32(INITIAL_STD / (depth * _LANE_SUM_STD))
    values = np.empty(tensor.numel, dtype=np.float32)
    for start in range(0, tensor.numel, _WORDS_AT_ONCE):
        part = values[start : start + _WORDS_AT_ONCE]
        part[:] = _lane_sums(words.random_raw(part.size)) * scale
    return values


def _lane_sums(words: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Add the four lanes of each word and centre the sum; below 2**24, so exact in fp32."""
    lane = np.uint64(2**16 - 1)
    sums = sum(((words >> np.uint64(16 * i)) & lane for i in range(1, _LANES)), words & lane)
    return (sums.astype(np.int64) - _LANE_MEAN_SUM).astype(np.float32)
