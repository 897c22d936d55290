"""Making lost shards anew, in a process of its own: JSON in, where the shards lie out.

Started by the node as ``python -m skerry.recovery.rebuilder`` when a plan of healing (healing.py)
says that stages are to be made of others, or of the seed. Their parameters lie in the blob store,
and what is made is put there. The node computes no tensor itself, and the compute process knows of
no other stage than its own; it has started by then.

Shape suffix: N parameters of a shard.
"""

import sys
from pathlib import Path

from torch import Tensor

from skerry.pipeline.shadow_codec import decode_shadow
from skerry.pipeline.shards import from_bytes, initial_shard, to_bytes
from skerry.protocol.blobs import BlobStore
from skerry.protocol.errors import ProtocolError
from skerry.protocol.layout import ShardSpec, layout_of
from skerry.protocol.manifest import parse_canonical
from skerry.protocol.messages import ShardPayload
from skerry.recovery.healing import Rung
from skerry.recovery.neighbours import Neighbour
from skerry.recovery.rebuild_request import Made, Request, Stage, StaleCopy
from skerry.recovery.rebuilding import rebuilt


def made(request: Request) -> Made:
    """Make what a request asks for, and store it.

    Raises: StateError if a blob is missing or cannot be written, KeyError if a stage is missing.
    """
    manifest = parse_canonical(request.manifest.encode())
    layout = {spec.name: spec for spec in layout_of(manifest.model)}
    store = BlobStore(Path(request.store))
    there = {stage.number: _neighbour(stage, layout, store) for stage in request.there}
    found: list[ShardPayload] = []
    for healing in request.healings:
        tensors = rebuilt(healing, there, manifest.recovery.norm_exponent)
        for one in healing.shards:
            if one.rung is Rung.SEED:
                spec = layout[one.shard]
                tensors[one.shard] = initial_shard(manifest.seed, spec, manifest.model.layers)
        found += [_stored(shard, tensor, store) for shard, tensor in tensors.items()]
    unusable: list[str] = []
    for copy in request.copies:
        try:
            tensor = _restored(copy, layout[copy.shard], store)
        except ProtocolError:
            unusable.append(copy.shard)
        else:
            found.append(_stored(copy.shard, tensor, store))
    return Made(tuple(found), tuple(unusable))


def _restored(copy: StaleCopy, spec: ShardSpec, store: BlobStore) -> Tensor:
    """Return a stale copy, [N] f32. Raises: ProtocolError if it is none of the shard."""
    held_N: Tensor | None = None
    for part in copy.parts:
        held_N = decode_shadow(store.read(part.address), spec.numel, held_N)
    if held_N is None or not bool(held_N.isfinite().all()):
        raise ProtocolError("shadow", f"the copy of {copy.shard} is none")
    return held_N.float()


def _neighbour(stage: Stage, layout: dict[str, ShardSpec], store: BlobStore) -> Neighbour:
    blocks = [from_bytes(store.read(x.address), layout[x.shard]) for x in stage.blocks]
    return Neighbour(blocks, stage.norm)


def _stored(shard: str, tensor: Tensor, store: BlobStore) -> ShardPayload:
    data = to_bytes(tensor)
    return ShardPayload(shard, store.put(data), len(data))


def main() -> int:
    """Answer one request from standard input."""
    sys.stdout.buffer.write(made(Request.from_json(sys.stdin.buffer.read())).to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
