"""Lost shards from blobs to blobs, as the process does it that the node starts."""

import pytest
import torch
from surveys import survey

from skerry.node.run.asking import answer_of
from skerry.pipeline.shards import from_bytes, initial_shard, to_bytes
from skerry.protocol.blobs import BlobStore
from skerry.protocol.errors import ComputeError
from skerry.protocol.ids import PeerId
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import parse_run_file
from skerry.protocol.messages import ShardPayload
from skerry.recovery.healing import plan_healing
from skerry.recovery.rebuild_request import Made, Request, Stage
from skerry.recovery.rebuilder import made

_RUN = """
seed = 3
[model]
layers = 6
d_model = 16
heads = 2
kv_heads = 1
ffn_dim = 16
context = 8
"""
MANIFEST = parse_run_file(_RUN, PeerId("owner"))
LAYOUT = {spec.name: spec for spec in layout_of(MANIFEST.model)}


def stage(number: int, norm: float, store: BlobStore) -> Stage:
    """Store a stage of two blocks; all parameters of block i are i."""
    blocks = []
    for i in (2 * number, 2 * number + 1):
        data = to_bytes(torch.full((LAYOUT[f"block.{i}"].numel,), float(i)))
        blocks.append(ShardPayload(f"block.{i}", store.put(data), len(data)))
    return Stage(number, tuple(blocks), norm)


def values(found: Made, store: BlobStore) -> dict[str, torch.Tensor]:
    return {x.shard: from_bytes(store.read(x.address), LAYOUT[x.shard]) for x in found.shards}


async def test_a_stage_between_two_is_averaged_by_a_process_that_ends(tmp_path):
    store = BlobStore(tmp_path)
    there = (stage(0, 1.0, store), stage(2, 3.0, store))
    healings = plan_healing(survey(1, stages=3))
    request = Request(MANIFEST.canonical().decode(), str(tmp_path), healings, there)
    answer = await answer_of("skerry.recovery.rebuilder", request.to_json(), 300.0)
    found = values(Made.from_json(answer), store)
    assert sorted(found) == ["block.2", "block.3"]
    assert bool((found["block.2"] == 0.2 * 0 + 0.8 * 4).all())  # 9 to 1 by the squares, capped
    assert bool((found["block.3"] == 0.2 * 1 + 0.8 * 5).all())


def test_what_nothing_is_left_of_begins_from_the_seed(tmp_path):
    store = BlobStore(tmp_path)
    healings = plan_healing(survey(0, stages=3))
    request = Request(
        MANIFEST.canonical().decode(), str(tmp_path), healings, (stage(1, 0.0, store),)
    )
    found = values(made(request), store)
    assert sorted(found) == ["block.0", "block.1", "embed", "head"]
    assert bool((found["block.1"] == 3.0).all())
    assert torch.equal(found["embed"], initial_shard(3, LAYOUT["embed"], 6))


async def test_a_process_that_fails_or_hangs_is_an_error(tmp_path):
    with pytest.raises(ComputeError, match="has ended"):
        await answer_of("skerry.recovery.rebuilder", b"{}", 300.0)
    with pytest.raises(ComputeError, match="no answer"):
        await answer_of("skerry.recovery.rebuilder", b"", 0.0)
