"""Rings in one process, of 4 small blocks."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from convergence_sweep.local_ring import LocalRing
from skerry.pipeline.batches import Batches
from skerry.pipeline.shards import initial_shard
from skerry.pipeline.stages.cuts import cut
from skerry.protocol.ids import PeerId
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import (
    InnerSection,
    Manifest,
    ModelSection,
    RingSection,
    SubspaceSection,
)


@pytest.fixture(scope="session")
def ring_manifest() -> Callable[..., Manifest]:
    """Make a manifest of 4 blocks, and of 5 sequences in microbatches of 2, 2 and 1."""

    def make(
        activations: str = "fp32", dim: int = 0, mode: str = "wire", clip: float = 1e6, **inner
    ) -> Manifest:
        # A large eps: AdamW's first step is the gradient's sign, and with a small one the order
        # of additions would decide which that is for an entry of 1e-9.
        settings = {"batch_size": 5, "lr": 5e-3, "warmup_steps": 0, "eps": 1e-3, "clip": clip}
        return Manifest(
            owner=PeerId("12D3KooWowner"),
            seed=5,
            model=ModelSection(
                layers=4,
                d_model=32,
                heads=4,
                kv_heads=2,
                ffn_dim=48,
                context=12,
                subspace=SubspaceSection(dim=dim, mode=mode),
            ),
            inner=InnerSection(**(settings | inner)),
            ring=RingSection(microbatch=2, activations=activations),
        )

    return make


@pytest.fixture(scope="session")
def batches() -> Callable[[Manifest], Batches]:
    """Number the batches of a text with much to learn."""
    random = np.random.default_rng(3)
    words = [b"skerry ", b"island ", b"tide ", b"harbour ", b"gull "]
    text = np.frombuffer(b"".join(random.choice(words) for _ in range(3000)), np.uint8)

    def make(manifest: Manifest) -> Batches:
        return Batches(text, manifest.model.context, manifest.inner.batch_size, manifest.seed)

    return make


@pytest.fixture(scope="session")
def start() -> Callable[[Manifest], list[torch.Tensor]]:
    """Make initial parameters, large enough that attention is far from uniform."""

    def make(manifest: Manifest) -> list[torch.Tensor]:
        layout = layout_of(manifest.model)
        flats = [initial_shard(manifest.seed, spec, manifest.model.layers) for spec in layout]
        return [torch.where(flat == 1, flat, flat * 6) for flat in flats]

    return make


@pytest.fixture(scope="session")
def build_ring(batches, start) -> Callable[..., LocalRing]:
    """Make a ring whose hosts have one stage each, of so many blocks; step 0 has begun."""

    def make(manifest: Manifest, sizes: Sequence[int], slots: int = 4) -> LocalRing:
        stages = cut(manifest.model, sizes)
        hosted = [{number: shards} for number, shards in stages.items()]
        ring = LocalRing(manifest, hosted, batches(manifest), slots)
        ring.load(start(manifest))
        ring.begin(0)
        return ring

    return make
