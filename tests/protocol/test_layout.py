"""Shards and tensors of a model, and the digest over them."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.ids import Address, content_hash
from skerry.protocol.layout import layout_of, state_digest
from skerry.protocol.manifest import ModelSection
from skerry.protocol.messages import ShardPayload

MODEL = ModelSection(layers=2, d_model=16, heads=2, kv_heads=1, ffn_dim=24, context=8)


def payload(name: str, text: str) -> ShardPayload:
    return ShardPayload(name, Address(content_hash(text.encode())), 4)


def test_shards_are_embed_blocks_head_in_order():
    assert [s.name for s in layout_of(MODEL)] == ["embed", "block.0", "block.1", "head"]


@given(st.integers(1, 6), st.sampled_from([(8, 2, 1), (16, 4, 2), (64, 4, 4)]), st.integers(8, 99))
def test_the_number_of_parameters_is_that_of_a_llama_decoder(layers, heads, ffn):
    d, h, kv = heads
    model = ModelSection(layers=layers, d_model=d, heads=h, kv_heads=kv, ffn_dim=ffn)
    block = 2 * d + 2 * d * d + 2 * d * (d // h * kv) + 3 * d * ffn
    specs = layout_of(model)
    assert sum(spec.numel for spec in specs) == 2 * 256 * d + d + layers * block
    assert all(spec.state_bytes == 4 * spec.numel for spec in specs)


def test_the_attention_of_fewer_key_heads_is_narrower():
    shapes = {t.name: t.shape for t in layout_of(MODEL)[1].tensors}
    assert shapes["q"] == shapes["o"] == (16, 16)
    assert shapes["k"] == shapes["v"] == (8, 16)
    assert (shapes["gate"], shapes["up"], shapes["down"]) == ((24, 16), (24, 16), (16, 24))


def test_the_digest_depends_on_every_shard_its_name_and_the_order():
    one, two = payload("embed", "a"), payload("head", "b")
    digests = {
        state_digest((one, two)),
        state_digest((two, one)),
        state_digest((one,)),
        state_digest((one, payload("head", "c"))),
        state_digest((payload("head", "a"), payload("embed", "b"))),
    }
    assert len(digests) == 5
    assert state_digest((one, two)) == content_hash(
        f"embed {one.address}\nhead {two.address}\n".encode()
    )
