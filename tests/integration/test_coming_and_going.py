"""Peers leave, join late, fall silent for a while, are stopped in good order or killed."""

import signal

import psutil
import pytest
from swarm import PATIENCE_S, UNHURRIED, Peer, Swarm

from skerry.proto import control_pb2 as pb

pytestmark = pytest.mark.integration

ROUNDS = 8


def test_two_runs_without_faults_end_alike(swarm: Swarm, trio: list[Peer]) -> None:
    """Same manifest, same identities, nothing kept of the first run: same parameters."""
    for peer in trio:  # to whom a busy machine must not make another look dead
        peer.wait_for("reloaded", peer.configure('[heartbeat]\ninterval = "5s"\n'))
    ends = []
    for _ in range(2):
        swarm.begin(trio, rounds=4, name="alike", **UNHURRIED)
        ends.append(swarm.finish(trio, rounds=4))
        for peer in trio:
            peer.client.leave()
            # Moved, not removed: the page may still be closing its history there.
            peer.home.runs.rename(peer.home.path / f"runs-{len(ends)}")
    for peer in trio:
        peer.wait_for("reloaded", peer.configure())
    assert ends[0].run_id == ends[1].run_id
    assert ends[0].state_digest == ends[1].state_digest
    assert ends[0].text_tokens == ends[1].text_tokens == 3 * 4 * 100 * 2 * 32


def test_others_do_not_wait_for_one_that_leaves(swarm: Swarm, trio: list[Peer]) -> None:
    """Nothing but the farewell can tell them in time: the deadline is far away."""
    swarm.begin(trio, ROUNDS, **UNHURRIED)
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
    swarm.begin(trio, rounds=0, **UNHURRIED)
    first, _, paused = trio
    with swarm.held_in_training(lambda number: paused, 2, 9) as number:
        paused.client.pause()  # its contribution is missing
        first.wait_for("applied", round=number + 1)
        mark = paused.mark()
    followed = paused.wait_for("applied", mark)  # by replay, or the state was downloaded
    theirs = first.wait_for("applied", round=followed["round"])
    assert followed["digest"] == theirs["digest"]

    def rests(run: pb.RunStatus) -> bool:
        seen = {peer.peer_id: peer for peer in run.peers}[paused.peer_id]
        return (seen.phase, seen.alive, seen.in_roster) == ("paused", True, False)

    first.wait_until(rests, "seeing that the other is paused")
    mark = paused.mark()
    paused.client.resume()
    paused.wait_for("trained", mark)

    def includes(run: pb.RunStatus) -> bool:
        commits = first.chain(swarm.run_id)[number + 1 :]
        return any(a.signer == paused.peer_id for commit in commits for a in commit.announces)

    first.wait_until(includes, "including what it trained")


def test_late_joiner_downloads_the_state(swarm: Swarm, trio: list[Peer]) -> None:
    first, second, late = trio
    swarm.begin([first, second], rounds=0, replay=1, **UNHURRIED)
    first.wait_for("applied", round=4)
    late.since = late.mark()
    late.client.join(swarm.token)
    downloaded = late.wait_for("state-downloaded")
    applied = late.wait_for("applied")
    trained = late.wait_for("trained")
    assert downloaded["bytes"] == 4 * late.status().run.params
    assert trained["round"] > applied["round"] >= 4
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
    assert psutil.wait_procs(children, PATIENCE_S)[1] == []
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
