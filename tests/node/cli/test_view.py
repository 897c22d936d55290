"""The screen: what it says of each moment, at any size, and what a peer cannot do to it."""

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import OTHER, START, in_training, line, moment_of, rounds
from rich.console import Console

from skerry.node.cli.moment import Moment
from skerry.node.cli.view import WIDE, Screen
from skerry.proto import control_pb2 as pb

TROUBLE = [
    line("peer-down", START + 1, peer=OTHER),
    line("peer-up", START + 13, peer=OTHER),
    line("view", START + 14, round=2, view=1, leader=OTHER, passed_over=None),
]


def drawn(moment: Moment, width: int = 120, height: int | None = None) -> str:
    console = Console(
        width=width,
        force_terminal=True,
        color_system=None,
        legacy_windows=False,
        file=io.StringIO(),
    )
    with console.capture() as capture:
        console.print(Screen(moment, height))
    return capture.get()


def test_screen_shows_the_run_and_its_figures() -> None:
    text = drawn(moment_of(in_training(), rounds(3), now=START + 32))
    for part in (
        "skerry · first · run abababab · node MtimQ5",
        "4 of 20 · about 2 min 48 s left · led by 2NASuq",
        "1,234,567 text tokens · 100 text tokens/s, goodput 25 %",
        "2.500 █▅▁ from 4.750",
        "2.625 █▅▁ from 4.500",
        "after round 3, first here 5.545, unigram entropy 3.125",
        "sent 150.0 kB of pseudo-gradients, dense fp32 12.0 MB (80x)",
        "sent messages 2.5 kB; received parameters 3.0 MB",
        "cdcdcdcdcdcd after round 3 · 1,000,000 parameters · 2 refused",
        "training 12/30",
        "round 2: 2 contributions, val loss 4.250, 1,000 text tokens",
    ):
        assert part in text


def test_failures_and_recoveries_stand_above_the_events() -> None:
    lines = drawn(moment_of(in_training(), rounds(1) + TROUBLE)).splitlines()
    texts = [row.split("  ", 1)[-1] for row in lines]
    begin = lines.index("failures and recoveries")
    assert texts[begin + 1] == "2NASuq fell silent; mended after 12 s"
    assert texts[begin + 2] == "nobody gave no commit; 2NASuq leads round 2 now"
    assert lines[begin + 3] == "events"


def test_nothing_that_failed_takes_no_room() -> None:
    assert "failures" not in drawn(moment_of(in_training(), rounds(1)))


def test_it_says_whom_the_round_waits_for_and_since_when() -> None:
    status = in_training()
    status.run.round.phase, status.run.round.phase_seconds = "collecting", 12.7
    assert "waiting for" not in drawn(moment_of(status))
    status.run.round.waiting_for.extend([OTHER, "the compute process"])
    assert "waiting for 2NASuq, the compute process (12 s)" in drawn(moment_of(status))


def test_progress_bar_grows_with_the_steps() -> None:
    filled = []
    for step in (0, 10, 30, 99):
        status = in_training()
        status.run.round.step = step
        filled.append(drawn(moment_of(status)).count("━"))
    assert filled[0] < filled[1] < filled[2] == filled[3]


def test_without_a_run_it_says_how_to_get_one() -> None:
    status = pb.StatusReply(peer_id="x", warning="disk almost full", page_url="http://h/")
    text = drawn(moment_of(status))
    assert "skerry join TOKEN" in text
    assert "warning: disk almost full" in text
    assert "page http://h/" in text


def test_paused_finished_and_stale_are_told() -> None:
    status = in_training()
    status.run.round.phase = "paused"
    assert "skerry resume trains again" in drawn(moment_of(status))
    status.run.finished = True
    text = drawn(moment_of(status))
    assert "finished: skerry export DIR writes the model" in text
    assert "training 12/30" not in text
    notice = "the daemon is not running"
    assert drawn(moment_of(status, notice=notice)).splitlines()[0] == notice


@pytest.mark.parametrize("height", [10, 24, 40, 60])
@pytest.mark.parametrize("width", [40, 60, 80, WIDE - 1, WIDE, 200])
def test_every_size_is_kept(width, height) -> None:
    status = in_training()
    status.page_url = "http://127.0.0.1:8787/"
    status.run.peers.extend(
        pb.PeerStatus(peer_id=f"12D3KooW{i:06}", alive=True) for i in range(198)
    )
    rows = drawn(moment_of(status, rounds(30) + TROUBLE), width, height).splitlines()
    assert all(len(row) <= width for row in rows)
    head = sum("│" in row or "─ skerry" in row for row in rows)
    assert len(rows) <= max(height, head + 12)
    if height >= 40:
        assert len(rows) <= height
        assert rows[-1].startswith("page http://127.0.0.1:8787/")
        assert width < 60 or any(re.search(r"[0-9]{3} more", row) for row in rows)


def test_newest_events_are_those_shown() -> None:
    text = drawn(moment_of(in_training(), rounds(60)), 80, 30)
    assert "round 60:" in text
    assert "round 1:" not in text


def test_wide_terminals_have_the_events_beside_the_peers() -> None:
    moment = moment_of(in_training(), rounds(3))
    assert drawn(moment, WIDE, 30).splitlines()[0].rstrip().endswith("events")
    assert drawn(moment, WIDE - 1, 30).splitlines()[0].endswith("╮")


def test_ascii_terminal_gets_ascii() -> None:
    console = Console(
        width=100, file=io.TextIOWrapper(io.BytesIO(), "ascii", errors="replace"), no_color=True
    )
    console.print(Screen(moment_of(in_training(), rounds(4))))
    console.file.flush()
    raw = console.file.buffer.getvalue().decode("ascii")
    assert "2.500 @*-_ from 4.750" in raw
    assert "\x1b" not in raw


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=64), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.floats())
def test_whatever_a_peer_says_is_drawn_without_its_escapes(text, step, steps, number) -> None:
    status = in_training()
    peer = status.run.peers.add(
        peer_id=text, phase=text, step=step, steps=steps, seen_seconds_ago=abs(number)
    )
    peer.loss = peer.tokens_per_second = number
    status.run.round.waiting_for.append(text)
    status.run.round.leader = status.run.name = status.warning = status.page_url = text
    status.run.received_bytes[text] = step
    assert "\x1b" not in drawn(moment_of(status, [line("refused", peer=text, reason=text)]))


def test_markup_of_a_peer_stays_text() -> None:
    status = in_training()
    status.run.peers[1].phase = "[bold]x"
    status.run.name = "[red]y"
    text = drawn(moment_of(status, [line("peer-left", peer="[blue]z")]))
    for part in ("[bold]x", "[red]y", "[blue]z"):
        assert part in text
