"""Faults of whole machines: everyone's power, one disk, one peer that is too slow."""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import forgetful_disk
import psutil
import pytest
from forgetful_disk import cut
from small_disk import fill, mount, unmount
from swarm import Event, Peer, Swarm

from skerry.node.demo_swarm import LocalSwarm
from skerry.node.home import Home
from skerry.node.run.store import RunStore
from skerry.protocol.blobs import BlobStore
from skerry.protocol.ids import RunId
from skerry.protocol.layout import state_digest
from skerry.protocol.messages import Commit

pytestmark = pytest.mark.integration

ROUNDS = 8
_STEP_TOKENS = 2 * 32
"""Text tokens of an inner step: batch size times context."""


@pytest.mark.chaos
def test_power_cut_of_everyone(swarm: Swarm, trio: list[Peer]) -> None:
    """All go on where they were; what is damaged on every disk is refused, and made again.

    With their moments: who has applied a round after one that it trained has kept them.
    """
    swarm.begin(trio, ROUNDS)
    trio[0].wait_for("phase", phase="training", round=4)
    for peer in trio:
        peer.kill()
    chains = [peer.chain(swarm.run_id) for peer in trio]
    marks = [len(peer.recorded()) for peer in trio]
    for peer in trio:
        _damage(peer, swarm.run_id)
        peer.restart()
    for peer in trio:
        peer.ready()
    # Where the first state is damaged it begins with the run's own, which nobody has applied.
    at_first = trio[0].wait_until(lambda run: run.digest_round > 0, "told where it stands")
    swarm.finish(trio, ROUNDS)

    digests: dict[int, set[str]] = defaultdict(set)
    have_kept: list[bool] = []
    for peer, chain, mark in zip(trio, chains, marks, strict=True):
        before, after = peer.recorded()[peer.since : mark], peer.recorded()[mark:]
        for event in _named("applied", before + after):
            digests[event["round"]].add(event["digest"])
        assert peer.chain(swarm.run_id)[: len(chain)] == chain
        trained = [event["round"] for event in _named("trained", after)]
        assert trained
        assert min(trained) > chain[-1].round
        warnings = [event["text"] for event in _named("warning", after)]
        assert any("SK-DSK-002" in text for text in warnings)
        assert not _named("compute-failed", after)
        if has_kept := _has_kept_moments(before):
            first = _named("moments", after)[0]
            assert (first["taken"], first["source"]) == (True, "own disk")
        have_kept.append(has_kept)
    assert any(have_kept)
    assert all(len(found) == 1 for found in digests.values()), digests
    assert {at_first.state_digest} == digests[at_first.digest_round]


def _damage(peer: Peer, run_id: str) -> None:
    """Alter a byte of the state that a restart begins from, and cut the newest one short."""
    home = peer.home.run(RunId(run_id))
    *_, before, newest = RunStore(home).load_states()
    altered, torn = (BlobStore(home.blobs).path(x.shards[0].address) for x in (before, newest))
    data = bytearray(altered.read_bytes())
    data[len(data) // 2] ^= 1
    altered.write_bytes(data)
    os.truncate(torn, torn.stat().st_size // 2)


def _has_kept_moments(events: list[Event]) -> bool:
    """Say whether a contribution was encoded, and the compute process asked for more since."""
    trained = min((event["round"] for event in _named("trained", events)), default=None)
    applied = max((event["round"] for event in _named("applied", events)), default=0)
    return trained is not None and applied > trained


def _named(name: str, events: list[Event]) -> list[Event]:
    return [event for event in events if event["event"] == name]


class ForgetfulSwarm(LocalSwarm):
    """Notes what the daemons and their compute processes sync of their runs."""

    def command(self, name: str, home: Home) -> list[str]:
        path = os.pathsep.join((*_NOTING, os.environ.get("PYTHONPATH", "")))
        noted = {"PYTHONPATH": path, "FORGETFUL_ROOT": home.runs, "FORGETFUL_KEPT": _kept(home)}
        return ["env", *(f"{k}={v}" for k, v in noted.items()), *super().command(name, home)]


_NOTING = str(Path(__file__).parent / "forgetful"), str(Path(forgetful_disk.__file__).parent)


def _kept(home: Home) -> Path:
    return home.path.with_name(f"{home.path.name}.synced")


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Swarm]:
    with Swarm(tmp_path, ForgetfulSwarm(tmp_path)) as swarm:
        yield swarm
        left = swarm.stop()
    assert not left, f"left behind: {left}"


def _power_cut(peers: list[Peer]) -> None:
    children = [child for peer in peers for child in peer.children.values()]
    for peer in peers:
        peer.kill()
    psutil.wait_procs(children)  # they write until they notice


@pytest.mark.chaos
def test_what_was_synced_is_enough(forgetful: Swarm) -> None:
    """All go on from the newest commit that is on any disk, with the parameters after it."""
    trio = forgetful.start("a", "b", "c")
    forgetful.begin(trio, ROUNDS)
    trio[0].wait_for("phase", phase="training", round=4)
    _power_cut(trio)
    for peer in trio:
        cut(peer.home.runs, _kept(peer.home))
    kept = max((peer.chain(forgetful.run_id) for peer in trio), key=len)
    marks = [len(peer.recorded()) for peer in trio]
    assert kept[-1].round >= 2
    chain = _go_on(forgetful, trio)

    assert chain[: len(kept)] == kept
    digests = set()
    for peer, mark in zip(trio, marks, strict=True):
        before, after = peer.recorded()[:mark], peer.recorded()[mark:]
        applied = _named("applied", before + after)
        digests |= {event["digest"] for event in applied if event["round"] == kept[-1].round}
        assert min(event["round"] for event in _named("trained", after)) > kept[-1].round
        assert not any("SK-DSK" in event["text"] for event in _named("warning", after))
        assert not _named("compute-failed", after)
    assert digests == {state_digest(chain[len(kept)].state)}


@pytest.mark.chaos
def test_chains_shorter_than_what_is_kept(swarm: Swarm, trio: list[Peer]) -> None:
    """Every disk has lost the end of the chain: they go on from the state where it ends."""
    swarm.begin(trio, ROUNDS)
    trio[0].wait_for("phase", phase="training", round=5)
    _power_cut(trio)
    chain = max((peer.chain(swarm.run_id) for peer in trio), key=len)
    homes = [peer.home.run(RunId(swarm.run_id)) for peer in trio]
    oldest = {RunStore(home).load_states()[0].after for home in homes}
    end = max(commit.round for commit in chain if commit.parent in oldest)
    for home in homes:
        _shorten(home.chain_file, end)
    for peer in trio:
        assert [commit.round for commit in peer.chain(swarm.run_id)] == list(range(end))
    named = chain[end].state
    again = _go_on(swarm, trio)

    assert again[:end] == chain[:end]
    assert again[end].state == named
    for peer in trio:
        steps = sum(e["steps"] for e in _named("trained", peer.recorded()[peer.since :]))
        own = [a for commit in again for a in commit.announces if a.signer == peer.peer_id]
        assert 0 < sum(a.message.text_tokens for a in own) <= steps * _STEP_TOKENS


def _shorten(path: Path, commits: int) -> None:
    """Leave so many commits of a chain's file."""
    data, end = path.read_bytes(), 0
    for _ in range(commits):
        end += 4 + int.from_bytes(data[end : end + 4], "big")
    os.truncate(path, end)


def _go_on(swarm: Swarm, peers: list[Peer]) -> list[Commit]:
    """Start all again; return the chain in the end."""
    for peer in peers:
        peer.restart()
    for peer in peers:
        peer.ready()
    swarm.finish(peers, ROUNDS)
    return peers[0].chain(swarm.run_id)


@pytest.mark.chaos
def test_text_tokens_of_a_slow_peer_are_carried(swarm: Swarm, trio: list[Peer]) -> None:
    """The chain counts each text token once, those of a round that it missed with the next."""
    swarm.begin(trio, ROUNDS)
    slow = next(peer for peer in trio if peer is not swarm.leader(3, trio))
    other = next(peer for peer in trio if peer is not slow)
    slow.wait_for("phase", phase="training", round=3)
    with slow.frozen("compute"):
        other.wait_for("applied", round=3)
    end = swarm.finish(trio, ROUNDS)
    chain = slow.chain(swarm.run_id)
    included = [announce for commit in chain for announce in commit.announces]
    assert chain[-1].weight == end.text_tokens
    assert chain[-1].weight == sum(announce.message.text_tokens for announce in included)

    assert slow.peer_id not in {announce.signer for announce in chain[3].announces}
    steps = sum(e["steps"] for e in slow.recorded()[slow.since :] if e["event"] == "trained")
    own = [announce.message for announce in included if announce.signer == slow.peer_id]
    assert sum(announce.text_tokens for announce in own) == steps * _STEP_TOKENS
    assert sum(announce.round_tokens for announce in own) < steps * _STEP_TOKENS


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    if missing := mount(folder, "8m"):
        pytest.skip(f"no small disk can be mounted here: {missing}")
    try:
        yield
    finally:
        unmount(folder)


@pytest.mark.chaos
def test_full_disk(swarm: Swarm, trio: list[Peer]) -> None:
    """The peer says so and stays out; with room again it goes on and ends like the others."""
    with _small_disk(swarm.folder / "small"):
        (small,) = swarm.start("small")
        try:
            _fills_up(swarm, small, trio[:2])
        finally:
            small.terminate()
            swarm.peers.remove(small)


def _fills_up(swarm: Swarm, small: Peer, rest: list[Peer]) -> None:
    ballast = small.home.path / "ballast"
    swarm.begin([*rest, small], ROUNDS)
    small.wait_for("applied", round=2)
    fill(ballast)
    small.wait_until(lambda run: "SK-DSK-001" in small.status().warning, "complaining")
    swarm.finish(rest, ROUNDS)
    assert small.daemon.running
    ballast.unlink()
    swarm.finish([small, *rest], ROUNDS)
