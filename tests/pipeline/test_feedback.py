"""Error feedback and ledger: nothing is lost, whatever the chain decides, in whatever order."""

import errno
import os
import shutil
import weakref
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skerry.pipeline import sealed_file
from skerry.pipeline.feedback import FILE_NAME, ErrorFeedback
from skerry.pipeline.ledger import RoundWork
from skerry.pipeline.payloads import Payloads
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import Verdict
from skerry.protocol.errors import StateError
from skerry.protocol.ids import CommitHash, PeerId, content_hash
from skerry.protocol.manifest import CodecSection, Manifest, ModelSection, RoundSection

TINY = Manifest(
    owner=PeerId("12D3KooWowner"),
    model=ModelSection(layers=1, d_model=8, heads=2, kv_heads=1, ffn_dim=8, context=8),
    codec=CodecSection(error_decay=1.0),
    round=RoundSection(replay=6),
)
TOKENS = 100
ME, OTHER = PeerId("12D3KooWme"), PeerId("12D3KooWother")
BF16_GAP = 2**-7
"""Largest distance of two neighbouring bf16 numbers, in relation to the smaller."""


def kept_as(feedback: str, error_decay: float = 1.0, manifest: Manifest = TINY) -> Manifest:
    codec = CodecSection(error_decay=error_decay, feedback=feedback)
    return manifest.model_copy(update={"codec": codec})


class Peer:
    """One peer's error feedback with made-up progress instead of training."""

    def __init__(self, folder: Path, manifest: Manifest = TINY, author: PeerId = ME) -> None:
        self.folder, self.manifest, self.author = folder, manifest, author
        self.store = BlobStore(folder / "blobs")
        self.payloads = Payloads(manifest, self.store)
        self.restart()

    def restart(self) -> None:
        self.feedback = ErrorFeedback(self.manifest, self.payloads, self.folder, self.author)

    def deltas(self, number: int) -> list[Tensor]:
        random = torch.Generator().manual_seed(number)
        return [torch.randn(spec.numel, generator=random) for spec in self.payloads.layout]

    def fold(self, number: int, send: bool = True):
        # The chain counts rounds from 1: upon commit 0 round 1 is trained.
        work = RoundWork(parent(number), number + 1, TOKENS, 1.5)
        return self.feedback.fold(work, self.progress(number), send)

    def progress(self, number: int):
        return ((delta, torch.zeros_like(delta)) for delta in self.deltas(number))

    def settle(self, number: int, included: bool) -> None:
        self.feedback.settle([Verdict(parent(number), included)])

    def sent(self, number: int) -> Tensor:
        """Return what the contribution of a round decodes to, dense."""
        shards = self.feedback.ledger[parent(number)].shards
        parts = [torch.zeros(spec.numel) for spec in self.payloads.layout]
        for position, (part, payload) in enumerate(zip(parts, shards, strict=True)):
            self.payloads.add(position, payload, part)
        return torch.cat(parts)

    @property
    def vectors(self) -> list[Tensor]:
        return [self.feedback.vector(i) for i in range(len(self.payloads.layout))]

    @property
    def total(self) -> Tensor:
        return torch.cat(self.vectors)

    @property
    def everything(self):
        """All that the next round starts from, comparable."""
        feedback = self.feedback
        return self.total.numpy().tobytes(), feedback.ledger, feedback.pending

    def state(self, number: int) -> str:
        return self.feedback.ledger[parent(number)].state


def parent(number: int) -> CommitHash:
    return CommitHash(content_hash(f"commit {number}".encode()))


@pytest.fixture
def peer(tmp_path: Path) -> Peer:
    return Peer(tmp_path)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("fold"), st.booleans()),
        st.tuples(st.integers(0, 7), st.booleans()),  # a verdict on one of the rounds so far
        st.tuples(st.just("restart"), st.booleans()),
        st.tuples(st.just("again"), st.booleans()),
    ),
    max_size=12,  # fewer rounds than the ledger keeps
)


@settings(max_examples=60, deadline=None)
@given(steps, st.sampled_from(["fp32", "bf16"]))
def test_what_was_trained_is_either_included_or_still_here(actions, feedback):
    """Sum of all deltas == error feedback + what is out, and the same for text tokens."""
    with TemporaryDirectory() as folder:
        peer = Peer(Path(folder), kept_as(feedback))
        trained = torch.zeros(peer.total.numel())
        rounds = 0
        verdicts: dict[int, bool] = {}
        for action, flag in actions:
            if action == "fold":
                trained += torch.cat(peer.deltas(rounds))
                peer.fold(rounds, send=flag)
                rounds += 1
            elif action == "restart":
                peer.restart()
                for number, included in verdicts.items():  # as the node does after Hello
                    peer.settle(number, included)
            elif action == "again":
                if rounds:
                    peer.feedback.offer_again(parent(rounds - 1))
                    verdicts.pop(rounds - 1, None)
            elif action < rounds:
                verdicts[action] = flag
                peer.settle(action, flag)
        out = [e for e in peer.feedback.ledger.values() if e.state in ("open", "included")]
        mass = peer.total + sum(peer.sent(entry.round - 1) for entry in out)
        largest = float(trained.abs().max()) + float(mass.abs().max())
        rounded = BF16_GAP * largest * len(actions) if feedback == "bf16" else 0.0
        torch.testing.assert_close(mass, trained, rtol=0, atol=1e-4 + rounded)
        tokens = peer.feedback.pending + sum(entry.text_tokens for entry in out)
        assert tokens == rounds * TOKENS


def test_settle_is_idempotent_and_reversible(peer):
    peer.fold(0)
    before, sent = peer.total, peer.sent(0)
    for _ in range(2):
        peer.settle(0, included=True)
        assert torch.equal(peer.total, before)
        assert (peer.state(0), peer.feedback.pending) == ("included", 0)
    for _ in range(2):
        peer.settle(0, included=False)
        torch.testing.assert_close(peer.total, before + sent)
        assert (peer.state(0), peer.feedback.pending) == ("returned", TOKENS)
    for _ in range(2):
        peer.settle(0, included=True)
        torch.testing.assert_close(peer.total, before)
        assert (peer.state(0), peer.feedback.pending) == ("included", 0)


def test_verdicts_on_unknown_and_unsent_rounds_change_nothing(peer):
    peer.fold(0, send=False)
    before = peer.total
    for number in (0, 1):
        for included in (True, False):
            peer.settle(number, included)
    assert torch.equal(peer.total, before)
    assert peer.state(0) == "unsent"
    assert peer.feedback.pending == TOKENS


def test_decay_is_applied_once_per_round(tmp_path):
    peer = Peer(tmp_path, kept_as("fp32", error_decay=0.5))
    peer.fold(0, send=False)
    peer.fold(1, send=False)
    wanted = 0.5 * torch.cat(peer.deltas(0)) + torch.cat(peer.deltas(1))
    torch.testing.assert_close(peer.total, wanted)


def test_included_after_all_its_text_tokens_count_once(peer):
    """Returned, sent again within the next contribution, then included by another chain."""
    peer.fold(0)
    peer.settle(0, included=False)
    assert peer.fold(1).text_tokens == 2 * TOKENS
    peer.settle(0, included=True)
    assert peer.feedback.pending == -TOKENS, "claimed by both until the second one's fate is told"
    third = peer.fold(2)
    assert (third.state, third.shards) == ("unsent", ()), "all of it pays the debt"
    assert peer.feedback.pending == 0
    peer.settle(1, included=False)
    assert peer.feedback.pending == 2 * TOKENS, "rounds 1 and 2"


def test_a_contribution_weighs_no_more_than_it_claims(peer):
    peer.fold(0)
    peer.settle(0, included=False)
    peer.fold(1)
    peer.settle(0, included=True)  # a debt of one round
    work = RoundWork(parent(2), 3, TOKENS + 40, 1.5)
    entry = peer.feedback.fold(work, peer.progress(2), send=True)
    assert (entry.state, entry.text_tokens, entry.round_tokens) == ("open", 40, 40)


def test_restart_restores_the_same_bytes(peer):
    peer.fold(0)
    peer.settle(0, included=False)
    peer.fold(1)
    before = peer.everything
    file = (peer.folder / FILE_NAME).read_bytes()
    peer.restart()
    assert peer.everything == before
    assert peer.state(0) == "returned"
    assert (peer.folder / FILE_NAME).read_bytes() == file


def test_a_file_of_another_run_is_not_taken(peer, caplog):
    peer.fold(0)
    other = Peer(peer.folder, TINY.model_copy(update={"seed": 1}))
    assert not other.total.any()
    assert "another run" in caplog.text


def test_old_entries_are_pruned_behind_the_newest_contribution(peer):
    for number in (0, 1, 2, 13, 12):
        peer.fold(number)
    assert {entry.round for entry in peer.feedback.ledger.values()} == {2, 3, 13, 14}


def test_a_missing_payload_is_marked_lost(peer, caplog):
    entry = peer.fold(0)
    before = peer.total
    peer.store.path(entry.shards[1].address).unlink()
    peer.settle(0, included=False)
    assert peer.state(0) == "lost"
    assert torch.equal(peer.total, before), "not even the shards that are still there"
    assert peer.feedback.pending == 0
    assert "cannot be settled" in caplog.text
    peer.settle(0, included=True)
    assert peer.state(0) == "lost"


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(bytes(path.stat().st_size))]
)
def test_a_payload_lost_between_verdict_and_write_is_named_and_given_up(peer, caplog, damage):
    """The round goes on without it, instead of failing each time."""
    first = peer.fold(0)
    outside = peer.total
    peer.settle(0, included=False)
    assert peer.feedback.pending == TOKENS
    damage(peer.store.path(first.shards[2].address))
    second = peer.fold(1)
    assert peer.state(0) == "lost"
    assert "contribution of round 1 (100 text tokens) cannot be settled" in caplog.text
    assert (second.text_tokens, peer.feedback.pending) == (TOKENS, 0)
    wanted = outside + torch.cat(peer.deltas(1))
    torch.testing.assert_close(peer.total + peer.sent(1), wanted)
    before = peer.everything
    peer.restart()
    assert peer.everything == before


def test_a_payload_lost_before_it_is_taken_out_again_stays_inside(peer, caplog):
    peer.fold(0)
    peer.settle(0, included=False)
    second = peer.fold(1)
    assert second.text_tokens == 2 * TOKENS
    peer.settle(0, included=True)
    inside = peer.total + peer.sent(0)
    for shard in peer.feedback.ledger[parent(0)].shards:
        peer.store.path(shard.address).unlink()
    peer.fold(2)
    assert peer.state(0) == "lost"
    assert "contribution of round 1" in caplog.text
    torch.testing.assert_close(peer.total + peer.sent(2), inside + torch.cat(peer.deltas(2)))
    assert peer.feedback.pending == 0


def test_the_same_contribution_is_offered_again(peer):
    entry = peer.fold(0)
    before = peer.total
    assert peer.feedback.offer_again(parent(0)) == entry
    assert torch.equal(peer.total, before)


def test_a_returned_contribution_is_taken_out_again_when_offered(peer):
    entry = peer.fold(0)
    before = peer.total
    peer.settle(0, included=False)
    assert peer.feedback.offer_again(parent(0)) == entry
    torch.testing.assert_close(peer.total, before)
    assert peer.feedback.pending == 0
    peer.restart()
    torch.testing.assert_close(peer.total, before)
    assert peer.state(0) == "open"


def test_an_unsent_round_is_sent_from_the_error_feedback_when_asked_for_again(tmp_path):
    peer = Peer(tmp_path, kept_as("fp32", error_decay=0.5))
    peer.fold(0, send=False)
    before = peer.total
    entry = peer.feedback.offer_again(parent(0))
    assert (entry.state, entry.round_tokens, entry.text_tokens) == ("open", TOKENS, TOKENS)
    assert peer.feedback.pending == 0
    torch.testing.assert_close(peer.total + peer.sent(0), before)  # no second decay
    peer.restart()
    assert peer.feedback.ledger[parent(0)] == entry


def test_a_contribution_that_cannot_be_served_is_made_anew(peer):
    first = peer.fold(0)
    before = peer.total
    peer.settle(0, included=False)
    peer.store.path(first.shards[0].address).unlink()
    second = peer.feedback.offer_again(parent(0))
    assert (second.state, second.text_tokens) == ("open", TOKENS)
    assert peer.payloads.flaw(second.shards) == ""
    torch.testing.assert_close(peer.total + peer.sent(0), before)


class TestWhereItComesFrom:
    """Joiners, restarts, downloads: what each begins with."""

    def test_joiner_starts_from_zero(self, peer, caplog) -> None:
        assert not peer.total.any()
        assert (peer.feedback.ledger, peer.feedback.pending) == ({}, 0)
        assert not caplog.records

    def test_first_contribution_of_a_joiner_is_its_progress_alone(self, peer) -> None:
        peer.fold(0)
        torch.testing.assert_close(peer.total + peer.sent(0), torch.cat(peer.deltas(0)))

    def test_folder_without_the_file_is_a_joiners(self, peer) -> None:
        peer.fold(0)
        (peer.folder / FILE_NAME).unlink()
        peer.restart()
        assert not peer.total.any()
        assert peer.feedback.ledger == {}

    def test_damaged_file_starts_from_zero_and_says_so(self, peer, caplog) -> None:
        peer.fold(0)
        path = peer.folder / FILE_NAME
        path.write_bytes(path.read_bytes()[:-1])
        peer.restart()
        assert not peer.total.any()
        assert "starts from zero" in caplog.text
        assert peer.fold(1).text_tokens == TOKENS
        peer.restart()
        assert peer.state(1) == "open"

    def test_payload_that_vanishes_while_it_is_written_back_costs_itself_only(
        self, peer, monkeypatch
    ) -> None:
        entry = peer.fold(0)
        before = peer.total
        peer.settle(0, included=False)
        add = peer.payloads.add

        def too_late(position, payload, *others) -> None:
            peer.store.path(entry.shards[1].address).unlink(missing_ok=True)
            add(position, payload, *others)

        monkeypatch.setattr(peer.payloads, "add", too_late)
        with pytest.raises(StateError, match="SK-DSK-002"):
            peer.fold(1)
        assert peer.fold(1).text_tokens == TOKENS
        assert peer.state(0) == "lost"
        monkeypatch.undo()
        torch.testing.assert_close(peer.total + peer.sent(1), before + torch.cat(peer.deltas(1)))


class TestDamaged:
    """The newest error feedback is damaged; the one before, and the ledger, are whole."""

    def spoil(self, peer) -> None:
        """Damage the file written last, and start again."""
        newest = peer.feedback._file._newest
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 1
        newest.write_bytes(data)
        peer.restart()

    @pytest.fixture(params=[1.0, 0.9])
    def peer(self, tmp_path, request) -> Peer:
        return Peer(tmp_path, kept_as("fp32", request.param))

    def test_what_was_sent_since_is_not_sent_again(self, peer, caplog) -> None:
        peer.fold(0)
        before = peer.total
        sent = peer.fold(1)
        ledger, pending = peer.feedback.ledger, peer.feedback.pending
        self.spoil(peer)
        held = peer.sent(1) != 0
        assert held.any() and not held.all()
        assert (peer.feedback.ledger, peer.feedback.pending) == (ledger, pending)
        assert not peer.total[held].any()
        torch.testing.assert_close(peer.total[~held], peer.feedback._decay * before[~held])
        assert peer.feedback.offer_again(parent(1)) == sent
        assert "is damaged" in caplog.text and "before is used" in caplog.text

    def test_it_is_written_at_once_and_the_same_after_another_start(self, peer) -> None:
        peer.fold(0)
        peer.fold(1)
        self.spoil(peer)
        everything = peer.everything
        peer.restart()
        assert peer.everything == everything

    def test_a_contribution_sent_since_comes_back_with_its_text_tokens(self, peer) -> None:
        peer.fold(0)
        peer.fold(1)
        self.spoil(peer)
        rest = peer.total
        peer.settle(1, included=False)
        torch.testing.assert_close(peer.total, rest + peer.sent(1))
        assert peer.feedback.pending == TOKENS
        assert peer.fold(2).text_tokens == 2 * TOKENS

    def test_no_text_token_counts_twice(self, peer) -> None:
        first, second = peer.fold(0), peer.fold(1)
        self.spoil(peer)
        for number in (0, 1):
            peer.settle(number, included=True)
        third = peer.fold(2)
        assert [e.text_tokens for e in (first, second, third)] == [TOKENS] * 3

    def test_verdicts_written_since_are_made_again(self, peer) -> None:
        peer.fold(0)
        before = peer.total
        peer.settle(0, included=False)
        peer.fold(1)
        self.spoil(peer)
        held = peer.sent(1) != 0
        wanted = peer.feedback._decay * (before + peer.sent(0))
        torch.testing.assert_close(peer.total[~held], wanted[~held])
        assert (peer.state(0), peer.state(1)) == ("returned", "open")
        peer.settle(0, included=True)
        peer.settle(1, included=True)
        assert peer.feedback.pending == -TOKENS  # round 0's were part of the second contribution

    def test_a_round_that_sent_nothing_counts_as_not_trained(self, peer) -> None:
        peer.fold(0)
        before = peer.total
        peer.fold(1, send=False)
        assert peer.feedback.pending == TOKENS
        self.spoil(peer)
        assert peer.feedback.pending == 0
        torch.testing.assert_close(peer.total, peer.feedback._decay * before)
        assert peer.fold(1).text_tokens == TOKENS

    def test_moves_that_were_all_that_was_written_are_made_again(self, peer) -> None:
        peer.fold(0)
        peer.settle(0, included=False)
        peer.fold(1, send=False)
        peer.feedback.offer_again(parent(0))
        wanted, ledger = peer.total, peer.feedback.ledger
        self.spoil(peer)
        torch.testing.assert_close(peer.total, wanted)
        assert peer.feedback.ledger == ledger

    def test_without_the_payload_that_was_sent_it_starts_from_zero(self, peer, caplog) -> None:
        peer.fold(0)
        entry = peer.fold(1)
        peer.store.path(entry.shards[0].address).unlink()
        self.spoil(peer)
        assert not peer.total.any()
        assert (peer.feedback.ledger, peer.feedback.pending) == ({}, 0)
        assert "not consistent" in caplog.text
        assert peer.fold(2).text_tokens == TOKENS

    def test_two_damaged_in_a_row_start_from_zero(self, peer, caplog) -> None:
        peer.fold(0)
        peer.fold(1)
        for path in peer.folder.glob("feedback*.safetensors"):
            path.write_bytes(path.read_bytes()[:-1])
        peer.restart()
        assert not peer.total.any()
        assert "starts from zero" in caplog.text


class TestBf16:
    """Error feedback kept as bf16: half the file, the same on a repeated run, right on average."""

    @pytest.fixture
    def peer(self, tmp_path) -> Peer:
        return Peer(tmp_path, kept_as("bf16"))

    def test_is_what_fp32_would_be_up_to_one_rounding(self, peer, tmp_path_factory) -> None:
        exact = Peer(tmp_path_factory.mktemp("exact"), kept_as("fp32"))
        for one in (exact, peer):
            one.fold(0)
        assert peer.feedback.ledger == exact.feedback.ledger
        assert_within_a_gap(peer.total, exact.total)
        assert not torch.equal(peer.total, exact.total)

    def test_takes_half_the_space(self, peer, tmp_path_factory) -> None:
        exact = Peer(tmp_path_factory.mktemp("exact"), kept_as("fp32"))
        for one in (exact, peer):
            one.fold(0)
        half, whole = ((one.folder / FILE_NAME).stat().st_size for one in (peer, exact))
        assert abs(whole - half - 2 * peer.total.numel()) <= 8

    def test_a_restart_restores_the_same_bits(self, peer) -> None:
        peer.fold(0)
        peer.settle(0, included=False)
        peer.fold(1)
        before = peer.everything
        peer.restart()
        assert peer.everything == before

    def test_a_returned_contribution_is_exact_up_to_one_rounding(self, peer) -> None:
        peer.fold(0)
        wanted = peer.total + peer.sent(0)
        peer.settle(0, included=False)
        assert torch.equal(peer.total, wanted)  # not rounded before it is written
        peer.fold(1, send=False)
        assert_within_a_gap(peer.total, wanted + torch.cat(peer.deltas(1)))

    def test_a_repeated_run_gives_the_same_file(self, peer, tmp_path_factory) -> None:
        again = Peer(tmp_path_factory.mktemp("again"), peer.manifest)
        for one in (peer, again):
            one.fold(0)
            one.settle(0, included=False)
            one.restart()
            one.settle(0, included=False)
            one.fold(1)
        assert (again.folder / FILE_NAME).read_bytes() == (peer.folder / FILE_NAME).read_bytes()

    def test_other_peers_and_other_seeds_round_otherwise(self, peer, tmp_path_factory) -> None:
        other = Peer(tmp_path_factory.mktemp("other"), peer.manifest, OTHER)
        seed = peer.manifest.model_copy(update={"seed": 1})
        reseeded = Peer(tmp_path_factory.mktemp("seed"), seed)
        for one in (peer, other, reseeded):
            one.fold(0, send=False)
        assert not torch.equal(peer.total, other.total)
        assert not torch.equal(peer.total, reseeded.total)

    def test_a_second_writing_is_rounded_anew(self, peer) -> None:
        peer.fold(0, send=False)
        first = peer.total - torch.cat(peer.deltas(0))
        (peer.folder / FILE_NAME).unlink()
        peer.restart()
        none = ((torch.zeros_like(d), torch.zeros_like(d)) for d in peer.deltas(0))
        peer.feedback.fold(RoundWork(parent(5), 6, TOKENS, 1.0), none, send=False)
        peer.fold(0, send=False)
        second = peer.total - torch.cat(peer.deltas(0))
        # With shares p of a gap spread evenly, two roundings agree in p^2 + (1 - p)^2: 2/3.
        assert float((first == second).float().mean()) == pytest.approx(2 / 3, abs=0.05)

    def test_small_progress_is_not_lost(self, tmp_path) -> None:
        """A tenth of a gap, 60 times: to the nearest it would vanish each time."""
        peer = Peer(tmp_path, kept_as("bf16"))
        layout = peer.payloads.layout

        def fold(number: int, value: float) -> None:
            progress = ((torch.full((s.numel,), value), torch.zeros(s.numel)) for s in layout)
            work = RoundWork(parent(number), number + 1, TOKENS, 1.0)
            peer.feedback.fold(work, progress, send=False)

        fold(0, 1.0)
        for number in range(1, 61):
            fold(number, 0.1 * BF16_GAP)
        assert float(peer.total.mean()) == pytest.approx(1 + 6 * BF16_GAP, abs=0.1 * BF16_GAP)


def assert_within_a_gap(got: Tensor, wanted: Tensor) -> None:
    assert torch.all((got - wanted).abs() <= BF16_GAP * wanted.abs())


@pytest.mark.parametrize("feedback", ["fp32", "bf16"])
class TestAllOrNothing:
    """Every point at which writing can fail or the process can die."""

    def at_risk(self, folder: Path, feedback: str) -> Peer:
        """A peer with a verdict that is not written yet, about to fold round 1."""
        peer = Peer(folder, kept_as(feedback, 0.5))
        peer.fold(0)
        peer.settle(0, included=False)
        return peer

    def test_killed_anywhere_it_goes_on_as_if_nothing_had_been(self, tmp_path, feedback) -> None:
        peer = self.at_risk(tmp_path / "peer", feedback)
        before = peer.everything
        with disk_images(peer.folder, tmp_path / "images") as images:
            entry = peer.fold(1)
        after = peer.everything
        assert len(images) > 20
        folded = 0
        for image in images:
            found = Peer(image, peer.manifest)
            found.settle(0, included=False)
            if parent(1) in found.feedback.ledger:
                folded += 1
                assert found.payloads.flaw(entry.shards) == ""
            else:
                assert found.everything == before
                assert found.fold(1) == entry
            assert found.everything == after
        assert 0 < folded < len(images)

    def test_disk_full_anywhere_nothing_has_changed(self, tmp_path, feedback) -> None:
        undisturbed = self.at_risk(tmp_path / "undisturbed", feedback)
        entry = undisturbed.fold(1)
        for number in range(1, 100):
            peer = self.at_risk(tmp_path / str(number), feedback)
            before = peer.everything
            with disk_full_at(number) as left:
                try:
                    peer.fold(1)
                except StateError as error:
                    assert error.code == "SK-DSK-001"
                    assert peer.everything == before
                    assert not list(peer.folder.rglob("*.tmp"))
            assert peer.feedback.ledger.get(parent(1)) or peer.fold(1) == entry
            assert peer.everything == undisturbed.everything
            if left() > 0:
                break  # it went through before the disk was full
        assert number > 13

    def test_taking_back_is_all_or_nothing_too(self, tmp_path, feedback) -> None:
        peer = self.at_risk(tmp_path / "peer", feedback)
        peer.fold(1, send=False)  # writes the return of round 0
        with disk_images(peer.folder, tmp_path / "images") as images:
            peer.feedback.offer_again(parent(0))
        after = peer.everything
        for image in images:
            found = Peer(image, peer.manifest)
            found.feedback.offer_again(parent(0))
            assert found.everything == after
        assert peer.state(0) == "open"

    def test_one_shard_is_in_memory_at_a_time(self, tmp_path, feedback, monkeypatch) -> None:
        """Error feedback and local copy; the latter only once the former is read."""
        peer = self.at_risk(tmp_path / "peer", feedback)
        taken: list[weakref.ref[Tensor]] = []
        vector = peer.feedback.vector

        def alive() -> int:
            return sum(ref() is not None for ref in taken)

        def watched(position: int) -> Tensor:
            assert alive() == 0
            found = vector(position)
            taken.append(weakref.ref(found))
            return found

        def local(delta: Tensor) -> Tensor:
            assert alive() == 1
            made = torch.zeros_like(delta)
            taken.append(weakref.ref(made))
            return made

        monkeypatch.setattr(peer.feedback, "vector", watched)
        work = RoundWork(parent(1), 2, TOKENS, 1.5)
        deltas = peer.deltas(1)
        peer.feedback.fold(work, ((delta, local(delta)) for delta in deltas), True)
        assert len(taken) == 2 * len(peer.payloads.layout)
        assert alive() == 0


class Tapped:
    """A file that tells of each write; ``before`` gets the data and a function that writes."""

    def __init__(self, file, before) -> None:
        self._file, self._before = file, before

    def write(self, data) -> None:
        self._before(memoryview(data), self._file)
        self._file.write(data)

    def seek(self, place: int) -> None:
        self._file.seek(place)


@contextmanager
def tapped(on_write, on_call):
    """Tell of all that reaches the disk: writes of the snapshot, and every fsync and rename."""
    with pytest.MonkeyPatch.context() as patch:
        replacing, fsync, rename = sealed_file.replacing, os.fsync, os.replace

        @contextmanager
        def tapped_replacing(path):
            with replacing(path) as file:
                yield Tapped(file, on_write)

        def call(real, *arguments):
            on_call()
            real(*arguments)

        patch.setattr(sealed_file, "replacing", tapped_replacing)
        patch.setattr(os, "fsync", lambda number: call(fsync, number))
        patch.setattr(os, "replace", lambda *paths: call(rename, *paths))
        yield


@contextmanager
def disk_images(folder: Path, images: Path):
    """Copy the folder whenever a killed process could have left it as it is."""
    found: list[Path] = []

    def image() -> None:
        found.append(images / str(len(found)))
        shutil.copytree(folder, found[-1])

    def on_write(data: memoryview, file) -> None:
        image()
        file.write(data[: len(data) // 2])
        file.flush()
        image()
        file.seek(-(len(data) // 2), os.SEEK_CUR)

    with tapped(on_write, image):
        yield found
    image()


@contextmanager
def disk_full_at(number: int):
    """Let the so-manieth write, fsync or rename find the disk full."""
    left = number

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise OSError(errno.ENOSPC, "no space left")

    with tapped(count, count):
        yield lambda: left
