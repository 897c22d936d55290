"""A small decoder that every test of its neighbours can afford."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import torch

from skerry.pipeline.model import Decoder
from skerry.pipeline.shards import initial_shard, load_shard
from skerry.protocol.blobs import BlobStore
from skerry.protocol.ids import PeerId
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import (
    CodecSection,
    DataSection,
    InnerSection,
    Manifest,
    ModelSection,
)

SMALL = ModelSection(layers=2, d_model=32, heads=4, kv_heads=2, ffn_dim=48, context=16)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def section() -> ModelSection:
    return SMALL


@pytest.fixture(scope="session")
def build_model() -> Callable[[ModelSection], Decoder]:
    """Build a decoder with weights large enough that attention is far from uniform."""

    def build(section: ModelSection) -> Decoder:
        model = Decoder(section, seed=0)
        for spec in layout_of(section):
            flat = initial_shard(0, spec, section.layers)
            load_shard(model, spec, torch.where(flat == 1, flat, flat * 8))
        return model

    return build


@pytest.fixture
def model(section: ModelSection, build_model: Callable[[ModelSection], Decoder]) -> Decoder:
    return build_model(section)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 60 kB of lines from a small vocabulary: quick to load, and there is much to learn."""
    random = Random(7)
    words = ["skerry", "island", "tide", "harbour", "ferry", "gull", "lantern", "rope"]
    lines = (" ".join(random.choices(words, k=8)) for _ in range(1200))
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def manifest(text_file: Path) -> Manifest:
    """A run that one core trains in milliseconds per step; beta 1, so that sums must agree."""
    return Manifest(
        owner=PeerId("12D3KooWowner"),
        seed=3,
        model=ModelSection(layers=1, d_model=32, heads=2, kv_heads=1, ffn_dim=48, context=32),
        data=DataSection(source="text", path=str(text_file), validation_batches=2),
        inner=InnerSection(steps=4, batch_size=4, lr=5e-3, warmup_steps=3),
        codec=CodecSection(error_decay=1.0),
    )


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connected pair: the node's and the compute process's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def full_disk_at() -> Callable[[Path], None]:
    """Leave no space for what is to take the place of a file, once."""

    def fill(path: Path) -> None:
        path.with_name(f"{path.name}.{os.getpid()}.tmp").symlink_to("/dev/full")

    return fill
