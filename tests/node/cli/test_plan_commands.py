"""skerry plan, as a user types it: what it prints, in text and JSON, and its refusals."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skerry.node.cli.main import app
from skerry.pipeline.planning.swarm_file import SwarmFile
from skerry.protocol.errors import ConfigError

PAGE = Path(__file__).parents[3] / "docs" / "planning.md"
MODEL = """
[model]
layers = 8
d_model = 256
heads = 8
ffn_dim = 1024
[plan]
skip_ratio = 0.0
"""
PEERS = """
[[peers]]
name = "office"
memory = "4GB"
tflops = 0.02
upload = "50mbit"
[[peers]]
name = "laptop"
count = 3
memory = "85MB"
tflops = 0.01
upload = "20mbit"
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "peers.toml").write_text(MODEL + PEERS)
    return tmp_path


def planned(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["plan", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_plan_in_text_says_who_hosts_what_and_what_limits_it(files) -> None:
    text = planned("--peers", files / "peers.toml")
    first, expected, *_ = text.splitlines()
    assert re.fullmatch(r"1 full replica, 1 ring, 0 spares; \d+ stages of 8 blocks", first)
    assert re.fullmatch(r"expected +[\d,]+ text tokens/s", expected)
    assert re.search(r"^full replica 1: \d+ microbatches, .* s$", text, re.MULTILINE)
    assert re.search(r"office +computes .*blocks 0-7 \+ embedding, head, loss", text)
    assert {"laptop-1", "laptop-2", "laptop-3"} <= set(re.findall(r"laptop-\d", text))
    assert re.search(r"^limit +\S", text, re.MULTILINE)
    assert re.search(r"^a loss +if laptop-\d is lost .* \+\d+%", text, re.MULTILINE)


def test_json_holds_the_plan_and_every_path(files) -> None:
    found = json.loads(planned("--peers", files / "peers.toml", "--json", "--no-advice"))
    plan = found["plan"]
    assert found["remedies"] == []
    assert found["text_tokens_s"] > 0
    members = [member["peer"] for ring in plan["rings"] for member in ring["members"]]
    assert sorted(members) == ["laptop-1", "laptop-2", "laptop-3", "office"]
    for ring in plan["rings"]:
        for path in ring["paths"]:
            stages = [stage for hop in path["hops"] for stage in hop["stages"]]
            assert stages == list(range(len(plan["stages"])))
    assert set(found["uses"]) == set(members)
    assert found["bottleneck"]["peer"] in members


def test_advice_says_what_would_help_most_first(files) -> None:
    gains = [
        one["gain"]
        for one in json.loads(planned("--peers", files / "peers.toml", "--json"))["remedies"]
    ]
    assert gains
    assert gains == sorted(gains, reverse=True)
    text = planned("--peers", files / "peers.toml")
    assert re.search(r"^would help +\+\d+%  ", text, re.MULTILINE)


def test_peers_topology_and_run_file_can_be_three_files(files) -> None:
    sited = PEERS.replace("name =", 'site = "here"\nname =')
    (files / "who.toml").write_text(sited)
    (files / "where.toml").write_text(
        '[same_site]\nlatency = "1ms"\nbandwidth = "1gbit"\n[plan]\nslots = 2\n'
    )
    (files / "run.toml").write_text(MODEL.replace("[plan]\nskip_ratio = 0.0\n", ""))
    three = ["--peers", files / "who.toml", "--topology", files / "where.toml"]
    three += ["--run", files / "run.toml", "--json", "--no-advice"]
    found = json.loads(planned(*three))
    assert all(ring["in_flight"] <= 2 for ring in found["plan"]["rings"])
    (files / "all.toml").write_text(MODEL + sited)
    alone = json.loads(planned("--topology", files / "all.toml", "--json", "--no-advice"))
    assert alone["plan"]["stages"][-1]["stop"] == 8


def refused(*arguments: object) -> ConfigError:
    result = CliRunner().invoke(app, ["plan", *map(str, arguments)])
    assert isinstance(result.exception, ConfigError), result.output
    return result.exception


def test_bad_input_is_a_coded_error_that_names_the_file(files) -> None:
    assert "give --peers FILE or --topology FILE" in refused().detail
    missing = refused("--peers", files / "nothing.toml")
    assert missing.code == "SK-CFG-003"
    assert "nothing.toml: No such file" in missing.detail
    (files / "latin").write_bytes(b"name = '\xe9'")
    assert "not text in UTF-8" in refused("--peers", files / "latin").detail
    (files / "large").write_text("#" * (1024 * 1024 + 1))
    assert refused("--topology", files / "large").code == "SK-CFG-002"
    (files / "typo").write_text(MODEL.replace("layers", "layer") + PEERS)
    typo = refused("--peers", files / "typo")
    assert typo.code == "SK-CFG-001"
    assert "typo: unknown key 'model.layer'; did you mean 'layers'?" in typo.detail
    (files / "run.toml").write_text("[model]\nlayers = 0\n")
    assert (
        "run.toml: model.layers"
        in refused("--peers", files / "peers.toml", "--run", files / "run.toml").detail
    )


def test_peers_that_cannot_hold_the_model_are_told_what_is_short(files) -> None:
    (files / "small").write_text(MODEL + PEERS.replace('"4GB"', '"1MB"').replace("85MB", "1MB"))
    error = refused("--peers", files / "small")
    assert error.code == "SK-PLN-001"
    assert re.search(r"takes about [\d.]+ GiB in one piece; 4 peers have", error.detail)


def test_help_loads_neither_numba_nor_torch() -> None:
    code = (
        "import sys\nfrom skerry.node.cli.main import app\n"
        "try:\n    app(['plan', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'numba', 'numpy', 'torch'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"
    assert "[[peers]]" in result.stdout


def test_the_page_s_examples_are_valid_files() -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) >= 2
    for example in examples:
        SwarmFile.model_validate(tomllib.loads(example))


def test_the_page_lists_every_key() -> None:
    from skerry.pipeline.planning.swarm_file import LinkEntry, PeerEntry, PlanSection, SiteLink

    text = PAGE.read_text()
    for section in (SwarmFile, PeerEntry, SiteLink, LinkEntry, PlanSection):
        for key in section.model_fields:
            assert f"`{key}`" in text, key
