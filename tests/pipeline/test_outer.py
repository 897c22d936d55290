"""The outer update: which contributions count, and the exact arithmetic."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch

from skerry.pipeline.jury import Jury
from skerry.pipeline.outer import believed, descend, updated_shards
from skerry.pipeline.payloads import Believed, Payloads
from skerry.protocol.compute import Contribution
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Judgement


def contribution(payloads: Payloads, name: str, round_tokens: int) -> Contribution:
    random = torch.Generator().manual_seed(hash_of(name))
    shards = tuple(
        payloads.encode(position, torch.randn(spec.numel, generator=random))
        for position, spec in enumerate(payloads.layout)
    )
    return Contribution(PeerId(name), round_tokens, shards)


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode(), "big") % 2**31


def updates(payloads, theta, contributions, judgements=(), lr=1.0) -> Iterator[torch.Tensor]:
    return updated_shards(payloads, theta, believed(payloads, contributions, judgements), lr)


def update(payloads, theta, contributions, lr=1.0) -> torch.Tensor:
    return torch.cat(list(updates(payloads, theta, contributions, lr=lr)))


def start(payloads: Payloads) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(5)
    return [torch.randn(spec.numel, generator=random) for spec in payloads.layout]


def test_the_product_is_rounded_before_the_subtraction():
    random = torch.Generator().manual_seed(0)
    theta = torch.randn(500, generator=random)
    gradient = torch.randn(500, generator=random)
    lr = np.float32(0.65)
    products = [np.float32(float(Fraction(float(lr)) * Fraction(float(g)))) for g in gradient]
    wanted = [np.float32(float(t)) - p for t, p in zip(theta, products, strict=True)]
    updated = descend(theta, gradient, 0.65)
    assert updated.tolist() == [float(value) for value in wanted]
    assert updated.data_ptr() == gradient.data_ptr()  # no second vector


def test_one_shard_s_mean_is_gone_when_the_next_is_made(manifest, store):
    made = []

    class Watched(Payloads):
        def aggregate(self, *args):
            assert all(one() is None for one in made)
            mean = super().aggregate(*args)
            made.append(weakref.ref(mean))
            return mean

    payloads = Watched(manifest, store)
    for shard in updates(payloads, start(payloads), [contribution(payloads, "a", 10)]):
        assert made[-1]() is shard
        del shard
    assert len(made) == len(payloads.layout)


def test_what_counts_follows_from_the_judgements(manifest, store):
    payloads = Payloads(manifest, store)
    one, two, three = (contribution(payloads, name, 10) for name in "abc")
    judgements = (Judgement(PeerId("a"), 0, "norm"), Judgement(PeerId("c"), 250, "newcomer"))
    found = believed(payloads, (one, two, three), judgements)
    assert found == [
        [Believed(two.shards[i], 10, 1.0), Believed(three.shards[i], 10, 0.25)]
        for i in range(len(payloads.layout))
    ]


def test_hosts_of_different_shards_agree_on_those_they_share(manifest, store):
    whole = Payloads(manifest, store)
    block = Payloads(manifest, store, whole.layout[1:2])
    good, bad = contribution(whole, "a", 10), contribution(whole, "b", 20)
    broken = replace(bad.shards[2], address=store.put(b"garbage"), size=7)
    bad = replace(bad, shards=(*bad.shards[:2], broken))
    own = contribution(whole, "c", 10)
    own = replace(own, shards=own.shards[1:2])
    contributions = (good, bad, own)
    judgements = Jury(manifest, store).judge(contributions)
    assert judgements == (Judgement(PeerId("b"), 0, "too-short"),)
    theta = start(whole)
    everything = list(updates(whole, theta, contributions, judgements))
    assert torch.equal(everything[1], next(updates(block, theta[1:2], contributions, judgements)))
    without = list(updates(whole, theta, (good,)))
    alike = [torch.equal(*pair) for pair in zip(everything, without, strict=True)]
    assert alike == [True, False, True]


def test_no_contribution_leaves_every_bit(manifest, store):
    payloads = Payloads(manifest, store)
    theta = start(payloads)
    assert torch.equal(update(payloads, theta, []), torch.cat(theta))


def test_weights_are_the_round_s_text_tokens(manifest, store):
    payloads = Payloads(manifest, store)
    theta = start(payloads)
    one, two = contribution(payloads, "a", 10), contribution(payloads, "b", 10)
    even = update(payloads, theta, [one, two])
    heavier = Contribution(two.author, 20, two.shards)
    assert not torch.equal(update(payloads, theta, [one, heavier]), even)


def test_the_learning_rate_scales_the_step(manifest, store):
    payloads = Payloads(manifest, store)
    theta = start(payloads)
    sound = [contribution(payloads, "a", 10)]
    full = torch.cat(theta) - update(payloads, theta, sound, 1.0)
    half = torch.cat(theta) - update(payloads, theta, sound, 0.5)
    torch.testing.assert_close(half, full / 2, rtol=1e-4, atol=1e-6)
    assert full.count_nonzero() > 0
