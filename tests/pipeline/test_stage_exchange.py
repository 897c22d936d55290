"""Hosts of stages in the outer rounds: their contributions are those of a full replica."""

from pathlib import Path

import pytest
import torch

from skerry.pipeline.engine import Engine
from skerry.pipeline.stage_exchange import StageExchange
from skerry.pipeline.stages import tasks
from skerry.pipeline.stages.frames import decode_result, encode
from skerry.pipeline.stages.outliers import Outliers
from skerry.pipeline.stages.tasks import Place
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import (
    Apply,
    Begin,
    Contribution,
    Encode,
    Encoded,
    Evaluate,
    HostedStage,
    Hosting,
    Open,
    StageTask,
    Train,
)
from skerry.protocol.errors import ComputeError
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.manifest import Manifest, RingSection
from skerry.protocol.moments import GiveMoments

ROUND, PARENT, OTHER = 1, CommitHash("0" * 64), CommitHash("1" * 64)
ORIGIN, BODY, WHOLE = PeerId("12D3KooWorigin"), PeerId("12D3KooWbody"), PeerId("12D3KooWwhole")
HOSTED = {
    ORIGIN: Hosting((HostedStage(0, ("embed", "head")),), slots=2),
    BODY: Hosting((HostedStage(1, ("block.0",)),), slots=2),
}


@pytest.fixture
def ring_manifest(manifest: Manifest) -> Manifest:
    """Nothing is lost on the wire, and nothing clipped, since a ring clips stage by stage."""
    ring = RingSection(microbatch=2, activations="fp32")
    inner = manifest.inner.model_copy(update={"clip": 1e6})
    return manifest.model_copy(update={"ring": ring, "inner": inner})


class Ring:
    """An origin and one other member, asked in turn."""

    def __init__(self, manifest: Manifest, store: BlobStore, folder: Path) -> None:
        self.manifest, self.members = manifest, {}
        for name, hosting in HOSTED.items():
            (folder / name).mkdir(exist_ok=True)
            member = StageExchange(manifest, store, folder / name, name, hosting)
            self.members[name] = member

    def begin(self) -> None:
        for member in self.members.values():
            member.begin(Begin(request=1, shards=None))

    def open(self, parent: CommitHash = PARENT) -> None:
        for member in self.members.values():
            member.open(Open(request=2, round=ROUND, parent=parent))

    def ask(self, name: PeerId, task: tasks.Task) -> tasks.Result:
        done = self.members[name].do(StageTask(request=7, frame=encode(task)))
        result = decode_result(done.frame)
        assert not isinstance(result, tasks.Refused), result
        return result

    def forward(self, step: int, place: Place, batch: int | None, first: int) -> bytes:
        inject = tasks.Inject(
            step=step, place=place, stages=(0,), batch=batch, first=first, sequences=2
        )
        passed = self.ask(ORIGIN, inject)
        forward = tasks.Forward(
            step=step,
            place=Place(place.microbatch, 0, 1),
            stages=(1,),
            sequences=2,
            ids=passed.ids,
            activations=passed.activations,
        )
        return self.ask(BODY, forward).activations

    def train(self, step: int, batch: int) -> None:
        for name in HOSTED:
            self.ask(name, tasks.Begin(step=step))
        for number in range(2):
            place, hop = Place(number, 0, 0), Place(number, 0, 1)
            passed = self.forward(step, place, batch, 2 * number)
            sent = self.ask(ORIGIN, tasks.Score(step=step, place=place, activations=passed))
            for name, at in ((BODY, hop), (ORIGIN, place)):
                task = tasks.InputGradient(step=step, place=at, gradients=sent.gradients)
                sent = self.ask(name, task)
        for name in HOSTED:
            self.ask(name, tasks.Step(step=step))

    def encode(self) -> dict[PeerId, Encoded]:
        request = Encode(request=8, parent=PARENT, send=True)
        return {name: member.encode(request) for name, member in self.members.items()}


@pytest.fixture
def ring(ring_manifest, store, tmp_path) -> Ring:
    ring = Ring(ring_manifest, store, tmp_path)
    ring.begin()
    return ring


@pytest.fixture
def replica(ring_manifest, store, tmp_path) -> Engine:
    (tmp_path / WHOLE).mkdir()
    replica = Engine(ring_manifest, store, tmp_path / WHOLE, WHOLE)
    replica.begin(Begin(request=1, shards=None))
    return replica


def test_a_ring_and_a_replica_share_a_round(ring, replica, ring_manifest):
    steps = ring_manifest.inner.steps
    train = Train(request=1, round=ROUND, parent=PARENT, cursor=0, slot=0, num_slots=1, steps=steps)
    trained = replica.train(train, lambda progress: True)
    ring.open()
    for index in range(steps):
        ring.train(ROUND * steps + index, index)
    encoded = ring.encode()
    assert {one.round_tokens for one in encoded.values()} == {trained.round_tokens}
    assert encoded[ORIGIN].loss == pytest.approx(trained.loss, rel=1e-5)
    assert encoded[BODY].loss == 0.0
    assert [shard.shard for shard in encoded[ORIGIN].shards] == ["embed", "head"]
    assert all(len(x.norms) == len(x.shards) and min(x.norms) > 0 for x in encoded.values())
    assert ring.encode()[BODY].norms == (), "offered again, when what was trained is forgotten"
    own = replica.encode(Encode(request=8, parent=PARENT, send=True))
    contributions = tuple(
        Contribution(author, one.round_tokens, one.shards)
        for author, one in {**encoded, WHOLE: own}.items()
    )
    apply = Apply(request=9, round=ROUND, contributions=contributions)
    whole = {shard.shard: shard for shard in replica.apply(apply).shards}
    for member in ring.members.values():
        applied = member.apply(apply)
        assert applied.judgements == ()
        assert [whole[shard.shard] for shard in applied.shards] == list(applied.shards)


def test_a_ring_measures_what_a_replica_measures(ring, replica, ring_manifest):
    ring.open()
    expected = replica.evaluate(Evaluate(request=1)).loss
    begun = ring.ask(ORIGIN, tasks.Begin(step=0))
    ring.ask(BODY, tasks.Begin(step=0))
    assert begun.validation_windows == 2 * ring_manifest.inner.batch_size
    nats = text_tokens = 0
    for number in range(begun.validation_windows // 2):
        place = Place(number, 0, 0)
        back = ring.forward(0, place, None, 2 * number)
        ring.ask(BODY, tasks.Drop(step=0, place=Place(number, 0, 1)))
        measured = ring.ask(ORIGIN, tasks.Measure(step=0, place=place, activations=back))
        assert measured.bytes_in_flight == 0
        nats, text_tokens = nats + measured.loss, text_tokens + measured.text_tokens
    assert nats / text_tokens == pytest.approx(expected, rel=1e-5)
    assert all(one.round_tokens == 0 for one in ring.encode().values()), "nothing was trained"


def test_windows_beyond_the_last_are_refused(ring):
    ring.open()
    windows = ring.ask(ORIGIN, tasks.Begin(step=0)).validation_windows
    with pytest.raises(AssertionError, match="range"):
        ring.forward(0, Place(0, 0, 0), None, windows - 1)


def test_tasks_need_an_open_round(ring):
    with pytest.raises(ComputeError, match="Open comes first"):
        ring.ask(BODY, tasks.Begin(step=0))
    ring.open()
    ring.ask(BODY, tasks.Begin(step=0))
    ring.encode()
    with pytest.raises(ComputeError, match="Open comes first"):
        ring.ask(BODY, tasks.Begin(step=0))


def test_progress_that_is_not_encoded_is_not_opened_over(ring):
    ring.open()
    ring.train(4, 0)
    ring.open()  # the same round goes on
    with pytest.raises(ComputeError, match="not encoded yet"):
        ring.open(OTHER)
    tokens = {one.round_tokens for one in ring.encode().values()}
    assert tokens == {ring.manifest.inner.batch_size * ring.manifest.model.context}
    ring.open(OTHER)


def test_what_is_usual_counts_for_less_in_a_new_round_and_not_in_one_that_goes_on(
    ring, monkeypatch
):
    moved: list[Outliers] = []
    monkeypatch.setattr(Outliers, "move", lambda outliers: moved.append(outliers))
    ring.open()
    ring.open()
    assert len(moved) == len(HOSTED)
    ring.train(4, 0)
    ring.encode()
    ring.open(OTHER)
    assert len(moved) == 2 * len(HOSTED)


def test_a_restarted_member_finds_its_error_feedback(ring, ring_manifest, store, tmp_path):
    ring.open()
    ring.train(4, 0)
    entry = ring.encode()[BODY]
    again = Ring(ring_manifest, store, tmp_path).members[BODY]
    assert [one.parent for one in again.hello().ledger] == [PARENT]
    assert torch.equal(again._feedback.vector(0), ring.members[BODY]._feedback.vector(0))
    assert entry.shards == again._feedback.ledger[PARENT].shards


def test_a_restarted_member_goes_on_with_the_moments_of_the_shards_that_it_still_hosts(
    ring, ring_manifest, store, tmp_path
):
    ring.open()
    ring.train(4, 0)
    ring.encode()
    for member in ring.members.values():
        member.keep_moments()
    again = Ring(ring_manifest, store, tmp_path)
    for name, member in again.members.items():
        ready = member.begin(Begin(request=1, shards=None, round=ROUND + 1))
        assert (ready.has_moments, ready.is_restored) == (True, True)
        assert [one.steps_taken for one in member.optimizers()] == [1]
        given = member.give_moments(GiveMoments(request=2))
        assert given == ring.members[name].give_moments(GiveMoments(request=2))
    moved = StageExchange(ring_manifest, store, tmp_path / BODY, BODY, HOSTED[ORIGIN])
    assert not moved.begin(Begin(request=1, shards=None, round=ROUND + 1)).has_moments
    both = Hosting((*HOSTED[ORIGIN].stages, *HOSTED[BODY].stages), slots=2)
    wider = StageExchange(ring_manifest, store, tmp_path / BODY, BODY, both)
    ready = wider.begin(Begin(request=1, shards=None, round=ROUND + 1))
    assert (ready.has_moments, ready.is_restored) == (False, False)
    assert [one.steps_taken for one in wider.optimizers()] == [0, 1]


def test_who_takes_over_a_stage_takes_its_moments_from_a_replica(
    replica, ring, ring_manifest, store, tmp_path
):
    """Those of its own shards; of what the giver does not host, none."""
    train = Train(request=1, round=ROUND, parent=PARENT, cursor=0, slot=0, num_slots=1, steps=3)
    replica.train(train, lambda progress: True)
    given = replica.give_moments(GiveMoments(request=2)).moments
    assert not ring.members[BODY].begin(Begin(request=3, shards=None)).has_moments
    assert ring.members[BODY].begin(Begin(request=4, shards=None, moments=given)).has_moments
    assert ring.members[BODY].optimizers()[0].steps_taken == 3
    passed_on = ring.members[BODY].give_moments(GiveMoments(request=5)).moments
    assert passed_on == tuple(one for one in given if one.payload.shard == "block.0")
    begun = ring.members[ORIGIN].begin(Begin(request=6, shards=None, moments=passed_on))
    assert not begun.has_moments
