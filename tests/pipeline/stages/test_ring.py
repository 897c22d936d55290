"""A ring against a full replica, step by step: losses, updates, skipped and reordered stages."""

from collections import defaultdict

import pytest
import torch
import torch.nn.functional as F

from convergence_sweep.local_ring import LocalRing
from skerry.pipeline.adamw import AdamW
from skerry.pipeline.inner import InnerOptimizer
from skerry.pipeline.model import Decoder
from skerry.pipeline.shards import flatten_shard, load_shard
from skerry.pipeline.stages.cuts import blocks_of, cut
from skerry.protocol.layout import layout_of

STEPS = 3


def straight(stages: int):
    """The route that passes all stages, each on its own host."""
    return [(number, (number,)) for number in range(stages)]


def replica(manifest, shards) -> Decoder:
    model = Decoder(manifest.model, manifest.seed)
    for spec, flat in zip(layout_of(manifest.model), shards, strict=True):
        load_shard(model, spec, flat)
    return model


def parameters(manifest, model) -> list[torch.Tensor]:
    return [flatten_shard(model, spec) for spec in layout_of(manifest.model)]


def assert_equal(found, expected, **tolerance) -> None:
    tolerance = {"rtol": 1e-4, "atol": 2e-5} | tolerance
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def assert_same_training(manifest, ring, batches, start, routes, **tolerance) -> None:
    """Train the ring beside a full replica on the same batches."""
    model = replica(manifest, start(manifest))
    optimizer = InnerOptimizer(model, manifest.inner)
    for step in range(STEPS):
        expected = optimizer.step(batches(manifest).batch(step), step)
        outcome = ring.step(step, routes, batch=step)
        assert outcome.loss == pytest.approx(expected, rel=1e-5)
        assert_equal(ring.shards(), parameters(manifest, model), **tolerance)
    assert_moved(manifest, model, start)


def assert_moved(manifest, model, start) -> None:
    for now, before in zip(parameters(manifest, model), start(manifest), strict=True):
        assert float((now - before).abs().max()) > 5e-3, "or there is nothing to compare"


@pytest.mark.parametrize("sizes", [(4,), (1, 3), (0, 3, 1), (0, 1, 2, 1)])
def test_without_compression_a_ring_is_a_full_replica(
    ring_manifest, build_ring, batches, start, sizes
):
    manifest = ring_manifest()
    ring = build_ring(manifest, sizes)
    assert_same_training(manifest, ring, batches, start, [straight(len(sizes))] * 3)


def test_the_embedding_is_not_tied_to_the_head(ring_manifest, build_ring):
    ring = build_ring(ring_manifest(), (0, 4))
    model = ring.hosts[0].model
    assert model.embed.tokens is not model.head.output
    ring.step(0, [straight(2)] * 3, batch=0)
    assert not torch.equal(model.embed.tokens, model.head.output)


def test_a_host_of_two_stages_is_visited_twice(ring_manifest, batches, start):
    manifest = ring_manifest()
    stages = cut(manifest.model, (1, 1, 1, 1))
    hosted = [{0: stages[0]}, {1: stages[1], 3: stages[3]}, {2: stages[2]}]
    ring = LocalRing(manifest, hosted, batches(manifest), slots=6)
    ring.load(start(manifest))
    ring.begin(0)
    route = [(0, (0,)), (1, (1,)), (2, (2,)), (1, (3,))]
    assert_same_training(manifest, ring, batches, start, [route] * 3)


def reference_step(manifest, model, windows_BS, stages, orders, step, optimizers):
    """One step in which microbatch m passes the blocks ``orders[m]``, by plain autograd.

    Returns the mean loss; gradients are divided shard by shard by the text tokens that passed it.
    """
    size, counts, total = manifest.ring.microbatch, defaultdict(int), 0.0
    for parameter in model.parameters():
        parameter.grad = None
    for number, order in enumerate(orders):
        some = windows_BS[number * size : (number + 1) * size]
        x = model.embed(some[:, :-1], model.stream)
        for name in order:
            x = model.get_submodule(name)(x, model.stream)
        logits = model.head(x)
        loss = F.cross_entropy(logits.flatten(0, 1), some[:, 1:].flatten(), reduction="sum")
        loss.backward()
        total += loss.item()
        for shard in ("embed", "head", *order):
            counts[shard] += some[:, 1:].numel()
    for name, parameter in model.named_parameters():
        shard = ".".join(name.split(".")[:-1])
        if parameter.grad is not None:
            parameter.grad /= counts[shard]
    for optimizer in optimizers:
        optimizer.step(step)
    return total / counts["head"]


def optimizers_of(manifest, model, stages) -> list[AdamW]:
    layout = {spec.name: spec for spec in layout_of(manifest.model)}
    return [
        AdamW([p for shard in shards for p in model.shard_tensors(layout[shard])], manifest.inner)
        for shards in stages.values()
    ]


def assert_same_paths(manifest, ring, batches, start, sizes, routes) -> None:
    stages = cut(manifest.model, sizes)
    model = replica(manifest, start(manifest))
    optimizers = optimizers_of(manifest, model, stages)
    orders = [[b for _, visited in route for b in blocks_of(stages, visited)] for route in routes]
    for step in range(STEPS):
        windows_BS = batches(manifest).batch(step)
        expected = reference_step(manifest, model, windows_BS, stages, orders, step, optimizers)
        assert ring.step(step, routes, batch=step).loss == pytest.approx(expected, rel=1e-5)
        assert_equal(ring.shards(), parameters(manifest, model))


SKIPS = [
    [(0, (0,)), (1, (1,)), (2, (2,)), (3, (3,))],
    [(0, (0,)), (1, (1,)), (3, (3,))],
    [(0, (0,)), (2, (2,)), (3, (3,))],
]
SWAPS = [
    [(0, (0,)), (1, (1,)), (2, (2,)), (3, (3,))],
    [(0, (0,)), (2, (2,)), (1, (1,)), (3, (3,))],
    [(0, ()), (1, (1,)), (3, (3,)), (2, (2,))],
]


@pytest.mark.parametrize("routes", [SKIPS, SWAPS], ids=["skipped", "swapped"])
def test_partial_and_reordered_paths_follow_the_model_without_those_blocks(
    ring_manifest, build_ring, batches, start, routes
):
    manifest, sizes = ring_manifest(), (1, 1, 1, 1)
    ring = build_ring(manifest, sizes)
    assert_same_paths(manifest, ring, batches, start, sizes, routes)


def test_each_stage_is_clipped_by_itself(ring_manifest, build_ring, batches, start):
    manifest, sizes = ring_manifest(clip=0.05), (0, 2, 2)
    ring = build_ring(manifest, sizes)
    assert_same_paths(manifest, ring, batches, start, sizes, [straight(3)] * 3)
    outcome = ring.step(STEPS, [straight(3)] * 3, batch=STEPS)
    assert all(stage.norm > 0.05 for stage in outcome.stages.values()), "or nothing is clipped"


def test_a_step_tells_what_it_was_made_of(ring_manifest, build_ring):
    ring = build_ring(ring_manifest(), (1, 1, 1, 1))
    stages = ring.step(0, SKIPS, batch=0).stages
    assert [stages[s].visits.microbatches for s in range(4)] == [
        (0, 1, 2),
        (0, 1),
        (0, 2),
        (0, 1, 2),
    ]
    assert [stages[s].text_tokens for s in range(4)] == [60, 48, 36, 60]
    assert all(stage.reason == "" and stage.norm > 0 for stage in stages.values())


def test_a_stage_that_nobody_visits_stays(ring_manifest, build_ring):
    ring = build_ring(ring_manifest(), (1, 2, 1))
    before = ring.shards()
    stages = ring.step(0, [[(0, (0,)), (2, (2,))]] * 3, batch=0).stages
    assert (stages[1].reason, stages[1].text_tokens) == ("idle", 0)
    after = ring.shards()
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


def test_reparametrised_rings_lose_nothing_on_the_wire(ring_manifest, build_ring, batches, start):
    manifest = ring_manifest(dim=8, mode="reparam")
    ring = build_ring(manifest, (0, 2, 2))
    assert_same_training(manifest, ring, batches, start, [straight(3)] * 3)


def test_a_free_ring_loses_nothing_if_the_subspace_is_all_there_is(
    ring_manifest, build_ring, batches, start
):
    manifest = ring_manifest(dim=32, mode="wire")
    ring = build_ring(manifest, (0, 2, 2))
    assert_same_training(manifest, ring, batches, start, [straight(3)] * 3)


def test_a_free_ring_loses_what_is_outside_of_the_subspace(
    ring_manifest, build_ring, batches, start
):
    manifest = ring_manifest(dim=16, mode="wire")
    ring, model = build_ring(manifest, (0, 2, 2)), replica(manifest, start(manifest))
    expected = InnerOptimizer(model, manifest.inner).step(batches(manifest).batch(0), 0)
    loss = ring.step(0, [straight(3)] * 3, batch=0).loss
    assert loss != pytest.approx(expected, rel=1e-3)
    assert loss == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize(("activations", "within"), [("bf16", 2e-3), ("int8", 5e-3), ("int4", 0.1)])
def test_quantised_rings_stay_close(ring_manifest, build_ring, batches, start, activations, within):
    manifest = ring_manifest(activations, dim=8, mode="reparam")
    ring, model = build_ring(manifest, (0, 2, 2)), replica(manifest, start(manifest))
    optimizer = InnerOptimizer(model, manifest.inner)
    for step in range(STEPS):
        expected = optimizer.step(batches(manifest).batch(step), step)
        loss = ring.step(step, [straight(3)] * 3, batch=step).loss
        assert loss == pytest.approx(expected, rel=within)


@pytest.mark.parametrize("mode", ["wire", "reparam"])
def test_compressed_rings_learn(ring_manifest, build_ring, mode):
    settings = {"clip": 1.0, "eps": 1e-8, "lr": 1e-2}
    ring = build_ring(ring_manifest("int8", dim=8, mode=mode, **settings), (0, 4))
    losses = [ring.step(step, [straight(2)] * 3, batch=step).loss for step in range(16)]
    assert losses[0] > 4
    assert sum(losses[-3:]) / 3 < 3.2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_ring_on_cuda_is_one_on_the_cpu(ring_manifest, build_ring, batches, start):
    manifest = ring_manifest(dim=8, mode="reparam")
    stages = cut(manifest.model, (0, 2, 2))
    hosted = [{number: shards} for number, shards in stages.items()]
    cpu = build_ring(manifest, (0, 2, 2))
    cuda = LocalRing(manifest, hosted, batches(manifest), 4, torch.device("cuda"))
    cuda.load(start(manifest))
    cuda.begin(0)
    for step in range(STEPS):
        expected = cpu.step(step, [straight(3)] * 3, batch=step).loss
        assert cuda.step(step, [straight(3)] * 3, batch=step).loss == pytest.approx(expected, 1e-4)
    assert_equal([flat.cpu() for flat in cuda.shards()], cpu.shards(), rtol=1e-3, atol=1e-4)
