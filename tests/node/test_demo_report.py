import json
from dataclasses import replace

import pytest
from rich.console import Console

from skerry.node.demo_report import (
    LOSS_MARGIN_NATS,
    MIN_ROUNDS,
    DemoReport,
    PeerReport,
    Timetable,
    failures,
    figures,
    roll,
    run_file,
)
from skerry.protocol.ids import PeerId
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import parse_run_file

DIGEST = "ab" * 32


def peer(name: str, **changes: object) -> PeerReport:
    base = PeerReport(
        peer_id=f"12D3KooW{name}",
        name=name,
        digest=DIGEST,
        digest_round=10,
        bytes_sent=1000,
        dense_bytes=200_000,
        state_bytes_received=0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def report(**changes: object) -> DemoReport:
    late = peer("peer-4", joined_late=True, state_bytes_received=5_000_000, bytes_sent=400)
    base = DemoReport(
        rounds=10,
        peers=(
            peer("peer-1"),
            peer("peer-2"),
            peer("peer-3", killed=True, digest="cd" * 32, digest_round=5),
            late,
        ),
        params=800_000,
        text_tokens=900_000,
        val_loss_start=5.6,
        val_loss_end=2.5,
        unigram_entropy=3.2,
        export_dir="/tmp/model",
        sample="def f():",
        seconds=100.0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def changed(position: int, **changes: object) -> DemoReport:
    """The good report with one peer changed."""
    peers = list(report().peers)
    peers[position] = replace(peers[position], **changes)  # type: ignore[arg-type]
    return report(peers=tuple(peers))


def test_run_file_is_a_manifest_of_about_a_million_parameters() -> None:
    manifest = parse_run_file(run_file(rounds=10, peers=3), PeerId("owner"))
    assert (manifest.rounds, manifest.peers.min, manifest.data.source) == (10, 3, "stdlib")
    assert 8e5 <= sum(shard.numel for shard in layout_of(manifest.model)) <= 1e6
    assert manifest.rounds % manifest.data.validation_every == 0


@pytest.mark.parametrize("rounds", range(MIN_ROUNDS, 30))
def test_timetable_leaves_rounds_before_and_after_each_disturbance(rounds: int) -> None:
    timetable = Timetable(rounds)
    assert 2 <= timetable.kill_round < timetable.join_round <= rounds - 2


def test_good_report_has_no_failures() -> None:
    assert failures(report()) == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (changed(1, digest="cd" * 32), "digests differ"),
        (changed(1, digest_round=9), "digests differ"),
        (changed(0, digest=""), "digests differ"),
        (changed(3, digest="ef" * 32), "digests differ"),
        (changed(2, killed=False, digest=DIGEST, digest_round=10), "no peer was killed"),
        (changed(3, joined_late=False), "no peer joined"),
        (changed(3, state_bytes_received=0), "downloaded no state"),
        (changed(3, bytes_sent=0), "contributed to no round"),
        (report(val_loss_end=3.2 - LOSS_MARGIN_NATS + 0.001), "validation loss"),
        (report(val_loss_end=0.0), "validation loss"),
        (report(val_loss_end=float("nan")), "validation loss"),
        (report(left_behind=("42 p2pd",)), "left behind: 42 p2pd"),
        (report(peers=()), "digests differ"),
    ],
)
def test_each_shortcoming_is_named(bad: DemoReport, words: str) -> None:
    assert any(words in text for text in failures(bad))


def test_loss_at_the_margin_passes() -> None:
    assert failures(report(val_loss_end=3.2 - LOSS_MARGIN_NATS)) == []


def test_killed_peer_need_not_have_the_final_digest() -> None:
    assert changed(2, digest="", digest_round=0).living == report().living
    assert failures(changed(2, digest="", digest_round=0)) == []


def test_json_holds_what_is_promised() -> None:
    data = json.loads(report().to_json())
    assert data["rounds"] == 10
    assert [entry["digest"] for entry in data["peers"] if not entry["killed"]] == [DIGEST] * 3
    assert data["killed_peer"] == "12D3KooWpeer-3"
    assert data["joined_late_peer"] == "12D3KooWpeer-4"
    assert data["bytes_sent_per_peer"] == 800  # of the three living peers
    assert data["dense_bytes_per_peer"] == 200_000
    assert data["failures"] == []
    assert {
        "val_loss_start",
        "val_loss_end",
        "unigram_entropy",
        "export_dir",
        "sample",
        "seconds",
        "text_tokens",
    } <= data.keys()


def test_json_of_a_swarm_without_disturbances_names_nobody() -> None:
    data = json.loads(report(peers=(peer("peer-1"),)).to_json())
    assert data["killed_peer"] is None
    assert data["joined_late_peer"] is None


def test_tables_show_figures_and_fates() -> None:
    console = Console(record=True, width=120)
    console.print(figures(report()), roll(report()))
    text = console.export_text()
    assert "5.600 -> 2.500" in text
    assert "3.200" in text
    assert "(250x less)" in text
    assert text.count(DIGEST[:16]) == 3
    assert "killed" in text
    assert "joined mid-run" in text


def test_table_without_traffic_has_no_ratio() -> None:
    console = Console(record=True, width=120)
    console.print(figures(report(peers=(peer("peer-1", bytes_sent=0),))))
    assert "less" not in console.export_text()
