"""Peers leave, join late, fall silent for a while, are stopped in good order or killed."""

import signal

import psutil
import pytest
from swarm import PATIENCE_S, Peer, Swarm

pytestmark = pytest.mark.integration

ROUNDS = 8


def test_two_runs_without_faults_end_alike(swarm: Swarm, trio: list[Peer]) -> None:
    """Same manifest, same identities, nothing kept of the first run: same parameters."""
    ends = []
    for _ in range(2):
        swarm.begin(trio, rounds=4, name="alike", deadline_min="60s", deadline_max="60s")
        ends.append(swarm.finish(trio, rounds=4))
        for peer in trio:
            peer.client.leave()
            # Moved, not removed: the page may still be closing its history there.
            peer.home.runs.rename(peer.home.path / f"runs-{len(ends)}")
    assert ends[0].run_id == ends[1].run_id
    assert ends[0].state_digest == ends[1].state_digest
    assert ends[0].text_tokens == ends[1].text_tokens == 3 * 4 * 100 * 2 * 32


def test_others_do_not_wait_for_one_that_leaves(swarm: Swarm, trio: list[Peer]) -> None:
    """Nothing but the farewell can tell them in time: the deadline is far away."""
    swarm.begin(trio, ROUNDS, deadline_min="300s", deadline_max="300s")
    leaver = trio[2]
    leaver.wait_for("phase", phase="training", round=2)
    with leaver.frozen("compute"):  # its contribution is missing
        leaver.client.leave()
    rest = trio[:2]
    swarm.finish(rest, ROUNDS)
    assert not leaver.status().HasField("run")
    assert set(rest[0].chain(swarm.run_id)[-1].roster) == {peer.peer_id for peer in rest}


@pytest.mark.chaos
def test_nobody_waits_for_a_paused_peer_which_follows_and_comes_back(
    swarm: Swarm, trio: list[Peer]
) -> None:
    """Nothing but its heartbeats can tell the others in time: the deadline is far away."""
    swarm.begin(trio, rounds=0, deadline_min="300s", deadline_max="300s")
    first, _, paused = trio
    paused.wait_for("phase", phase="training", round=2)
    with paused.frozen("compute"):  # its contribution is missing
        paused.client.pause()
        first.wait_for("applied", round=3)
    followed = paused.wait_for("applied", round=4)
    assert followed["digest"] == first.wait_for("applied", round=4)["digest"]
    seen = {peer.peer_id: peer for peer in first.status().run.peers}[paused.peer_id]
    assert (seen.phase, seen.alive, seen.in_roster) == ("paused", True, False)
    mark = paused.mark()
    paused.client.resume()
    trained = paused.wait_for("trained", mark)
    first.wait_for("applied", round=trained["round"])
    commit = first.chain(swarm.run_id)[trained["round"]]
    assert paused.peer_id in {announce.signer for announce in commit.announces}


def test_late_joiner_downloads_the_state(swarm: Swarm, trio: list[Peer]) -> None:
    first, second, late = trio
    swarm.begin([first, second], rounds=0, replay=1)
    first.wait_for("applied", round=4)
    late.since = late.mark()
    late.client.join(swarm.token)
    downloaded = late.wait_for("state-downloaded")
    applied = late.wait_for("applied")
    trained = late.wait_for("trained")
    assert downloaded["bytes"] == 4 * late.status().run.params
    assert trained["round"] > applied["round"] > 4
    late.wait_for("applied", round=trained["round"])
    theirs = first.wait_for("applied", round=applied["round"])
    assert applied["digest"] == theirs["digest"]
    assert late.peer_id in {
        announce.signer
        for commit in first.chain(swarm.run_id)[trained["round"] :]
        for announce in commit.announces
    }


@pytest.mark.chaos
def test_frozen_daemon_catches_up(swarm: Swarm, trio: list[Peer]) -> None:
    swarm.begin(trio, rounds=12)
    frozen, *rest = trio  # the owner: nobody depends on it once the run has begun
    frozen.wait_for("applied", round=2)
    with frozen.frozen():
        for peer in rest:
            peer.wait_for("applied", round=7)
    swarm.finish(trio, rounds=12)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_daemon_leaves_no_process(
    swarm: Swarm, trio: list[Peer], number: signal.Signals
) -> None:
    swarm.begin(trio[:1], rounds=0)
    peer = trio[0]
    peer.wait_for("phase", phase="training", round=2)
    children = [psutil.Process(peer.pid_of(what)) for what in ("compute", "p2pd")]
    assert peer.terminate(number) == 0
    assert not any(child.is_running() for child in children)
    assert not peer.home.control_socket.exists()
    assert peer.recorded()[-1]["event"] == "stopped"


def test_killed_daemon_leaves_nothing_in_the_way(swarm: Swarm, trio: list[Peer]) -> None:
    """Twice, and with a compute process that cannot even notice: it is frozen."""
    peer = trio[0]
    swarm.begin([peer], rounds=0)
    for _ in range(2):
        reached = peer.wait_for("phase", peer.mark(), phase="training")["round"]
        children = [psutil.Process(peer.pid_of(what)) for what in ("compute", "p2pd")]
        with peer.frozen("compute"):
            peer.kill()
            _, alive = psutil.wait_procs(children, PATIENCE_S)
        assert not alive
        before = len(peer.recorded())
        peer.restart()
        peer.ready()
        assert peer.wait_for("trained", before)["round"] >= reached
