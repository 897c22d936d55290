"""Sizes computed beforehand against the codecs and against what autograd really keeps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline.stages.cuts import blocks_of, cut
from skerry.pipeline.stages.deferral import kept_bytes
from skerry.pipeline.stages.host import Room, StageHost, Text
from skerry.pipeline.stages.passes import input_gradient, lookup_debt, score
from skerry.pipeline.stages.sizes import (
    debt_bytes,
    host_size,
    payload_bytes,
    text_bytes,
    work_bytes,
)
from skerry.pipeline.stages.wire import Wire

CPU = torch.device("cpu")


@pytest.mark.parametrize("activations", ["fp32", "bf16", "int8", "int4"])
@pytest.mark.parametrize("dim", [0, 6])
@pytest.mark.parametrize("sequences", [1, 2])
def test_payloads_have_the_computed_sizes(ring_manifest, activations, dim, sequences):
    manifest = ring_manifest(activations, dim=dim)
    wire = Wire(manifest, CPU)
    tokens = torch.zeros(sequences, 12, dtype=torch.int64)
    x = torch.ones(sequences, 12, 32)
    size = payload_bytes(manifest, sequences)
    assert len(wire.pack_activations(x, tokens)) == size == len(wire.pack_gradients(x, 1))
    assert text_bytes(manifest, sequences) == (len(wire.pack_ids(tokens)) if dim else 0)


@pytest.mark.parametrize(("dim", "mode"), [(0, "wire"), (8, "wire"), (8, "reparam")])
def test_debts_keep_the_computed_bytes(ring_manifest, batches, start, dim, mode):
    manifest = ring_manifest(dim=dim, mode=mode)
    section = manifest.model
    stages = cut(section, (4,))
    host = StageHost(manifest, stages, Room(1, 0), key=0, text=Text(batches(manifest)))
    x, tokens = torch.randn(2, 12, 32), torch.randint(0, 256, (2, 12))
    blocks = ("block.0", "block.2")
    gradients = input_gradient(host.model, x, torch.randn(2, 12, 32), blocks, set(blocks))
    assert kept_bytes(gradients.debts) == debt_bytes(section, blocks, 2)
    _, of_head = score(host.model, x, tokens, {"head"})
    assert kept_bytes(of_head.debts) == debt_bytes(section, ["head"], 2)
    lookup = lookup_debt(host.model, tokens, gradients.input_BTD)
    assert kept_bytes([lookup]) == debt_bytes(section, ["embed"], 2)


@pytest.mark.parametrize("sizes", [(0, 4), (4,)])
def test_work_is_estimated_from_above_and_not_by_far(ring_manifest, batches, sizes):
    manifest = ring_manifest()
    stages = cut(manifest.model, sizes)
    number = max(stages)
    hosted = {number: stages[number]}
    text = Text(batches(manifest)) if number == 0 else None
    host = StageHost(manifest, hosted, Room(1, 0), key=0, text=text)
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        kept.append(tensor)
        return tensor

    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        x = torch.randn(2, 12, 32, requires_grad=True)
        output = host.model.through(x, blocks_of(hosted, [number]))
        assert output.requires_grad
    parameters = {p.untyped_storage().data_ptr() for p in host.model.parameters()}
    measured = sum(size for pointer, size in saved.items() if pointer not in parameters)
    assert measured <= work_bytes(manifest.model, hosted, 2) <= 2 * measured


def test_a_stage_takes_less_than_the_model(ring_manifest):
    manifest = ring_manifest("int8", dim=8, mode="reparam")
    sizes = [host_size(manifest, {n: s}) for n, s in cut(manifest.model, (0, 2, 2)).items()]
    whole = host_size(manifest, cut(manifest.model, (4,)))
    assert sum(size.parameters for size in sizes) == whole.parameters
    assert all(size.total(4) < whole.total(4) for size in sizes)


@given(memory=st.integers(0, 10**7))
@settings(deadline=None)
def test_as_many_slots_as_fit(ring_manifest, memory):
    size = host_size(ring_manifest("int8"), {1: ("block.0", "block.1")})
    slots = size.slots(memory)
    if slots:
        assert size.total(slots) <= memory < size.total(slots + 1)
    else:
        assert memory < size.total(1)
