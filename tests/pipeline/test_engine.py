"""The compute process's requests, one engine per peer, all on one blob store."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from skerry.pipeline.engine import Engine
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import (
    Applied,
    Apply,
    Begin,
    Contribution,
    Encode,
    Encoded,
    Evaluate,
    Export,
    Progress,
    Sample,
    Settle,
    Train,
    Validate,
    Verdict,
)
from skerry.protocol.errors import ComputeError, ProtocolError, StateError
from skerry.protocol.ids import CommitHash, PeerId, content_hash
from skerry.protocol.layout import layout_of, state_digest
from skerry.protocol.manifest import Manifest, OuterSection
from skerry.protocol.messages import Judgement, ShardPayload

ALICE, BOB = PeerId("12D3KooWalice"), PeerId("12D3KooWbob")


def parent(number: int) -> CommitHash:
    return CommitHash(content_hash(f"commit {number}".encode()))


@pytest.fixture
def engines(manifest: Manifest, store: BlobStore, tmp_path: Path):
    """Make engines by name; the same name again is the same peer restarted."""

    def make(name: str) -> Engine:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Engine(manifest, store, folder, PeerId(f"12D3KooW{name}"))

    return make


@pytest.fixture
def engine(engines) -> Engine:
    engine = engines("alice")
    engine.begin(Begin(request=1, shards=None))
    return engine


def train(engine: Engine, round_number: int, slot: int = 0, steps: int = 4):
    request = Train(
        request=9,
        round=round_number + 1,  # upon commit 0 round 1 is trained
        parent=parent(round_number),
        cursor=round_number * 8,
        slot=slot,
        num_slots=2,
        steps=steps,
    )
    return engine.train(request, lambda progress: True)


def encode(engine: Engine, round_number: int, send: bool = True) -> Encoded:
    return engine.encode(Encode(request=9, parent=parent(round_number), send=send))


def contribute(engine: Engine, author: PeerId, round_number: int, slot: int) -> Contribution:
    train(engine, round_number, slot)
    encoded = encode(engine, round_number)
    return Contribution(author, encoded.round_tokens, encoded.shards)


def apply(engine: Engine, round_number: int, *contributions: Contribution) -> Applied:
    return engine.apply(Apply(request=9, round=round_number, contributions=contributions))


def test_alpha_is_the_manifest_s_for_the_round_or_the_owner_s(manifest, store, tmp_path):
    outer = OuterSection(lr=1.0, final_lr=0.5, decay_from_round=3)
    changed = manifest.model_copy(update={"outer": outer})

    def step(name: str, number: int, lr: float | None) -> torch.Tensor:
        folder = tmp_path / name
        folder.mkdir()
        engine = Engine(changed, store, folder, PeerId(f"12D3KooW{name}"))
        engine.begin(Begin(request=1, shards=None))
        before = theta(engine).clone()
        mine = contribute(engine, PeerId("alice"), 0, 0)
        engine.apply(Apply(request=2, round=number, contributions=(mine,), outer_lr=lr))
        return before - theta(engine)

    full = step("a", 2, None)
    assert full.count_nonzero() > 0
    assert torch.equal(step("b", 3, None), step("c", 2, 0.5))
    assert torch.equal(step("d", 3, 1.0), full)


def theta(engine: Engine) -> torch.Tensor:
    return torch.cat(engine._parameters.theta)


def feedback(engine: Engine) -> torch.Tensor:
    return torch.cat([engine._feedback.vector(i) for i in range(3)])


def deltas(engine: Engine) -> torch.Tensor:
    return torch.cat([start - local for start, local in engine._parameters.progress()])


def test_begin_from_the_seed_gives_the_same_digest_as_from_the_blobs(engines):
    first = engines("alice").begin(Begin(request=4, shards=None))
    assert first.request == 4
    assert first.digest == state_digest(first.shards)
    assert engines("bob").begin(Begin(request=5, shards=first.shards)).digest == first.digest


def test_begin_with_an_unusable_blob_keeps_the_old_parameters(engine, store):
    before = engine.begin(Begin(request=1, shards=None))
    embed, block, head = before.shards
    absent = ShardPayload(head.shard, parent(0), head.size)
    with pytest.raises(StateError, match="not in the store"):
        engine.begin(Begin(request=2, shards=(embed, block, absent)))
    short = ShardPayload(head.shard, store.put(b"1234"), 4)
    with pytest.raises(ProtocolError, match="bytes long"):
        engine.begin(Begin(request=2, shards=(embed, block, short)))
    with pytest.raises(ProtocolError, match="not those hosted"):
        engine.begin(Begin(request=2, shards=(embed, block)))
    assert apply(engine, 0).digest == before.digest


def test_nothing_but_begin_works_without_parameters(engines):
    engine = engines("alice")
    for action in (
        lambda: train(engine, 0),
        lambda: encode(engine, 0),
        lambda: apply(engine, 0),
        lambda: engine.evaluate(Evaluate(request=1)),
    ):
        with pytest.raises(ComputeError, match="Begin comes first"):
            action()


def test_peers_of_one_round_agree_and_differ_from_the_start(engines):
    alice, bob, observer = engines("alice"), engines("bob"), engines("observer")
    for engine in (alice, bob, observer):
        start = engine.begin(Begin(request=1, shards=None)).digest
    one, two = contribute(alice, ALICE, 0, slot=0), contribute(bob, BOB, 0, slot=1)
    digests = {apply(engine, 0, one, two).digest for engine in (alice, bob, observer)}
    assert len(digests) == 1
    assert digests != {start}
    assert torch.equal(theta(alice), theta(observer))


def test_a_flipped_byte_is_rejected_by_all_peers_alike(engines, store):
    alice, bob, observer = engines("alice"), engines("bob"), engines("observer")
    for engine in (alice, bob, observer):
        engine.begin(Begin(request=1, shards=None))
    one, two = contribute(alice, ALICE, 0, slot=0), contribute(bob, BOB, 0, slot=1)
    embed, *rest = two.shards
    data = bytearray(store.read(embed.address))
    data[-1] ^= 1
    broken = replace(two, shards=(replace(embed, address=store.put(bytes(data))), *rest))
    verdict = alice.validate(Validate(request=7, author=BOB, shards=broken.shards))
    assert (verdict.request, verdict.author, verdict.reason) == (7, BOB, "bad-checksum")
    answers = [apply(engine, 0, one, broken) for engine in (alice, bob)]
    without = apply(observer, 0, one)
    assert answers[0].digest == answers[1].digest == without.digest
    assert {answer.judgements for answer in answers} == {(Judgement(BOB, 0, "bad-checksum"),)}


@pytest.mark.parametrize("round_tokens", [0, -1, 10**9])
def test_an_impossible_weight_is_rejected(engine, round_tokens):
    sound = contribute(engine, ALICE, 0, slot=0)
    answer = apply(engine, 0, replace(sound, round_tokens=round_tokens))
    assert answer.judgements == (Judgement(ALICE, 0, "weight"),)


def test_the_update_is_theta_minus_lr_times_what_was_sent(engine, manifest):
    before = theta(engine)
    train(engine, 0)
    moved = deltas(engine)
    encoded = encode(engine, 0)
    sent = moved - feedback(engine)  # the error feedback was zero
    apply(engine, 0, Contribution(ALICE, encoded.round_tokens, encoded.shards))
    assert torch.allclose(theta(engine), before - sent, atol=1e-7)
    assert sent.count_nonzero() > 0


def test_training_counts_text_tokens_and_reports_each_step(engine, manifest):
    seen: list[Progress] = []
    request = Train(request=2, round=0, parent=parent(0), cursor=0, slot=0, num_slots=1, steps=3)
    trained = engine.train(request, lambda progress: seen.append(progress) or True)
    assert [progress.step for progress in seen] == [1, 2, 3]
    assert (trained.request, trained.steps) == (2, 3)
    assert trained.round_tokens == 3 * 4 * 32
    assert trained.loss == pytest.approx(sum(progress.loss for progress in seen) / 3)


def test_training_ends_early_when_asked(engine):
    request = Train(request=2, round=0, parent=parent(0), cursor=0, slot=0, num_slots=1, steps=50)
    trained = engine.train(request, lambda progress: progress.step < 2)
    assert trained.steps == 2
    assert encode(engine, 0).round_tokens == 2 * 4 * 32


def test_batches_are_those_of_the_slot(engine, monkeypatch):
    asked: list[int] = []
    batch = engine._batches.batch
    monkeypatch.setattr(engine._batches, "batch", lambda i: asked.append(i) or batch(i))
    request = Train(request=2, round=5, parent=parent(5), cursor=100, slot=1, num_slots=3, steps=3)
    engine.train(request, lambda progress: True)
    assert asked == [101, 104, 107]


def test_progress_must_be_encoded_before_the_next_training(engine):
    train(engine, 0)
    with pytest.raises(ComputeError, match="not encoded yet"):
        train(engine, 1)
    with pytest.raises(ComputeError, match="asked to encode upon"):
        encode(engine, 1)
    engine.begin(Begin(request=1, shards=None))
    train(engine, 1)


def test_without_training_nothing_is_folded_or_sent(engine):
    train(engine, 0)
    encode(engine, 0)
    before = feedback(engine)
    encoded = encode(engine, 1)
    assert (encoded.round_tokens, encoded.shards) == (0, ())
    assert torch.equal(feedback(engine), before)
    assert parent(1) not in engine._feedback.ledger


def test_unsent_text_tokens_go_into_the_next_contribution(engine):
    train(engine, 0)
    late = encode(engine, 0, send=False)
    assert (late.shards, late.round_tokens, late.text_tokens) == ((), 512, 512)
    train(engine, 1, steps=2)
    sent = encode(engine, 1)
    assert (sent.round_tokens, sent.text_tokens) == (256, 768)
    assert engine._feedback.pending == 0


def test_a_round_left_unsent_can_still_be_sent(engine):
    """A peer that comes back to a parent must be able to go on from there."""
    train(engine, 0)
    encode(engine, 0, send=False)
    train(engine, 0, steps=2)
    sent = encode(engine, 0)
    assert (sent.round_tokens, sent.text_tokens, len(sent.shards)) == (512, 512, 3)
    train(engine, 0)
    left = encode(engine, 0, send=False)
    assert (left.round_tokens, left.text_tokens, left.shards) == (0, 0, ())
    assert encode(engine, 0).shards == sent.shards


def test_steps_that_are_not_finite_do_not_count(engine):
    with torch.no_grad():
        engine._parameters.model.head.output.fill_(float("nan"))
    assert train(engine, 0).round_tokens == 0
    assert encode(engine, 0).shards == ()
    assert torch.isfinite(theta(engine)).all()


def test_parameters_gone_bad_during_training_spoil_nothing(engine):
    request = Train(request=2, round=0, parent=parent(0), cursor=0, slot=0, num_slots=1, steps=2)

    def poison(progress: Progress) -> bool:
        with torch.no_grad():
            engine._parameters.model.head.norm.fill_(float("inf"))
        return True

    assert engine.train(request, poison).steps == 1
    assert encode(engine, 0).shards == ()
    assert torch.isfinite(feedback(engine)).all()
    assert train(engine, 1).steps == 4


def test_a_failed_training_leaves_the_round_start(engine):
    def fail(progress: Progress) -> bool:
        raise OSError("lost")

    request = Train(request=2, round=0, parent=parent(0), cursor=0, slot=0, num_slots=1, steps=2)
    with pytest.raises(OSError, match="lost"):
        engine.train(request, fail)
    assert not deltas(engine).any()


def test_a_full_disk_while_encoding_loses_nothing(engine, store, monkeypatch):
    train(engine, 0)
    before = feedback(engine)

    def full(data: bytes) -> str:
        raise StateError("SK-DSK-001", "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(store, "put", full)
        with pytest.raises(StateError, match="no space"):
            encode(engine, 0)
        with pytest.raises(StateError, match="no space"):
            apply(engine, 0)
    assert torch.equal(feedback(engine), before)
    assert not engine._feedback.ledger


def test_encoding_can_be_tried_again_after_a_full_disk(engine, store, monkeypatch):
    train(engine, 0)
    put, calls = store.put, []

    def full_at_the_second(data: bytes) -> str:
        calls.append(data)
        if len(calls) == 2:
            raise StateError("SK-DSK-001", "no space left")
        return put(data)

    monkeypatch.setattr(store, "put", full_at_the_second)
    with pytest.raises(StateError):
        encode(engine, 0)
    again = encode(engine, 0)
    assert (again.round_tokens, len(again.shards)) == (512, 3)
    assert engine._feedback.pending == 0


def test_restart_restores_the_error_feedback_and_the_first_contribution(engines):
    before = engines("alice")
    before.begin(Begin(request=1, shards=None))
    train(before, 0)
    first = encode(before, 0)
    after = engines("alice")
    assert torch.equal(feedback(after), feedback(before))
    assert after._feedback.ledger == before._feedback.ledger
    assert [(o.parent, o.round) for o in after.hello().ledger] == [(parent(0), 1)]
    after.begin(Begin(request=1, shards=None))
    train(after, 0)
    assert encode(after, 0) == first
    assert torch.equal(feedback(after), feedback(before))


def state_of_others(engines) -> tuple[ShardPayload, ...]:
    """A state that another peer has reached."""
    other = engines("other")
    other.begin(Begin(request=1, shards=None))
    one = contribute(other, BOB, 0, slot=1)
    return apply(other, 0, one).shards


def test_a_joiner_that_downloads_a_state_starts_with_no_error_feedback(engines):
    joiner = engines("joiner")
    joiner.begin(Begin(request=1, shards=state_of_others(engines)))
    assert not feedback(joiner).any()
    assert joiner.hello().ledger == ()


def test_a_peer_that_downloads_a_state_keeps_its_error_feedback(engines):
    """Healed or far behind: what it trained and nobody has is not a part of the parameters."""
    peer, shards = engines("alice"), state_of_others(engines)
    peer.begin(Begin(request=1, shards=None))
    train(peer, 0)
    encode(peer, 0)
    before, ledger = feedback(peer), peer.hello().ledger
    assert before.any()
    peer.begin(Begin(request=2, shards=shards))
    assert torch.equal(feedback(peer), before)
    assert peer.hello().ledger == ledger
    peer.settle(Settle(request=3, verdicts=(Verdict(parent(0), False),)))
    assert peer._feedback.pending == 512, "it is told by the new chain that it was left out"
    train(peer, 1)
    assert encode(peer, 1).text_tokens == 1024


def test_training_cut_short_by_a_download_is_kept(engines):
    peer, shards = engines("alice"), state_of_others(engines)
    peer.begin(Begin(request=1, shards=None))
    train(peer, 0, steps=2)
    moved = deltas(peer)
    encode(peer, 0, send=False)  # what the node asks for before the parameters change
    peer.begin(Begin(request=2, shards=shards))
    assert torch.equal(feedback(peer), moved)
    assert peer._feedback.pending == 256


def test_settle_after_a_restart_gives_what_it_gave_before(engines):
    before = engines("alice")
    before.begin(Begin(request=1, shards=None))
    train(before, 0)
    encode(before, 0)
    verdict = Settle(request=3, verdicts=(Verdict(parent(0), False),))
    assert before.settle(verdict).request == 3
    after = engines("alice")  # the settlement was not written yet
    after.settle(verdict)
    assert torch.equal(feedback(after), feedback(before))
    assert after._feedback.pending == before._feedback.pending == 512


def test_evaluation_sampling_and_export_use_the_round_start(engine, tmp_path):
    start = engine.evaluate(Evaluate(request=2))
    sample = Sample(request=3, prompt="tide", text_tokens=5, temperature=0.0, seed=0)
    text = engine.sample(sample)
    assert text.text.startswith("tide")
    train(engine, 0)
    local = deltas(engine)
    assert engine.evaluate(Evaluate(request=2)) == start
    assert engine.sample(sample) == text
    exported = engine.export(Export(request=4, directory=str(tmp_path / "model")))
    assert exported.digest == engine._parameters.digest
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert torch.equal(local, deltas(engine))


def test_hello_counts_the_parameters(engine, manifest):
    hello = engine.hello()
    assert hello.params == sum(spec.numel for spec in layout_of(manifest.model))
    assert 0 < hello.unigram_entropy < 5.6


def test_a_swarm_of_two_learns(engines):
    alice, bob = engines("alice"), engines("bob")
    for engine in (alice, bob):
        engine.begin(Begin(request=1, shards=None))
    before = alice.evaluate(Evaluate(request=2)).loss
    for number in range(30):
        one = contribute(alice, ALICE, number, slot=0)
        two = contribute(bob, BOB, number, slot=1)
        digests = {apply(engine, number, one, two).digest for engine in (alice, bob)}
        assert len(digests) == 1
    after = alice.evaluate(Evaluate(request=2)).loss
    assert after < before - 1.5
    assert after < alice.hello().unigram_entropy
