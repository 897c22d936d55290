"""Short texts of a status: nothing is claimed that is not known."""

import pytest
from moments import OTHER, SELF, in_training, moment_of, rounds

from skerry.node.cli.figures import Figures
from skerry.node.cli.sentences import (
    bytes_text,
    ending_text,
    idle_text,
    other_bytes_text,
    pace_text,
    peer_state,
    phase_text,
    round_text,
    seen_text,
    val_loss_text,
    waiting_text,
)
from skerry.proto import control_pb2 as pb

ROUND = pb.RoundStatus(round=4, waiting_for=[OTHER])


def test_finished_and_endless_runs_read_differently() -> None:
    run = in_training().run
    assert (round_text(run.round), phase_text(run)) == ("round 4 of 20", "training 12/30")
    run.round.rounds, run.round.view = 0, 2
    assert (round_text(run.round), phase_text(run)) == ("round 4", "training 12/30 (view 2)")
    run.finished = True
    assert phase_text(run) == "finished"


def test_a_node_that_opens_a_run_is_not_told_to_find_one() -> None:
    assert idle_text(pb.StatusReply(compute="none")).startswith("in no run: skerry init")
    assert idle_text(pb.StatusReply(compute="starting")).startswith("opening a run")


def test_of_many_that_are_waited_for_a_few_are_named() -> None:
    round_ = pb.RoundStatus(waiting_for=["a", "b", "c", "d", "e"], phase_seconds=3)
    assert waiting_text(round_) == "waiting for a, b, c and 2 more (3 s)"


@pytest.mark.parametrize(
    ("peer", "state"),
    [
        (pb.PeerStatus(peer_id=SELF, self=True), "this node"),
        (pb.PeerStatus(peer_id=OTHER, phase="training"), "lost"),
        (pb.PeerStatus(peer_id=OTHER, phase="training", standing="suspect"), "suspect"),
        (pb.PeerStatus(peer_id=OTHER, phase="training", standing="dead"), "lost"),
        (pb.PeerStatus(peer_id=OTHER, phase="loading", standing="dead", alive=True), "healing"),
        (pb.PeerStatus(peer_id=OTHER), "joining"),
        (pb.PeerStatus(peer_id=OTHER, phase="training", alive=True, removed=True), "removed"),
        (pb.PeerStatus(peer_id=OTHER, alive=True, phase="paused"), "paused"),
        (pb.PeerStatus(peer_id=OTHER, alive=True, in_roster=True, phase="training"), "awaited"),
        (pb.PeerStatus(peer_id="x", alive=True, in_roster=True, phase="training"), "alive"),
        (pb.PeerStatus(peer_id="x", alive=True, phase="observing"), "joining"),
        (pb.PeerStatus(peer_id="x", alive=True, phase="done"), "alive"),
    ],
)
def test_state_of_a_peer(peer, state) -> None:
    assert peer_state(peer, ROUND) == state


def test_pace_is_committed_text_tokens_and_their_share() -> None:
    run, figures = in_training().run, moment_of(in_training(), rounds(3)).figures
    run.peers[0].tokens_per_second = 400.0
    assert pace_text(run, figures) == "100 text tokens/s, goodput 25 %"
    assert pace_text(run, Figures()) == "400 text tokens/s while training"
    run.peers[0].tokens_per_second = 95.0
    assert pace_text(run, figures) == "100 text tokens/s, goodput 100 %"
    run.peers[0].tokens_per_second = 50.0  # another peer was here in those rounds
    assert pace_text(run, figures) == "100 text tokens/s"
    run.peers[0].tokens_per_second = 0.0
    assert pace_text(run, Figures()) == ""
    run.finished = True
    assert pace_text(run, figures) == ""


def test_ending_is_told_while_there_is_one_to_come() -> None:
    run, moment = in_training().run, moment_of(in_training(), rounds(3))
    assert ending_text(run, moment.figures, moment.now + 30) == "about 2 min 50 s left"
    run.finished = True
    assert ending_text(run, moment.figures, moment.now) == ""
    assert ending_text(in_training().run, Figures(), moment.now) == ""


def test_bytes_stand_beside_the_dense_exchange() -> None:
    run = in_training().run
    assert bytes_text(run) == "sent 150.0 kB of pseudo-gradients, dense fp32 12.0 MB (80x)"
    assert other_bytes_text(run) == "sent messages 2.5 kB; received parameters 3.0 MB"
    run.sent_bytes["ring"], run.received_bytes["shadow"] = 4_000_000, 500_000
    sent, received = other_bytes_text(run).split("; ")
    assert sent == "sent messages 2.5 kB, activations and gradients 4.0 MB"
    assert received == "received stage copies 500.0 kB, parameters 3.0 MB"
    assert bytes_text(pb.RunStatus()) == "no pseudo-gradients sent yet"
    assert other_bytes_text(pb.RunStatus()) == ""


def test_validation_loss_is_compared_with_what_is_known() -> None:
    assert val_loss_text(pb.RunStatus(), Figures()) == ""
    run, figures = in_training().run, Figures(val_round=3)
    assert val_loss_text(run, figures) == "after round 3, first here 5.545, unigram entropy 3.125"


def test_a_peer_that_was_never_heard_was_not_seen() -> None:
    assert seen_text(pb.PeerStatus(seen_seconds_ago=7)) == "-"
    assert seen_text(pb.PeerStatus(seen_seconds_ago=7, phase="training")) == "7 s"
    assert seen_text(pb.PeerStatus(self=True)) == "0 s"
