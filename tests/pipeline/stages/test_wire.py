"""The border between stages: which codec a manifest means, and what is refused by name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline.stages.wire import Wire
from skerry.protocol.errors import ProtocolError

CPU = torch.device("cpu")
REASONS = {
    "too-short",
    "bad-version",
    "wrong-bits",
    "wrong-count",
    "wrong-length",
    "bad-padding",
    "id-out-of-range",
    "wrong-format",
    "wrong-width",
    "wrong-rows",
    "bad-scale",
    "bad-code",
}


def tokens(sequences: int, length: int = 12) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (sequences, length), generator=random)


def test_a_manifest_means_one_codec(ring_manifest):
    wire = Wire(ring_manifest("int4", dim=8, mode="reparam"), CPU)
    assert (wire.spec.values, wire.spec.width, wire.spec.subspace_dim) == ("int4", 32, 8)
    assert wire.spec.seed == ring_manifest().seed
    assert wire.needs_ids and not Wire(ring_manifest("int4"), CPU).needs_ids


@pytest.mark.parametrize("dim", [0, 8])
def test_rows_keep_their_places(ring_manifest, dim):
    wire, ids = Wire(ring_manifest("fp32", dim=dim), CPU), tokens(2)
    x = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(0))
    once = wire.unpack_activations(wire.pack_activations(x, ids), ids)
    assert once.shape == x.shape
    twice = wire.unpack_activations(wire.pack_activations(once, ids), ids)
    torch.testing.assert_close(twice, once, rtol=1e-4, atol=1e-4)
    assert torch.equal(once, x) == (dim == 0)
    gradients = wire.unpack_gradients(wire.pack_gradients(x, 3), 2)
    assert gradients.shape == x.shape
    assert torch.equal(gradients, x) == (dim == 0)


def test_ids_and_windows_come_back(ring_manifest):
    wire = Wire(ring_manifest(dim=8), CPU)
    assert torch.equal(wire.unpack_ids(wire.pack_ids(tokens(2)), 2), tokens(2))
    assert torch.equal(wire.unpack_windows(wire.pack_ids(tokens(2, 13)), 2), tokens(2, 13))


@given(st.binary(max_size=300))
@settings(max_examples=40, deadline=None)
def test_any_bytes_are_refused_by_name(ring_manifest, payload):
    wire = Wire(ring_manifest("int8", dim=8), CPU)
    for unpack in (
        lambda: wire.unpack_ids(payload, 2),
        lambda: wire.unpack_activations(payload, tokens(2)),
        lambda: wire.unpack_gradients(payload, 2),
    ):
        with pytest.raises(ProtocolError) as refused:
            unpack()
        assert refused.value.reason in REASONS


def test_what_is_not_finite_is_not_sent(ring_manifest):
    wire, x = Wire(ring_manifest("int8"), CPU), torch.zeros(1, 12, 32)
    x[0, 3, 5] = float("inf")
    for pack in (lambda: wire.pack_activations(x, tokens(1)), lambda: wire.pack_gradients(x, 0)):
        with pytest.raises(ProtocolError) as refused:
            pack()
        assert refused.value.reason == "non-finite"
