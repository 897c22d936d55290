"""Full replicas and a ring in one run: shard by shard, with the codec's sparse signs."""

import pytest
import torch

from skerry.compression.activations.subspace import fixed_rows, orthonormal_basis
from skerry.compression.aggregate import WeightedPayload, aggregate
from skerry.compression.drift import Drift
from skerry.pipeline.inner import InnerOptimizer
from skerry.pipeline.model import Decoder, window_loss
from skerry.pipeline.outer import descend
from skerry.pipeline.payloads import shard_codecs
from skerry.pipeline.shards import flatten_shard, load_shard
from skerry.pipeline.stream import FIXED_STD
from skerry.protocol.layout import layout_of

ROUTE = [(0, (0,)), (1, (1,)), (2, (2,))]
INNER_STEPS, REPLICAS = 2, 2


class FullReplica:
    def __init__(self, manifest, batches) -> None:
        self._manifest, self._batches = manifest, batches
        self._layout = layout_of(manifest.model)
        self.model = Decoder(manifest.model, manifest.seed)
        self._optimizer = InnerOptimizer(self.model, manifest.inner)

    def load(self, theta) -> None:
        for spec, flat in zip(self._layout, theta, strict=True):
            load_shard(self.model, spec, flat)

    def shards(self):
        return [flatten_shard(self.model, spec) for spec in self._layout]

    def train(self, step, batch) -> None:
        assert self._optimizer.step(self._batches.batch(batch), step) is not None


class Run:
    """A ring and two full replicas that share theta."""

    def __init__(self, manifest, ring, batches, theta) -> None:
        self.manifest, self.ring, self.theta = manifest, ring, theta
        self.batches = batches(manifest)
        self.replicas = [FullReplica(manifest, self.batches) for _ in range(REPLICAS)]
        self._codecs = shard_codecs(manifest)
        members = REPLICAS + 1
        self._feedback = [[torch.zeros_like(flat) for flat in theta] for _ in range(members)]
        self._batch = 0

    def round(self, number) -> list[int]:
        """Train, exchange and apply; returns how many entries of each shard changed."""
        hosts = [self.ring, *self.replicas]
        for host in hosts:
            host.load(self.theta)
        for step in range(number * INNER_STEPS, (number + 1) * INNER_STEPS):
            self.ring.step(step, [ROUTE] * 3, batch=self._batch)
            for i, replica in enumerate(self.replicas, start=1):
                replica.train(step, self._batch + i)
            self._batch += len(hosts)
        locals_ = [host.shards() for host in hosts]
        before = self.theta
        self.theta = [self._updated(i, [one[i] for one in locals_]) for i in range(len(before))]
        return [int((a != b).sum()) for a, b in zip(before, self.theta, strict=True)]

    def _updated(self, shard, trained):
        codec, start = self._codecs[shard], self.theta[shard]
        payloads = [
            codec.encode(feedback[shard], Drift(0.95, start=start, local=local))
            for feedback, local in zip(self._feedback, trained, strict=True)
        ]
        weighted = [WeightedPayload(payload, 1) for payload in payloads]
        return descend(start, aggregate(codec, weighted), 1.0)

    def loss(self) -> float:
        """Of theta, on text that nobody has trained on, by a full replica."""
        self.replicas[0].load(self.theta)
        with torch.no_grad():
            return float(window_loss(self.replicas[0].model, self.batches.batch(1000)))


@pytest.fixture
def run(build_ring, batches, start):
    def make(manifest) -> Run:
        return Run(manifest, build_ring(manifest, (0, 2, 2)), batches, start(manifest))

    return make


def outside(model, tokens_BT, seed, dim) -> float:
    """How far the residual stream, less its fixed part, leaves the subspace; relative."""
    width = model.head.output.shape[1]
    basis = orthonormal_basis(seed, width, dim)
    x = model.embed(tokens_BT, model.stream)
    fixed = fixed_rows(seed, tokens_BT.flatten(), width).view_as(x) * FIXED_STD
    for block in model.block:
        x = block(x, model.stream)
    free = (x - fixed).detach()
    return float((free - free @ basis @ basis.T).norm() / free.norm())


def test_sparse_updates_of_anybody_keep_a_confined_run_confined(run, ring_manifest):
    manifest = ring_manifest(dim=8, mode="reparam")
    mixed = run(manifest)
    for number in range(2):
        changed = mixed.round(number)
        assert all(count > 0 for count in changed)
        assert changed[1] < mixed.theta[1].numel() / 4, "the update is sparse"
        for host in (mixed.ring, *mixed.replicas):
            host.load(mixed.theta)
        for host in (mixed.ring, *mixed.replicas):
            for flat, shard in zip(mixed.theta, host.shards(), strict=True):
                assert torch.equal(flat, shard), "bit for bit on every host"
        replica = mixed.replicas[0].model
        windows = mixed.batches.batch(500)
        assert outside(replica, windows[:, :-1], manifest.seed, 8) < 1e-5
        step = (number + 1) * INNER_STEPS
        expected = float(window_loss(replica, windows).detach())
        found = mixed.ring.step(step, [ROUTE] * 3, batch=500).loss
        assert found == pytest.approx(expected, rel=1e-5), "the projected wire loses nothing"
        mixed.ring.begin(step)


def test_sparse_updates_leave_the_subspace_where_matrices_are_free(run, ring_manifest):
    manifest = ring_manifest(dim=8, mode="wire")
    mixed = run(manifest)
    mixed.round(0)
    mixed.replicas[0].load(mixed.theta)
    windows = mixed.batches.batch(500)
    assert outside(mixed.replicas[0].model, windows[:, :-1], manifest.seed, 8) > 0.3


@pytest.mark.parametrize("mode", ["wire", "reparam"])
def test_a_mixed_run_learns(run, ring_manifest, mode):
    manifest = ring_manifest("int8", dim=8, mode=mode, eps=1e-8, clip=1.0, lr=1e-2)
    mixed = run(manifest)
    first = mixed.loss()
    for number in range(4):
        mixed.round(number)
    assert mixed.loss() < first - 0.3
