"""Moments on the own disk: a restart goes on with the newest ones that are whole and near."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.pipeline.engine import Engine
from skerry.pipeline.kept_moments import BEFORE, NEWEST, About, KeptMoments
from skerry.pipeline.moments import ShardVector
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import Apply, Begin, Contribution, Encode, Ready, Train
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import CommitHash, PeerId, RunId, content_hash
from skerry.protocol.layout import ShardSpec, TensorSpec
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import ShardPayload

RUN = RunId("f" * 64)
LAYOUT = (
    ShardSpec("embed", (TensorSpec("tokens", (3, 2)),)),
    ShardSpec("head", (TensorSpec("norm", (1,)), TensorSpec("output", (2, 2)))),
)
ME = PeerId("12D3KooWme")


def some(fill: float, layout: tuple[ShardSpec, ...] = LAYOUT) -> list[ShardVector]:
    return [
        ShardVector(spec, 5 + i, torch.full((2 * spec.numel,), fill, dtype=torch.bfloat16))
        for i, spec in enumerate(layout)
    ]


def write(kept: KeptMoments, number: int, fill: float) -> None:
    kept.write(number, LAYOUT, some(fill))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 2**16 - 1), min_size=12, max_size=12), st.integers(0, 10**9))
def test_what_was_written_is_read_bit_for_bit(tmp_path, bits, number):
    flat = torch.tensor(bits, dtype=torch.uint16).view(torch.bfloat16)
    kept = KeptMoments(tmp_path, RUN)
    kept.write(number, LAYOUT[:1], [ShardVector(LAYOUT[0], 9, flat)])
    held = KeptMoments(tmp_path, RUN).newest()
    assert held.about == About(RUN, number, {"embed": 9})
    read = held.read(LAYOUT[0])
    assert read.steps == 9
    assert torch.equal(read.flat.view(torch.uint8), flat.view(torch.uint8))


def test_there_is_nothing_before_the_first_and_one_version_before_the_newest(tmp_path):
    kept = KeptMoments(tmp_path, RUN)
    assert kept.newest() is None
    for number in (1, 2, 3):
        write(kept, number, float(number))
    assert kept.newest().about.round == 3
    assert {path.name for path in tmp_path.iterdir()} == {NEWEST, BEFORE}
    kept.forget()
    assert kept.newest() is None


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_is_torn_or_altered_is_refused_and_the_previous_used(tmp_path, data):
    kept = KeptMoments(tmp_path, RUN)
    for number in (1, 2):
        write(kept, number, float(number))
    path = tmp_path / NEWEST
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    held = kept.newest()
    # A flipped bit in the header's padding may change nothing.
    assert held.about == About(RUN, held.about.round, {"embed": 5, "head": 6})
    for spec in LAYOUT:
        assert torch.equal(
            held.read(spec).flat, torch.full_like(held.read(spec).flat, held.about.round)
        )
    assert path.exists() == (held.about.round == 2), "what is damaged takes no other's place"


@pytest.mark.parametrize("place", [-1, -33, -60, -200])
def test_without_a_version_that_is_whole_there_is_none(tmp_path, caplog, place):
    kept = KeptMoments(tmp_path, RUN)
    for number in (1, 2):
        write(kept, number, 1.0)
    for name in (NEWEST, BEFORE):
        content = bytearray((tmp_path / name).read_bytes())
        content[place] ^= 1
        (tmp_path / name).write_bytes(content)
    assert kept.newest() is None
    assert caplog.text.count("damaged and not taken") == 2


def test_those_of_another_run_are_refused(tmp_path):
    write(KeptMoments(tmp_path, RunId("e" * 64)), 1, 1.0)
    assert KeptMoments(tmp_path, RUN).newest() is None


def test_those_of_another_form_are_none(tmp_path):
    kept = KeptMoments(tmp_path, RUN)
    write(kept, 1, 1.0)
    for other in (
        ShardSpec("embed", (TensorSpec("tokens", (3, 3)),)),
        ShardSpec("body", (TensorSpec("tokens", (3, 2)),)),
    ):
        with pytest.raises(ProtocolError, match=r"of (embed|body)"):
            kept.newest().read(other)


def test_a_full_disk_is_told_and_what_was_kept_stays(tmp_path, caplog, full_disk_at):
    kept = KeptMoments(tmp_path, RUN)
    write(kept, 1, 1.0)
    full_disk_at(tmp_path / NEWEST)
    write(kept, 2, 2.0)
    assert "SK-DSK-001" in caplog.text
    assert kept.newest().about.round == 1
    assert [path.name for path in tmp_path.iterdir()] == [NEWEST]
    write(kept, 3, 3.0)
    assert kept.newest().about.round == 3


# -- in the compute process ----------------------------------------------------------------


@pytest.fixture
def start(manifest: Manifest, store: BlobStore, tmp_path: Path) -> Callable[[], Engine]:
    """Start the compute process of one peer; again is anew."""
    folder = tmp_path / "me"
    folder.mkdir()
    return lambda: Engine(manifest, store, folder, ME)


def begin(engine: Engine, shards: tuple[ShardPayload, ...] | None, number: int) -> Ready:
    return engine.begin(Begin(request=1, shards=shards, round=number))


def parent(number: int) -> CommitHash:
    return CommitHash(content_hash(f"parent {number}".encode()))


def train(engine: Engine, number: int, steps: int = 4) -> None:
    request = Train(
        request=2,
        round=number,
        parent=parent(number),
        cursor=number * 10,
        slot=0,
        num_slots=1,
        steps=steps,
    )
    engine.train(request, lambda progress: True)


def finish(engine: Engine, number: int) -> tuple[ShardPayload, ...]:
    encoded = engine.encode(Encode(request=3, parent=parent(number), send=True))
    engine.keep_moments()
    mine = Contribution(ME, encoded.round_tokens, encoded.shards)
    return engine.apply(Apply(request=4, round=number, contributions=(mine,))).shards


def run_rounds(engine: Engine, first: int, last: int) -> tuple[ShardPayload, ...]:
    for number in range(first, last + 1):
        train(engine, number)
        shards = finish(engine, number)
    return shards


def values(engine: Engine) -> torch.Tensor:
    [adamw] = engine.optimizers()
    parameters = engine._parameters.model.parameters()
    return torch.cat([x.reshape(-1) for p in parameters for x in adamw.moments_of(p)])


def progress(engine: Engine) -> torch.Tensor:
    return torch.cat([local - theta for theta, local in engine._parameters.progress()])


def test_a_restart_goes_on_as_if_nothing_had_been(start, tmp_path):
    whole = start()
    assert not begin(whole, None, 1).has_moments
    shards = run_rounds(whole, 1, 3)
    again = start()
    ready = begin(again, shards, 4)
    assert (ready.has_moments, ready.is_restored) == (True, True)
    assert torch.equal(values(again), values(whole).to(torch.bfloat16).float())
    assert again.optimizers()[0].steps_taken == 12
    for path in tmp_path.glob("me/moments*"):
        path.unlink()
    without = start()
    ready = begin(without, shards, 4)
    assert (ready.has_moments, ready.is_restored) == (False, False)
    for engine in (whole, again, without):
        train(engine, 4)
    theirs = progress(whole)
    assert (progress(again) - theirs).norm() < 0.01 * theirs.norm(), "bf16 has 8 bits"
    assert (progress(without) - theirs).norm() > 0.1 * theirs.norm(), "or this shows nothing"


def test_a_begin_that_follows_keeps_what_there_is(start):
    engine = start()
    begin(engine, None, 1)
    shards = run_rounds(engine, 1, 2)
    before = values(engine)
    ready = begin(engine, shards, 3)
    assert (ready.has_moments, ready.is_restored) == (True, False)
    assert torch.equal(values(engine), before)


@pytest.mark.parametrize("lives", [True, False])
def test_those_of_a_round_far_off_are_not_gone_on_with(manifest, start, lives):
    engine = start()
    begin(engine, None, 1)
    shards = run_rounds(engine, 1, 2)
    near = 2 + manifest.round.replay
    assert begin(engine if lives else start(), shards, near).has_moments
    assert not begin(engine if lives else start(), shards, near + 1).has_moments


def test_a_full_disk_stops_no_training(start, tmp_path, caplog, full_disk_at):
    engine = start()
    begin(engine, None, 1)
    full_disk_at(tmp_path / "me" / NEWEST)
    run_rounds(engine, 1, 1)
    assert "moments are not kept" in caplog.text
    assert not list(tmp_path.glob("me/moments*"))
    shards = run_rounds(engine, 2, 2)
    assert begin(start(), shards, 3).is_restored


def test_nothing_is_written_where_nothing_was_trained(start, tmp_path):
    engine = start()
    begin(engine, None, 1)
    shards = run_rounds(engine, 1, 1)
    again = start()
    begin(again, shards, 2)
    finish(again, 2)
    assert [path.name for path in tmp_path.glob("me/moments*")] == [NEWEST]


def test_what_led_out_of_the_numbers_is_forgotten(start):
    engine = start()
    begin(engine, None, 1)
    shards = run_rounds(engine, 1, 1)
    train(engine, 2)
    with torch.no_grad():
        engine._parameters.model.head.output.fill_(math.nan)
    finish(engine, 2)
    assert not begin(start(), shards, 2).has_moments
