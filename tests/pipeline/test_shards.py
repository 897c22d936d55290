"""Parameters as flat vectors: the initial values, to and from a model, to and from bytes."""

from hashlib import blake2b

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline.model import Decoder
from skerry.pipeline.shards import flatten_shard, from_bytes, initial_shard, load_shard, to_bytes
from skerry.protocol.errors import StateError
from skerry.protocol.layout import ShardSpec, TensorSpec, layout_of
from skerry.protocol.manifest import ModelSection

TINY = ModelSection(layers=1, d_model=8, heads=2, kv_heads=1, ffn_dim=8, context=8)
BIG = ShardSpec("block.0", (TensorSpec("q", (512, 512)), TensorSpec("o", (512, 512))))
VECTOR = ShardSpec("block.0", (TensorSpec("q", (2, 4)),))


def test_initial_shards_are_these_bits():
    """A change of these hashes makes peers of two versions start one run from two states."""
    hashes = {
        spec.name: blake2b(to_bytes(initial_shard(7, spec, 1)), digest_size=8).hexdigest()
        for spec in layout_of(TINY)
    }
    assert hashes == {
        "embed": "d414d7f7c18a7e35",
        "block.0": "0ef931af07895be1",
        "head": "440b386305b52485",
    }


def test_initial_values_have_the_intended_spread():
    q, o = initial_shard(0, BIG, 8).split(512 * 512)
    assert float(q.mean()) == pytest.approx(0, abs=2e-4)
    assert float(q.std()) == pytest.approx(0.02, rel=0.01)
    assert float(o.std()) == pytest.approx(0.02 / 4, rel=0.01)
    within = float((q.abs() < 0.02).float().mean())
    assert within == pytest.approx(0.68, abs=0.02), "near-normal"


def test_norm_gains_are_one():
    shard = initial_shard(0, layout_of(TINY)[1], 1)
    assert (shard[:8] == 1).all()


def test_seed_and_shard_name_select_the_values():
    other = ShardSpec("block.1", BIG.tensors)
    base = initial_shard(0, BIG, 1)
    assert torch.equal(base, initial_shard(0, BIG, 1))
    assert (base != initial_shard(1, BIG, 1)).float().mean() > 0.99
    assert (base != initial_shard(0, other, 1)).float().mean() > 0.99


def test_values_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    expected = initial_shard(3, BIG, 1)
    monkeypatch.setattr("skerry.pipeline.shards._WORDS_AT_ONCE", 1000)
    assert torch.equal(initial_shard(3, BIG, 1), expected)


def test_flatten_returns_what_was_loaded(section):
    model = Decoder(section)
    specs = layout_of(section)
    flats = {spec.name: torch.randn(spec.numel) for spec in specs}
    for spec in specs:
        load_shard(model, spec, flats[spec.name])
    for spec in specs:
        assert torch.equal(flatten_shard(model, spec), flats[spec.name])
    assert torch.equal(model.block[1].q.reshape(-1)[:5], flats["block.1"][32:37])


@pytest.mark.parametrize("place", [0, 1, -1])
def test_flatten_is_a_copy(section, model, place):
    spec = layout_of(section)[place]
    before = flatten_shard(model, spec)
    flatten_shard(model, spec).zero_()
    assert torch.equal(flatten_shard(model, spec), before)
    assert not before.requires_grad


def test_load_copies_in_place(section, model):
    spec = layout_of(section)[0]
    parameter, flat = model.embed.tokens, torch.ones(spec.numel)
    load_shard(model, spec, flat)
    flat.zero_()
    assert model.embed.tokens is parameter
    assert (parameter == 1).all()


@pytest.mark.parametrize("extra", [-1, 1])
def test_load_refuses_another_size(section, model, extra):
    spec = layout_of(section)[1]
    before = flatten_shard(model, spec)
    with pytest.raises(ValueError, match=r"block\.0"):
        load_shard(model, spec, torch.zeros(spec.numel + extra))
    assert torch.equal(flatten_shard(model, spec), before)


@given(st.lists(st.floats(width=32), min_size=8, max_size=8))
@settings(deadline=None)
def test_bytes_round_trip_bit_for_bit(values):
    flat = torch.tensor(values, dtype=torch.float32)
    back = from_bytes(to_bytes(flat), VECTOR)
    assert torch.equal(back.view(torch.int32), flat.view(torch.int32))


def test_bytes_are_little_endian_fp32():
    data = to_bytes(torch.tensor([1.0, -2.0]))
    assert data == bytes.fromhex("0000803f000000c0")


def test_read_tensor_owns_its_memory():
    data = bytearray(to_bytes(torch.ones(8)))
    flat = from_bytes(memoryview(data), VECTOR)
    data[:] = bytes(len(data))
    assert (flat == 1).all()
    flat.add_(1)


@given(st.binary(max_size=100).filter(lambda data: len(data) != 32))
@settings(deadline=None)
def test_another_size_is_refused(data):
    with pytest.raises(StateError) as refused:
        from_bytes(data, VECTOR)
    assert refused.value.code == "SK-DSK-002"
