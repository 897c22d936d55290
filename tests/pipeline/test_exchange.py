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
        assert one.rejected == other.rejected == ()
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


def trained(manifest: Manifest, folder: Path) -> tuple[Pair, list[int]]:
    """Return a pair after all rounds and the bytes sent in each."""
    folder.mkdir()
    pair = Pair(manifest, folder)
    sent = [pair.exchange(number) for number in range(ROUNDS)]
    return pair, [sum(shard.size for one in round_ for shard in one.shards) for round_ in sent]


def choosing(manifest: Manifest, values: str, feedback: str) -> Manifest:
    codec = {"values": values, "feedback": feedback, "error_decay": 0.95}
    inner = {**manifest.inner.model_dump(), "steps": STEPS}
    return Manifest.model_validate({**manifest.model_dump(), "codec": codec, "inner": inner})


@pytest.mark.parametrize(("values", "feedback"), COMBINATIONS)
def test_peers_agree_and_learn(manifest, tmp_path, values, feedback):
    chosen = choosing(manifest, values, feedback)
    (tmp_path / "start").mkdir()
    before = Pair(chosen, tmp_path / "start").loss()
    pair, _ = trained(chosen, tmp_path / "run")
    assert pair.loss() < before - 0.3
    again, _ = trained(chosen, tmp_path / "again")
    assert again.digest == pair.digest


def test_each_choice_is_a_run_of_its_own(manifest, tmp_path):
    """A setting that changed nothing would give the same digest, or as many bytes, as another."""
    runs = {}
    for values, feedback in COMBINATIONS:
        chosen = choosing(manifest, values, feedback)
        runs[values, feedback] = trained(chosen, tmp_path / f"{values} {feedback}")
    assert len({pair.digest for pair, _ in runs.values()}) == len(COMBINATIONS)
    sizes = [sum(runs[values, "fp32"][1]) for values in ("sign", "sym2", "fp16")]
    assert sizes == sorted(set(sizes))
