"""Evidence over shards: contributions are compared over the shards that both have."""

import torch

from skerry.compression.options import CodecOptions
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.pipeline.evidence import gather
from skerry.protocol.ids import PeerId

CODEC = PseudoGradientCodec(((64, 64),), CodecOptions())
AUTHORS = [PeerId(name) for name in "abc"]


def payload(seed):
    return CODEC.encode(torch.randn(CODEC.numel, generator=torch.Generator().manual_seed(seed)))


def test_pairs_are_compared_where_both_have_a_shard():
    shards = [(CODEC, {0: payload(1), 1: payload(1)}), (CODEC, {0: payload(2), 2: payload(2)})]
    found, flaws = gather(AUTHORS, shards, {})
    assert flaws == {}
    assert found.sent == [[128, 64, 64], [64, 64, 0], [64, 0, 64]]
    assert found.shared == [[0, 64, 64], [64, 0, 0], [64, 0, 0]] == found.balance
    (both, one, other), second, third = found.squares
    assert both == one + other
    assert (second, third) == ([one, one, 0.0], [other, 0.0, other])


def test_what_is_malformed_anywhere_is_left_out_everywhere():
    shards = [(CODEC, {0: payload(1), 1: payload(1), 2: payload(3)}), (CODEC, {1: b"rubbish"})]
    found, flaws = gather(AUTHORS, shards, {})
    assert flaws == {1: "too-short"}
    assert found.authors == ("a", "c")
    assert found.sent == [[64, 64], [64, 64]]


def test_what_is_found_on_the_way_counts_as_malformed():
    flawed: dict[int, str] = {}

    def shards():
        yield CODEC, {0: payload(1), 1: payload(2)}
        flawed[0] = "missing"
        yield CODEC, {1: payload(3)}

    found, flaws = gather(AUTHORS[:2], shards(), flawed)
    assert found.authors == ("b",)
    assert flaws == {0: "missing"}
