"""Error feedback and ledger: nothing is lost, whatever the chain decides, in whatever order."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

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


class Peer:
    """One peer's error feedback with made-up progress instead of training."""

    def __init__(self, folder: Path, manifest: Manifest = TINY) -> None:
        self.folder, self.manifest = folder, manifest
        self.store = BlobStore(folder / "blobs")
        self.payloads = Payloads(manifest, self.store)
        self.restart()

    def restart(self) -> None:
        self.feedback = ErrorFeedback(self.manifest, self.payloads, self.folder)

    def deltas(self, number: int) -> list[Tensor]:
        random = torch.Generator().manual_seed(number)
        return [torch.randn(spec.numel, generator=random) for spec in self.payloads.layout]

    def fold(self, number: int, send: bool = True):
        # The chain counts rounds from 1: upon commit 0 round 1 is trained.
        work = RoundWork(parent(number), number + 1, TOKENS, 1.5)
        return self.feedback.fold(work, self.deltas(number), send)

    def settle(self, number: int, included: bool) -> None:
        self.feedback.settle([Verdict(parent(number), included)])

    def sent(self, number: int) -> Tensor:
        """Return what the contribution of a round decodes to, dense."""
        shards = self.feedback.ledger[parent(number)].shards
        parts = [torch.zeros(spec.numel) for spec in self.payloads.layout]
        for position, (part, shard) in enumerate(zip(parts, shards, strict=True)):
            self.payloads.add(position, shard, part)
        return torch.cat(parts)

    @property
    def total(self) -> Tensor:
        return torch.cat(self.feedback.vectors)

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
@given(steps)
def test_what_was_trained_is_either_included_or_still_here(actions):
    """Sum of all deltas == error feedback + what is out, and the same for text tokens."""
    with TemporaryDirectory() as folder:
        peer = Peer(Path(folder))
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
        torch.testing.assert_close(mass, trained, rtol=0, atol=1e-4)
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
    manifest = TINY.model_copy(update={"codec": CodecSection(error_decay=0.5)})
    peer = Peer(tmp_path, manifest)
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
    entry = peer.feedback.fold(work, peer.deltas(2), send=True)
    assert (entry.state, entry.text_tokens, entry.round_tokens) == ("open", 40, 40)


def test_restart_restores_the_same_bytes(peer):
    peer.fold(0)
    peer.settle(0, included=False)
    peer.fold(1)
    vectors, ledger, pending = peer.feedback.vectors, peer.feedback.ledger, peer.feedback.pending
    file = (peer.folder / FILE_NAME).read_bytes()
    peer.restart()
    assert all(map(torch.equal, peer.feedback.vectors, vectors))
    assert (peer.feedback.ledger, peer.feedback.pending) == (ledger, pending)
    assert peer.state(0) == "returned"
    assert (peer.folder / FILE_NAME).read_bytes() == file


def test_what_a_killed_process_left_half_written_goes_away(peer):
    peer.fold(0)
    half = peer.folder / f"{FILE_NAME}.123.tmp"
    half.write_bytes(b"half")
    peer.restart()
    assert not half.exists()
    assert peer.state(0) == "open"


def test_a_file_of_another_run_is_not_taken(peer, caplog):
    peer.fold(0)
    other = Peer(peer.folder, TINY.model_copy(update={"seed": 1}))
    assert not other.total.any()
    assert "another run" in caplog.text


def test_a_full_disk_changes_nothing(peer, monkeypatch):
    peer.fold(0)
    vectors, ledger = peer.total, dict(peer.feedback.ledger)

    def full(*_: object) -> None:
        raise StateError("SK-DSK-001", "no space left")

    with monkeypatch.context() as patch:
        patch.setattr("skerry.pipeline.snapshot.write_atomic", full)
        with pytest.raises(StateError):
            peer.fold(1)
    assert torch.equal(peer.total, vectors)
    assert (peer.feedback.ledger, peer.feedback.pending) == (ledger, 0)
    assert peer.fold(1).text_tokens == TOKENS


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
    manifest = TINY.model_copy(update={"codec": CodecSection(error_decay=0.5)})
    peer = Peer(tmp_path, manifest)
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
    peer.settle(0, included=False)
    before = peer.total
    peer.store.path(first.shards[0].address).unlink()
    second = peer.feedback.offer_again(parent(0))
    assert second.state == "open"
    assert peer.payloads.flaw(second.shards) == ""
    torch.testing.assert_close(peer.total + peer.sent(0), before)
