"""skerry explain: cause and fix of a code, without a daemon."""

import json

import pytest
from typer.testing import CliRunner

from skerry.node.cli.main import app
from skerry.protocol.error_catalog import CATALOG
from skerry.protocol.errors import NetworkError


def test_shows_cause_fix_and_exit_code() -> None:
    shown = CliRunner().invoke(app, ["explain", "sk-net-002"])
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        "code       SK-NET-002",
        f"cause      {CATALOG['SK-NET-002'].cause}",
        f"fix        {CATALOG['SK-NET-002'].fix}",
        f"exit code  {NetworkError.exit_code}",
    ]


def test_lists_all_codes() -> None:
    lines = CliRunner().invoke(app, ["explain"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(CATALOG)
    assert [line.split(maxsplit=1)[1] for line in lines] == [e.cause for e in CATALOG.values()]


def test_lists_all_codes_as_json() -> None:
    found = json.loads(CliRunner().invoke(app, ["explain", "--format", "json"]).stdout)
    assert {each["code"]: each["fix"] for each in found} == {c: e.fix for c, e in CATALOG.items()}


@pytest.mark.parametrize(
    ("given", "hint"),
    [("SK-NET-02", "the nearest is SK-NET-002"), ("nonsense", "skerry explain lists all")],
)
def test_an_unknown_code_gets_a_hint(given: str, hint: str) -> None:
    refused = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["explain", given])
    assert refused.exit_code == 2
    assert hint in refused.stderr
