"""The live view: what it says of each moment, at any width, and what a peer cannot do to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from skerry.node.cli.view import peer_state, plain_lines, render, summary_line
from skerry.proto import control_pb2 as pb

SELF = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"
OTHER = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"


def in_training() -> pb.StatusReply:
    run = pb.RunStatus(
        run_id="ab" * 32,
        name="first",
        state_digest="cd" * 32,
        digest_round=3,
        text_tokens=1_234_567,
        loss=2.5,
        val_loss=2.625,
        val_loss_start=5.545,
        unigram_entropy=3.125,
        params=1_000_000,
        payload_bytes_sent=150_000,
        dense_bytes=12_000_000,
        refused=2,
    )
    run.round.MergeFrom(pb.RoundStatus(round=4, rounds=20, phase="training", step=12, steps=30))
    run.peers.add(
        peer_id=SELF, self=True, alive=True, in_roster=True, phase="training", head_round=3
    )
    run.peers.add(peer_id=OTHER, phase="fetching", head_round=2, seen_seconds_ago=75.5, loss=2.75)
    reply = pb.StatusReply(peer_id=SELF, version="0.1.0", pid=7, home="/h", uptime_seconds=65)
    reply.run.CopyFrom(run)
    return reply


def drawn(status: pb.StatusReply, width: int = 120) -> str:
    console = Console(width=width, force_terminal=True, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(render(status))
    return capture.get()


def test_view_shows_the_run_and_its_figures() -> None:
    text = drawn(in_training())
    for part in (
        "first",
        "run abababab",
        "round 4 of 20",
        "1,234,567 text tokens",
        "loss 2.500",
        "val loss 2.625 (start 5.545, unigram entropy 3.125)",
        "sent 150.0 kB of pseudo-gradients, dense fp32 would be 12.0 MB (80x)",
        "state cdcdcdcdcdcd after round 3",
        "2 refused",
        "step 12/30",
    ):
        assert part in text


def test_view_has_a_line_for_each_peer() -> None:
    lines = drawn(in_training()).splitlines()
    mine = next(line for line in lines if line.startswith("MtimQ5"))
    other = next(line for line in lines if line.startswith("2NASuq"))
    assert "this node" in mine and "training" in mine
    assert "lost" in other and "fetching" in other and "1 min 15 s" in other
    assert "2.750" in other


def test_a_peer_that_came_back_after_the_last_round_is_not_joining() -> None:
    status = in_training()
    (peer,) = [peer for peer in status.run.peers if peer.peer_id == OTHER]
    peer.alive = True
    assert peer_state(peer).plain == "joining"
    peer.phase = "done"
    assert peer_state(peer).plain == "alive"
    peer.alive = False
    assert peer_state(peer).plain == "lost"


def test_view_names_whom_it_waits_for_and_since_when() -> None:
    status = in_training()
    status.run.round.phase = "collecting"
    status.run.round.phase_seconds = 12.7
    assert "waiting for" not in drawn(status)
    status.run.round.waiting_for.extend([OTHER, "the compute process"])
    expected = "waiting for 2NASuq, the compute process (12 s)"
    assert expected in drawn(status)
    assert expected in summary_line(status)
    assert expected in "\n".join(plain_lines(status))


def test_progress_bar_grows_with_the_steps() -> None:
    filled = []
    for step in (0, 10, 30, 99):
        status = in_training()
        status.run.round.step = step
        filled.append(drawn(status).count("━"))
    assert filled[1] < filled[2]
    assert filled[0] < filled[1]
    assert filled[2] == filled[3]


def test_peers_fit_on_a_narrow_terminal() -> None:
    status = in_training()
    status.run.peers[0].tokens_per_second = 1_234_567
    assert "…" not in drawn(status, 80)


def test_without_a_run_it_says_how_to_get_one() -> None:
    status = pb.StatusReply(peer_id=SELF, warning="disk almost full")
    assert "skerry join TOKEN" in drawn(status)
    assert "disk almost full" in drawn(status)
    assert summary_line(status) == "in no run"
    assert list(plain_lines(status))[2:] == ["in no run", "warning: disk almost full"]


def test_address_of_the_page_is_shown_if_there_is_one() -> None:
    status = in_training()
    assert "page" not in drawn(status)
    status.page_url = "http://127.0.0.1:8787/"
    assert "page http://127.0.0.1:8787/" in drawn(status)
    assert "page http://127.0.0.1:8787/" in list(plain_lines(status))


def test_finished_and_endless_runs_read_differently() -> None:
    status = in_training()
    assert "round 4 of 20 · training 12/30" in summary_line(status)
    status.run.round.rounds = 0
    status.run.round.view = 2
    assert "round 4 · training 12/30 (view 2)" in summary_line(status)
    status.run.finished = True
    assert "round 4 · finished" in summary_line(status)


def test_summary_counts_the_living() -> None:
    assert "1 of 2 peers alive" in summary_line(in_training())


def test_plain_lines_hold_the_whole_digest_and_no_control_characters() -> None:
    lines = list(plain_lines(in_training()))
    assert f"state after round 3: {'cd' * 32}" in lines
    assert sum(line.startswith("peer ") for line in lines) == 2
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_any_width_is_drawn(width) -> None:
    assert all(len(line) <= width for line in drawn(in_training(), width).splitlines())


@given(st.text(max_size=64), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.floats())
def test_whatever_a_peer_says_is_drawn_without_its_escapes(text, step, steps, number) -> None:
    status = in_training()
    peer = status.run.peers.add(
        peer_id=text, phase=text, step=step, steps=steps, seen_seconds_ago=abs(number)
    )
    peer.loss = peer.tokens_per_second = number
    status.run.round.waiting_for.append(text)
    status.run.name = status.warning = text
    assert "\x1b" not in drawn(status)
    assert all(line.isprintable() for line in plain_lines(status))
    assert summary_line(status).isprintable()


def test_markup_of_a_peer_stays_text() -> None:
    status = in_training()
    status.run.peers[1].phase = "[bold]x"
    status.run.name = "[red]y"
    assert "[bold]x" in drawn(status)
    assert "[red]y" in drawn(status)
