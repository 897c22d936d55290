"""Moments for a newcomer: taken whole or not at all, and only if gradients can have made them."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skerry.pipeline.adamw import AdamW
from skerry.pipeline.engine import Engine
from skerry.pipeline.moments import bound
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import Begin, Encode, Train
from skerry.protocol.ids import CommitHash, PeerId, content_hash
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import InnerSection, Manifest
from skerry.protocol.messages import ShardPayload
from skerry.protocol.moments import GiveMoments, Moments, ShardMoments

STEPS = 4


def engine_of(manifest: Manifest, folder: Path, name: str) -> Engine:
    (folder / name).mkdir()
    return Engine(manifest, BlobStore(folder / "blobs"), folder / name, PeerId(name))


@pytest.fixture
def veteran(manifest: Manifest, tmp_path: Path) -> Engine:
    engine = engine_of(manifest, tmp_path, "veteran")
    engine.begin(Begin(request=1, shards=None))
    train(engine)
    return engine


def train(engine: Engine) -> None:
    parent = CommitHash(content_hash(b"parent"))
    engine.train(
        Train(
            request=2,
            round=1,
            parent=parent,
            cursor=0,
            slot=0,
            num_slots=1,
            steps=STEPS,
        ),
        lambda progress: True,
    )
    engine.encode(Encode(request=3, parent=parent, send=False))


def given_by(engine: Engine) -> Moments:
    return engine.give_moments(GiveMoments(request=4)).moments


def begun_with(engine: Engine, moments: Moments) -> bool:
    return engine.begin(Begin(request=5, shards=None, moments=moments)).has_moments


def values(engine: Engine) -> list[torch.Tensor]:
    [adamw] = engine.optimizers()
    parameters = engine._parameters.model.parameters()
    return [x.clone() for p in parameters for x in adamw.moments_of(p)]


def test_who_has_not_stepped_has_nothing_to_give(manifest, tmp_path):
    engine = engine_of(manifest, tmp_path, "fresh")
    assert not engine.begin(Begin(request=1, shards=None)).has_moments
    assert given_by(engine) == ()


def test_a_newcomer_goes_on_with_them_where_their_giver_stands(manifest, veteran, tmp_path):
    moments = given_by(veteran)
    layout = layout_of(manifest.model)
    assert [(x.payload.shard, x.payload.size, x.steps) for x in moments] == [
        (spec.name, spec.state_bytes, STEPS) for spec in layout
    ]
    newcomer = engine_of(manifest, tmp_path, "newcomer")
    assert begun_with(newcomer, moments)
    for mine, theirs in zip(values(newcomer), values(veteran), strict=True):
        assert torch.equal(mine, theirs.to(torch.bfloat16).float())
        assert theirs.abs().max() > 0
    assert newcomer.optimizers()[0].steps_taken == STEPS


def test_who_has_stepped_keeps_its_own(manifest, veteran, tmp_path):
    other = engine_of(manifest, tmp_path, "other")
    other.begin(Begin(request=1, shards=None))
    train(other)
    train(other)
    before = values(other)
    assert begun_with(other, given_by(veteran))
    assert all(map(torch.equal, values(other), before))
    assert other.optimizers()[0].steps_taken == 2 * STEPS


def altered(store: BlobStore, one: ShardMoments, place: int, value: float) -> ShardMoments:
    flat = torch.frombuffer(bytearray(store.read(one.payload.address)), dtype=torch.bfloat16)
    flat[place] = value
    data = flat.view(torch.uint8).numpy().tobytes()
    return ShardMoments(ShardPayload(one.payload.shard, store.put(data), len(data)), one.steps)


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 1e9), (3, -1e9), (0, float("nan")), (0, float("inf")), (-1, -1.0), (-1, float("inf"))],
)
def test_what_no_gradients_can_have_made_is_not_taken(manifest, veteran, tmp_path, place, value):
    first, *rest = given_by(veteran)
    false = altered(BlobStore(tmp_path / "blobs"), first, place, value)
    newcomer = engine_of(manifest, tmp_path, "newcomer")
    assert not begun_with(newcomer, (false, *rest))
    assert all(not x.any() for x in values(newcomer)), "it warms up"


def test_what_is_not_all_there_is_not_taken(manifest, veteran, tmp_path):
    first, *rest = given_by(veteran)
    store = BlobStore(tmp_path / "blobs")
    short = ShardPayload(first.payload.shard, store.put(b"short"), 5)
    gone = ShardPayload(
        first.payload.shard, store.put(bytes(first.payload.size)), first.payload.size
    )
    store.path(gone.address).unlink()
    newcomer = engine_of(manifest, tmp_path, "newcomer")
    for wrong in (
        (),
        (ShardMoments(short, 3),),
        (ShardMoments(gone, 3),),
        (ShardMoments(first.payload, 0),),
    ):
        assert not begun_with(newcomer, (*wrong, *rest))
    assert begun_with(newcomer, (first, *rest))


@settings(max_examples=60)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30),
    st.sampled_from([(0.9, 0.95), (0.9, 0.999), (0.5, 0.5), (0.0, 0.9)]),
)
def test_every_course_of_gradients_keeps_to_the_bound(gradients, betas):
    section = InnerSection(beta1=betas[0], beta2=betas[1], clip=1e9)
    parameter = nn.Parameter(torch.zeros(1))
    adamw = AdamW([parameter], section)
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient])
        adamw.step(0)
    mean, square = (float(x.to(torch.bfloat16)) for x in adamw.moments_of(parameter))
    assert abs(mean) <= 1.02 * bound(section) * square**0.5 + 1e-18
