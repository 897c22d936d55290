"""A status as lines: everything is there, and nothing that steers a terminal."""

from hypothesis import given, settings
from hypothesis import strategies as st
from moments import OTHER, START, in_training, line, moment_of, rounds

from skerry.node.cli.plain import plain_lines, summary_line
from skerry.proto import control_pb2 as pb


def test_lines_hold_the_node_the_run_and_each_peer() -> None:
    status = in_training()
    status.page_url = "http://127.0.0.1:8787/"
    lines = list(plain_lines(moment_of(status, rounds(3))))
    assert lines[0] == "node MtimQ5 · skerry 0.1.0 · pid 7"
    assert "page http://127.0.0.1:8787/" in lines
    assert "100 text tokens/s, goodput 25 %" in lines
    assert f"state after round 3: {'cd' * 32}" in lines
    assert [text.split(" · ")[:2] for text in lines if text.startswith("peer ")] == [
        ["peer MtimQ5", "this node"],
        ["peer 2NASuq", "lost"],
    ]


def test_failures_come_last_with_their_severity() -> None:
    lines = list(plain_lines(moment_of(in_training(), [line("peer-down", START, peer=OTHER)])))
    assert lines[-1].startswith("error ")
    assert lines[-1].endswith("  2NASuq fell silent")


def test_without_a_run_it_says_how_to_get_one() -> None:
    moment = moment_of(pb.StatusReply(warning="disk almost full"))
    assert summary_line(moment) == "in no run"
    assert list(plain_lines(moment))[2:] == [
        "in no run: skerry init RUN.toml starts one, skerry join TOKEN joins one",
        "warning: disk almost full",
    ]


def test_summary_counts_the_living_and_names_whom_it_waits_for() -> None:
    status = in_training()
    status.run.round.waiting_for.append(OTHER)
    assert summary_line(moment_of(status, rounds(3), now=START + 30)) == (
        "round 4 of 20 · training 12/30 · loss 2.500"
        " · val loss 2.625 (after round 3, first here 5.545, unigram entropy 3.125)"
        " · 1,234,567 text tokens · 1 of 2 peers alive · about 2 min 50 s left"
        " · waiting for 2NASuq (0 s)"
    )


@settings(deadline=None)
@given(st.text(max_size=64), st.floats())
def test_whatever_a_peer_says_is_printable(text, number) -> None:
    status = in_training()
    status.run.peers.add(peer_id=text, phase=text, loss=number, seen_seconds_ago=abs(number))
    status.run.round.waiting_for.append(text)
    status.run.name = status.warning = status.page_url = status.home = text
    moment = moment_of(status, [line("refused", peer=text, reason=text)])
    assert all(text.isprintable() for text in plain_lines(moment))
    assert summary_line(moment).isprintable()
