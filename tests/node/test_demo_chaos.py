"""What the demo of faults must have shown, and what it refuses; real daemons: tests/chaos."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from skerry.node.demo_chaos import ChaosOptions, run_chaos
from skerry.node.demo_chaos_report import ChaosReport, failures, figures, injuries
from skerry.node.demo_hosts import HostReport
from skerry.node.demo_injuries import Kind, Recovery
from skerry.protocol.errors import ConfigError

HOSTS = (
    HostReport("replica", "12D3KooWa", "replica", {"embed": "e", "block.0": "0"}, 36, 10),
    HostReport("ring-1", "12D3KooWb", "stage", {"block.0": "0"}, 36, 10),
)
REPORT = ChaosReport(
    seed=7,
    recoveries=tuple(
        Recovery(kind, ("ring-1",), ("block.0",), "swap", 12.5, 2.5, 2.25) for kind in Kind
    ),
    hosts=HOSTS,
    rounds=36,
    text_tokens=1000,
    contributed_text_tokens=900,
    trained_text_tokens=1100,
    val_loss_start=5.5,
    val_loss_end=2.5,
    unigram_entropy=3.2,
    seconds=200.0,
)


def test_a_demo_that_showed_everything_has_no_failure():
    assert failures(REPORT) == []
    assert json.loads(REPORT.to_json())["recoveries"][0]["rung"] == "swap"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"recoveries": REPORT.recoveries[1:]}, "failure of a peer"),
        ({"hosts": (HOSTS[0], replace(HOSTS[1], shards={"block.0": "f"}))}, "block.0 do not agree"),
        ({"hosts": (HOSTS[0], replace(HOSTS[1], digest_round=35))}, "different rounds"),
        ({"text_tokens": 899}, "899 text tokens are counted, 900 were contributed"),
        ({"text_tokens": 1101}, "1,101 text tokens are counted, 1,100 were trained"),
        ({"val_loss_end": 3.3}, "validation loss 3.300"),
        ({"val_loss_end": 0.0}, "validation loss 0.000"),
        ({"left_behind": ("17 skerry",)}, "left behind: 17 skerry"),
    ],
)
def test_what_was_not_shown_is_named(changes, why):
    assert any(why in failure for failure in failures(replace(REPORT, **changes)))


def test_each_failure_has_a_line_with_rung_seconds_and_losses():
    console = Console(file=io.StringIO(), width=200)
    console.print(injuries(REPORT.recoveries))
    console.print(figures(REPORT))
    printed = console.file.getvalue()
    for kind in Kind:
        assert f"{kind} (ring-1)" in printed
    assert "swap" in printed and "12.5 s" in printed and "2.500" in printed and "2.250" in printed
    assert "1,000 text tokens" in printed and "seed 7" in printed


def test_too_few_rounds_and_a_folder_in_use_are_refused_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError):
        run_chaos(ChaosOptions(rounds=3, keep=tmp_path))
    (tmp_path / "kept" / "replica").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds an earlier demo"):
        run_chaos(ChaosOptions(keep=tmp_path / "kept"))
