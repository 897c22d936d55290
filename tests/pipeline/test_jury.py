"""Judging real payloads: the same on every peer, whatever is malformed or sent in part."""

from dataclasses import replace

import pytest
import torch

from skerry.pipeline.jury import Jury
from skerry.pipeline.payloads import Payloads
from skerry.protocol.compute import Contribution
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Judgement

NAMES = "abcdef"


@pytest.fixture
def payloads(manifest, store) -> Payloads:
    return Payloads(manifest, store)


def normal(spec, *seeds):
    name = sum(map(ord, spec.name))
    return torch.randn(spec.numel, generator=torch.Generator().manual_seed(hash((*seeds, name))))


def contribution(payloads: Payloads, name: str, factor: float = 1.0) -> Contribution:
    """A peer's own noise upon a signal that all share."""
    shards = tuple(
        payloads.encode(i, 1e-3 * factor * (normal(spec, 0) + normal(spec, ord(name))))
        for i, spec in enumerate(payloads.layout)
    )
    return Contribution(PeerId(name), 10, shards)


def judged(manifest, store, *contributions):
    judgements = Jury(manifest, store).judge(contributions)
    return {one.peer: (one.influence, one.reason) for one in judgements}


def test_honest_contributions_count_in_full(manifest, store, payloads):
    assert judged(manifest, store, *(contribution(payloads, name) for name in NAMES)) == {}
    assert judged(manifest, store) == {}


def test_a_reversed_a_large_and_a_copied_one_are_told_by_all_their_shards(
    manifest, store, payloads
):
    honest = [contribution(payloads, name) for name in NAMES]
    reverse, large = contribution(payloads, "r", -1.0), contribution(payloads, "s", 100.0)
    copied = replace(honest[2], author=PeerId("z"), reputation=999)
    found = judged(manifest, store, *honest, reverse, large, copied)
    assert found == {"r": (0, "direction"), "s": (0, "norm"), "z": (0, "copy")}


def test_a_contribution_of_some_shards_is_judged_by_these(manifest, store, payloads):
    honest = [contribution(payloads, name) for name in NAMES]
    part = contribution(payloads, "p")
    assert judged(manifest, store, *honest, replace(part, shards=part.shards[1:2])) == {}
    part = contribution(payloads, "p", -1.0)
    found = judged(manifest, store, *honest, replace(part, shards=part.shards[1:]))
    assert found == {"p": (0, "direction")}


def test_what_is_malformed_does_not_count_and_names_its_flaw(manifest, store, payloads):
    honest = [contribution(payloads, name) for name in NAMES]
    data = bytearray(store.read(honest[0].shards[0].address))
    data[-1] ^= 1
    broken = replace(honest[0].shards[0], address=store.put(bytes(data)))
    shards = honest[0].shards
    bad = {
        "1": replace(honest[0], shards=(broken, *shards[1:])),
        "2": replace(honest[0], shards=shards[::-1]),
        "3": replace(honest[0], round_tokens=0),
        "4": replace(honest[0], shards=(replace(shards[0], size=1), *shards[1:])),
    }
    contributions = [*honest, *(replace(one, author=PeerId(name)) for name, one in bad.items())]
    reasons = {"1": "bad-checksum", "2": "shards", "3": "weight", "4": "size"}
    assert judged(manifest, store, *contributions) == {
        name: (0, reason) for name, reason in reasons.items()
    }


def test_judgements_come_sorted(manifest, store, payloads):
    both = [replace(contribution(payloads, name), round_tokens=0) for name in "ba"]
    assert Jury(manifest, store).judge(both) == (
        Judgement(PeerId("a"), 0, "weight"),
        Judgement(PeerId("b"), 0, "weight"),
    )
