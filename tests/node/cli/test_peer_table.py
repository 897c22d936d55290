"""The peers on the screen: their states, the columns that fit, and who is shown of many."""

import io

import pytest
from moments import OTHER, in_training
from rich.console import Console

from skerry.node.cli.peer_table import peer_table
from skerry.proto import control_pb2 as pb


def rows(run: pb.RunStatus, width: int = 120, room: int | None = None) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(peer_table(run, width, room))
    return capture.get().splitlines()


def test_each_peer_has_a_line() -> None:
    _, _, mine, other = rows(in_training().run)
    assert mine.split()[:4] == ["MtimQ5", "this", "node", "training"]
    assert other.split()[:3] == ["2NASuq", "lost", "fetching"]
    assert "2.750" in other
    assert "1 min 15 s" in other


def test_who_is_waited_for_is_marked() -> None:
    run = in_training().run
    run.peers[1].alive = True
    run.round.waiting_for.append(OTHER)
    assert "awaited" in rows(run)[3]


@pytest.mark.parametrize(
    ("width", "missing"), [(80, []), (79, ["steps"]), (60, ["steps", "seen ago"])]
)
def test_columns_give_way_and_nothing_is_cut(width, missing) -> None:
    run = in_training().run
    run.peers[0].tokens_per_second = 1_234_567
    run.peers[0].phase = "collecting"
    heading, *lines = rows(run, width)
    for name in ("peer", "state", "round", "steps", "text tokens/s", "loss", "seen ago"):
        assert (name in heading) == (name not in missing)
    assert not any("…" in row for row in lines)


def test_where_not_all_fit_those_in_need_come_first() -> None:
    run = in_training().run
    run.peers.extend(pb.PeerStatus(peer_id=f"p{i}", alive=True, in_roster=True) for i in range(50))
    run.round.waiting_for.append("p30")
    lines = rows(run, room=7)
    assert len(lines) == 7
    assert [row.split()[0] for row in lines[2:]] == ["MtimQ5", "p30", "2NASuq", "p0", "48"]
    assert lines[-1].strip() == "48 more"


def test_all_are_shown_where_the_height_is_not_bounded() -> None:
    run = in_training().run
    run.peers.extend(pb.PeerStatus(peer_id=f"p{i}") for i in range(50))
    assert len(rows(run)) == 54
