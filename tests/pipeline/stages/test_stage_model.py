"""A stage's parameters are the shards of the outer exchange, under the same names."""

import pytest
import torch

from skerry.pipeline.model import Decoder
from skerry.pipeline.shards import flatten_shard, load_shard
from skerry.pipeline.stages.cuts import cut
from skerry.pipeline.stages.stage_model import StageModel
from skerry.protocol.layout import layout_of


@pytest.mark.parametrize(("dim", "mode"), [(0, "wire"), (8, "reparam")])
def test_names_and_shapes_are_those_of_the_full_model(ring_manifest, dim, mode):
    section = ring_manifest(dim=dim, mode=mode).model
    stages = cut(section, (1, 2, 1))
    whole = {name: p.shape for name, p in Decoder(section, 5).named_parameters()}
    found = {}
    for number, shards in stages.items():
        model = StageModel(section, 5, {number: shards})
        found |= {name: p.shape for name, p in model.named_parameters()}
        assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    assert found == whole


def test_shards_move_in_and_out_as_those_of_a_full_replica(ring_manifest, start):
    manifest = ring_manifest()
    model = StageModel(manifest.model, manifest.seed, {2: ("block.2", "block.3")})
    flats = dict(zip((s.name for s in layout_of(manifest.model)), start(manifest), strict=True))
    for spec in model.specs:
        load_shard(model, spec, flats[spec.name])
        assert torch.equal(flatten_shard(model, spec), flats[spec.name])
    assert [spec.name for spec in model.specs] == ["block.2", "block.3"]
    assert [p.ndim for p in model.parameters_of("block.3")] == [1, 2, 2, 2, 2, 1, 2, 2, 2]
    with pytest.raises(StopIteration):
        model.parameters_of("block.0")


def test_blocks_are_passed_in_the_given_order(ring_manifest, start):
    manifest = ring_manifest()
    whole = Decoder(manifest.model)
    stage = StageModel(manifest.model, manifest.seed, {1: ("block.1", "block.2")})
    for spec, flat in zip(layout_of(manifest.model), start(manifest), strict=True):
        load_shard(whole, spec, flat)
        if spec in stage.specs:
            load_shard(stage, spec, flat)
    x = torch.randn(2, 12, 32)
    expected = whole.block[1](whole.block[2](x, whole.stream), whole.stream)
    torch.testing.assert_close(stage.through(x, ("block.2", "block.1")), expected)
    assert not torch.allclose(stage.through(x, ("block.1", "block.2")), expected, atol=1e-3)
