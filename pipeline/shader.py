"""The compute process's part in stale copies: a shard in bf16, as a payload for its holder.

What the holder has confirmed lies on disk as the base of the next difference, not in memory: two
bytes a parameter would be a sixth of what a stage takes.

Shape suffix: N parameters of the shard.
"""

from pathlib import Path

import torch
from torch import Tensor

from skerry.pipeline.shadow_codec import encode_shadow, is_delta
from skerry.protocol.blobs import BlobStore
from skerry.protocol.errors import StateError
from skerry.protocol.ids import Address
from skerry.protocol.messages import ShardPayload
from skerry.protocol.shading import SHADOWS_FOLDER


class Shader:
    """Encodes copies of shards."""

    def __init__(self, folder: Path) -> None:
        """Keep payloads and bases below ``folder``, that of the compute process."""
        self._store = BlobStore(folder / SHADOWS_FOLDER)

    def copy(
        self, shard: str, values_N: Tensor, base: Address | None
    ) -> tuple[ShardPayload, ShardPayload, bool]:
        """Return the payload, the bf16 parameters that it makes, and whether it is whole.

        Args:
            values_N: [N] f32.
            base: of the bf16 parameters that the holder has; one that is gone here is done without.
        Raises: StateError on a full disk.
        """
        bits_N = values_N.detach().cpu().to(torch.bfloat16)
        payload = encode_shadow(bits_N, None if base is None else self._base(base))
        stored = self._stored(shard, payload)
        bits = self._stored(shard, bits_N.view(torch.int16).numpy().astype("<i2").tobytes())
        return stored, bits, not is_delta(payload)

    def _base(self, address: Address) -> Tensor | None:
        try:
            data = bytearray(self._store.read(address))
        except StateError:
            return None
        return torch.frombuffer(data, dtype=torch.int16).view(torch.bfloat16)

    def _stored(self, shard: str, data: bytes) -> ShardPayload:
        return ShardPayload(shard, self._store.put(data), len(data))
