"""What the demo of rings must have shown; real daemons in a ring are in tests/chaos."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from skerry.node.demo_hetero import (
    HeteroOptions,
    HeteroReport,
    HopBytes,
    counted,
    expected,
    failures,
    figures,
    run_hetero,
)
from skerry.node.demo_hosts import HostReport
from skerry.node.demo_report import run_file
from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import ConfigError
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import parse_run_file

SHARDS = {"embed": "e" * 64, "block.0": "0" * 64, "block.1": "1" * 64, "head": "a" * 64}


def host(name: str, *shards: str, role: str = "stage") -> HostReport:
    held = {shard: SHARDS[shard] for shard in shards}
    return HostReport(name, f"12D3KooW{name}", role, held, 10, 1000)


REPORT = HeteroReport(
    hosts=(
        host("replica", *SHARDS, role="replica"),
        host("ring-1", "embed", "head"),
        host("ring-2", "block.0"),
        host("ring-3", "block.1"),
    ),
    rounds=10,
    text_tokens=10**6,
    params=800_000,
    val_loss_start=5.5,
    val_loss_end=2.5,
    unigram_entropy=3.2,
    hop_bytes=HopBytes(131.5, 131.4, 2.5),
    hop_bytes_expected=HopBytes(130.1, 130.1, 0.0),
    hop_bytes_dense=256.0,
    seconds=120.0,
)


def with_host(number: int, **changes) -> HeteroReport:
    hosts = list(REPORT.hosts)
    hosts[number] = replace(hosts[number], **changes)
    return replace(REPORT, hosts=tuple(hosts))


def test_a_demo_that_showed_everything_has_no_failure():
    assert failures(REPORT) == []
    written = json.loads(REPORT.to_json())
    assert written["failures"] == []
    assert written["hop_bytes"] == {"forward": 131.5, "backward": 131.4, "control": 2.5}
    assert written["hop_bytes_expected"]["forward"] == 130.1


def test_bytes_of_a_hop_are_those_that_all_members_counted_by_the_tokens_they_passed_on():
    members = [
        pb.RunStatus(
            ring_sent_bytes={"forward": 2000, "backward": 1000, "control": 30}, ring_text_tokens=20
        ),
        pb.RunStatus(
            ring_sent_bytes={"forward": 4000, "backward": 2000, "control": 30}, ring_text_tokens=40
        ),
        pb.RunStatus(),  # the replica is in no ring
    ]
    assert counted(members) == HopBytes(100.0, 50.0, 1.0)
    assert counted([pb.RunStatus()]) == HopBytes(0.0, 0.0, 0.0)


def test_bytes_to_expect_are_those_of_the_payloads():
    manifest = parse_run_file(run_file(rounds=10, peers=4), PeerId("12D3KooWowner"))
    hop = expected(manifest)
    # Of d_model 128: a row of int8 and its scale, and 8 bytes before the 128 rows of a sequence.
    assert hop == HopBytes(forward=130 + 8 / 128, backward=130 + 8 / 128, control=0.0)


def test_measured_bytes_stand_above_those_to_compare(capsys):
    console = Console(width=120)
    console.print(figures(REPORT))
    printed = " ".join(capsys.readouterr().out.split())
    assert "131.5 bytes per text token forward, 131.4 backward, 2.5 control, counted" in printed
    assert "130.1 and 130.1 of payload, by the run's file; 256 each way as dense bf16" in printed


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (with_host(1, role="replica"), "roles are"),
        (with_host(2, role=""), "roles are none"),
        (with_host(2, digest_round=9), "different rounds"),
        (with_host(3, shards={"block.1": "f" * 64}), "the hosts of block.1 do not agree"),
        (with_host(3, shards=SHARDS), "holds the whole model"),
        (with_host(1, bytes_sent=0), "ring-1 sent nothing"),
        (replace(REPORT, hop_bytes=HopBytes(0.0, 0.0, 0.0)), "nothing was counted"),
        (replace(REPORT, val_loss_end=3.0), "validation loss 3.000"),
        (replace(REPORT, val_loss_end=0.0), "validation loss 0.000"),
        (replace(REPORT, left_behind=("17 skerry",)), "left behind: 17 skerry"),
    ],
)
def test_what_was_not_shown_is_named(report, why):
    assert any(why in failure for failure in failures(report))


def test_too_few_rounds_are_refused_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError):
        run_hetero(HeteroOptions(rounds=1, keep=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_written_is_refused_before_anything_starts(tmp_path):
    (tmp_path / "kept" / "replica").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds an earlier demo"):
        run_hetero(HeteroOptions(keep=tmp_path / "kept"))
    with pytest.raises(ConfigError, match="there is no such folder"):
        run_hetero(HeteroOptions(json_file=tmp_path / "no" / "out.json"))
