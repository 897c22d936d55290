"""Two peers through three rounds, with every way to send values and to keep what was not sent."""

from pathlib import Path

import pytest

from skerry.pipeline.engine import Engine
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import Apply, Begin, Contribution, Encode, Evaluate, Train
from skerry.protocol.ids import CommitHash, Digest, PeerId, content_hash
from skerry.protocol.manifest import Manifest

NAMES = (PeerId("12D3KooWalice"), PeerId("12D3KooWbob"))
ROUNDS, STEPS = 3, 8
COMBINATIONS = [(v, f) for v in ("sign", "sym2", "fp16") for f in ("fp32", "bf16")]


class Pair:
    """Two engines that share a blob store and apply each other's contributions."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        store = BlobStore(folder / "blobs")
        self.engines = []
        for name in NAMES:
            (folder / name).mkdir()
            self.engines.append(Engine(manifest, store, folder / name, name))
        for engine in self.engines:
            engine.begin(Begin(request=1, shards=None))

    def exchange(self, number: int) -> tuple[Contribution, ...]:
        """Train a round and apply it on both; they must agree. Returns what was sent."""
        sent = tuple(
            contribution(engine, name, number, slot)
            for slot, (engine, name) in enumerate(zip(self.engines, NAMES, strict=True))
        )
        apply = Apply(request=2, round=number, contributions=sent)
        one, other = (engine.apply(apply) for engine in self.engines)
        assert one.judgements == other.judgements == ()
        assert one.digest == other.digest
        self.digest: Digest = one.digest
        return sent

    def loss(self) -> float:
        one, other = (engine.evaluate(Evaluate(request=3)).loss for engine in self.engines)
        assert one == other
        return one


def contribution(engine: Engine, author: PeerId, number: int, slot: int) -> Contribution:
    parent = CommitHash(content_hash(f"commit {number}".encode()))
    training = Train(
        request=4,
        round=number + 1,
        parent=parent,
        cursor=number * 2 * STEPS,
        slot=slot,
        num_slots=2,
        steps=STEPS,
    )
    engine.train(training, lambda progress: True)
    encoded = engine.encode(Encode(request=5, parent=parent, send=True))
    return Contribution(author, encoded.round_tokens, encoded.shards)


def trained(manifest: Manifest, folder: Path, rounds: int = ROUNDS) -> Pair:
    folder.mkdir()
    pair = Pair(manifest, folder)
    for number in range(rounds):
        pair.exchange(number)
    return pair


def choosing(manifest: Manifest, values: str, feedback: str) -> Manifest:
    codec = {"values": values, "feedback": feedback, "error_decay": 0.95}
    inner = {**manifest.inner.model_dump(), "steps": STEPS}
    return Manifest.model_validate({**manifest.model_dump(), "codec": codec, "inner": inner})


@pytest.mark.parametrize(("values", "feedback"), COMBINATIONS)
def test_peers_agree_and_learn(manifest, tmp_path, values, feedback):
    pair = Pair(choosing(manifest, values, feedback), tmp_path)
    before = pair.loss()
    for number in range(ROUNDS):
        pair.exchange(number)
    assert pair.loss() < before - 0.3


def test_repeated_run_of_the_same_peers_gives_the_same_digest(manifest, tmp_path):
    chosen = choosing(manifest, "sign", "bf16")
    digests = {trained(chosen, tmp_path / name).digest for name in ("one", "again")}
    assert len(digests) == 1


def test_each_choice_is_a_run_of_its_own(manifest, tmp_path):
    """A setting that changed nothing would give the same digest as another."""
    digests = {
        trained(choosing(manifest, *choice), tmp_path / "-".join(choice), rounds=2).digest
        for choice in COMBINATIONS
    }
    assert len(digests) == len(COMBINATIONS)


def test_more_bits_a_value_are_more_bytes(manifest, tmp_path):
    sizes = []
    for values in ("sign", "sym2", "fp16"):
        (tmp_path / values).mkdir()
        sent = Pair(choosing(manifest, values, "fp32"), tmp_path / values).exchange(0)
        sizes.append(sum(shard.size for one in sent for shard in one.shards))
    assert sizes == sorted(set(sizes))
