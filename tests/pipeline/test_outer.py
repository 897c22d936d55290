"""The outer update: which contributions count, and the exact arithmetic."""

import weakref
from fractions import Fraction

import numpy as np
import torch

from skerry.pipeline.outer import admit, descend, updated_shards
from skerry.pipeline.payloads import Payloads
from skerry.protocol.compute import Contribution, Rejection
from skerry.protocol.ids import PeerId


def contribution(payloads: Payloads, name: str, round_tokens: int) -> Contribution:
    random = torch.Generator().manual_seed(hash_of(name))
    shards = tuple(
        payloads.encode(position, torch.randn(spec.numel, generator=random))
        for position, spec in enumerate(payloads.layout)
    )
    return Contribution(PeerId(name), round_tokens, shards)


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode(), "big") % 2**31


def update(manifest, payloads, theta, sound, lr=1.0) -> torch.Tensor:
    return torch.cat(list(updated_shards(manifest, payloads, theta, sound, lr)))


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
    for shard in updated_shards(
        manifest, payloads, start(payloads), [contribution(payloads, "a", 10)], 1
    ):
        assert made[-1]() is shard
        del shard
    assert len(made) == len(payloads.layout)


def test_unsound_contributions_are_left_out_by_name(manifest, store):
    payloads = Payloads(manifest, store)
    sound = contribution(payloads, "b", 10)
    cut = contribution(payloads, "c", 10)
    cut = Contribution(cut.author, 10, cut.shards[:-1])
    weightless = Contribution(PeerId("a"), 0, sound.shards)
    kept, rejected = admit(manifest, payloads, (weightless, sound, cut))
    assert kept == [sound]
    assert rejected == (Rejection(PeerId("a"), "weight"), Rejection(PeerId("c"), "shards"))


def test_no_contribution_leaves_every_bit(manifest, store):
    payloads = Payloads(manifest, store)
    theta = start(payloads)
    assert torch.equal(update(manifest, payloads, theta, []), torch.cat(theta))


def test_weights_are_the_round_s_text_tokens(manifest, store):
    payloads = Payloads(manifest, store)
    theta = start(payloads)
    one, two = contribution(payloads, "a", 10), contribution(payloads, "b", 10)
    even = update(manifest, payloads, theta, [one, two])
    heavier = Contribution(two.author, 20, two.shards)
    assert not torch.equal(update(manifest, payloads, theta, [one, heavier]), even)


def test_the_learning_rate_scales_the_step(manifest, store):
    payloads = Payloads(manifest, store)
    theta = start(payloads)
    sound = [contribution(payloads, "a", 10)]
    full = torch.cat(theta) - update(manifest, payloads, theta, sound, 1.0)
    half = torch.cat(theta) - update(manifest, payloads, theta, sound, 0.5)
    torch.testing.assert_close(half, full / 2, rtol=1e-4, atol=1e-6)
    assert full.count_nonzero() > 0
