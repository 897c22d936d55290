"""What the demo of rings must have shown; the real daemons are in tests/integration."""

import json
from dataclasses import replace

import pytest

from skerry.node.demo_hetero import HeteroOptions, HeteroReport, failures, run_hetero
from skerry.node.demo_hosts import HostReport
from skerry.protocol.errors import ConfigError

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
    hop_bytes_forward=130.1,
    hop_bytes_backward=130.1,
    hop_bytes_dense=256.0,
    seconds=120.0,
)


def with_host(number: int, **changes) -> HeteroReport:
    hosts = list(REPORT.hosts)
    hosts[number] = replace(hosts[number], **changes)
    return replace(REPORT, hosts=tuple(hosts))


def test_a_demo_that_showed_everything_has_no_failure():
    assert failures(REPORT) == []
    assert json.loads(REPORT.to_json())["failures"] == []


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (with_host(1, role="replica"), "roles are"),
        (with_host(2, role=""), "roles are none"),
        (with_host(2, digest_round=9), "different rounds"),
        (with_host(3, shards={"block.1": "f" * 64}), "the hosts of block.1 do not agree"),
        (with_host(3, shards=SHARDS), "holds the whole model"),
        (with_host(1, bytes_sent=0), "ring-1 sent nothing"),
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
