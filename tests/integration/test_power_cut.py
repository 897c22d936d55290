"""Faults of whole machines: everyone's power, one disk, one peer that is too slow."""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_disk import fill, mount, unmount
from swarm import Event, Peer, Swarm

from skerry.node.run.store import RunStore
from skerry.protocol.blobs import BlobStore
from skerry.protocol.ids import RunId

pytestmark = pytest.mark.integration

ROUNDS = 8
_STEP_TOKENS = 2 * 32
"""Text tokens of an inner step: batch size times context."""


@pytest.mark.chaos
@pytest.mark.parametrize("damaged", [False, True])
def test_power_cut_of_everyone(swarm: Swarm, trio: list[Peer], damaged: bool) -> None:
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
        if damaged:
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
        assert any("SK-DSK-002" in text for text in warnings) == damaged
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
