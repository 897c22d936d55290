"""Payloads in the blob store: every way in which one can be wrong has its name."""

from dataclasses import replace

import pytest
import torch

from skerry.pipeline.payloads import Payloads
from skerry.protocol.errors import StateError
from skerry.protocol.ids import Address
from skerry.protocol.messages import ShardPayload


@pytest.fixture
def payloads(manifest, store) -> Payloads:
    return Payloads(manifest, store)


@pytest.fixture
def shards(payloads) -> tuple[ShardPayload, ...]:
    random = torch.Generator().manual_seed(0)
    return tuple(
        payloads.encode(position, torch.randn(spec.numel, generator=random))
        for position, spec in enumerate(payloads.layout)
    )


def test_what_was_subtracted_is_what_decodes(payloads):
    before = torch.randn(payloads.layout[1].numel, generator=torch.Generator().manual_seed(1))
    after = before.clone()
    payloads.add(1, payloads.encode(1, after), after)
    torch.testing.assert_close(after, before)


def test_a_sound_contribution_has_no_flaw(payloads, shards):
    assert payloads.flaw(shards) == ""


def test_shards_must_be_of_the_layout_and_in_order(payloads, shards):
    embed, block, head = shards
    stranger = replace(head, shard="tail")
    for wrong in ((), (embed, stranger), (*shards, head), (block, embed, head), (embed,) * 3):
        assert payloads.flaw(wrong) == "shards"
    assert payloads.flaw((embed, head)) == ""


def test_only_hosted_shards_are_decoded(manifest, store, payloads, shards):
    embed, block, head = shards
    origin = Payloads(manifest, store, (payloads.layout[0], payloads.layout[2]))
    absent = replace(block, address=Address("0" * 64))
    assert origin.flaw((embed, absent, head)) == ""
    assert origin.flaw((embed, block, replace(head, address=Address("0" * 64)))) == "missing"
    assert origin.flaw((absent,)) == ""


def test_a_shard_under_another_name_has_the_wrong_layout(payloads, shards):
    _, block, head = shards
    assert payloads.flaw((replace(block, shard="embed"), block, head)) == "wrong-layout"


def test_sizes_are_checked_before_the_bytes_are_read(payloads, shards, store, monkeypatch):
    embed, *rest = shards
    monkeypatch.setattr(store, "read", lambda address: pytest.fail("read"))
    assert payloads.flaw((replace(embed, size=embed.size + 1), *rest)) == "size"
    huge = bytes(1_000_000)
    large = ShardPayload("embed", store.put(huge), len(huge))
    assert payloads.flaw((large, *rest)) == "size"


def test_what_is_not_here_or_damaged_is_missing(payloads, shards, store):
    embed, *rest = shards
    absent = replace(embed, address=Address("0" * 64))
    assert payloads.flaw((absent, *rest)) == "missing"
    with pytest.raises(StateError):
        payloads.add(0, absent, torch.zeros(payloads.layout[0].numel))
    assert payloads.flaw((replace(embed, address=Address("../x")), *rest)) == "address"
    path = store.path(embed.address)
    path.write_bytes(bytes(embed.size))
    assert payloads.flaw(shards) == "missing"


def test_malformed_bytes_are_named_by_the_codec(payloads, shards, store):
    _, *rest = shards
    garbage = ShardPayload("embed", store.put(b"garbage"), 7)
    assert payloads.flaw((garbage, *rest)) == "too-short"


@pytest.mark.parametrize("torn", [b"", b"half"])
def test_what_a_power_cut_left_torn_is_no_fault_of_its_author(payloads, shards, store, torn):
    embed, *rest = shards
    store.path(embed.address).write_bytes(torn)
    with pytest.raises(StateError, match="SK-DSK-002"):
        payloads.read(0, embed)
    assert store.size(embed.address) is None
    assert payloads.flaw((embed, *rest)) == "missing"
