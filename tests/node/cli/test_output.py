"""JSON of the control API: the schema's own names, all of them, with numbers as numbers."""

import json

import pytest

from skerry.node.cli.options import Format
from skerry.node.cli.output import error_lines, message_to_dict, print_json, print_result
from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import ConfigError


def test_every_field_is_there_under_its_own_name() -> None:
    found = message_to_dict(pb.StatusReply())
    assert list(found) == [field.name for field in pb.StatusReply.DESCRIPTOR.fields]
    assert found["uptime_seconds"] == 0.0
    assert found["addresses"] == []
    assert found["run"] is None


def test_large_numbers_stay_numbers_and_maps_are_sorted() -> None:
    run = pb.RunStatus(text_tokens=2**63, refused_by_reason={"size": 2, "hash": 1})
    run.peers.add(peer_id="x", self=True, loss=float("nan"))
    found = message_to_dict(pb.StatusReply(run=run))["run"]
    assert found["text_tokens"] == 2**63
    assert list(found["refused_by_reason"].items()) == [("hash", 1), ("size", 2)]
    assert found["peers"][0]["self"] is True
    assert found["peers"][0]["loss"] is None


def test_json_is_one_line(capsys) -> None:
    print_json(message_to_dict(pb.StatusReply(warning="a\nb", run=pb.RunStatus(name="ä"))))
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out)["run"]["name"] == "ä"
    assert "ä" in out


def test_result_is_aligned_text_or_json(capsys) -> None:
    data = {"run_id": "ab", "expired": False, "until": None, "addresses": ["/a", "/b"]}
    print_result(data, Format.TEXT)
    assert capsys.readouterr().out.splitlines() == [
        "run id     ab",
        "expired    no",
        "until      -",
        "addresses  /a, /b",
    ]
    print_result(data, Format.JSON)
    assert json.loads(capsys.readouterr().out) == data


def test_error_is_one_line_and_its_fix_another() -> None:
    lines = list(error_lines(ConfigError("SK-CFG-003", "a\nb \x1b[2J c")))
    assert lines[0] == "error SK-CFG-003: a b [2J c"
    assert lines[1].startswith("fix: Check the path")
    assert len(lines) == 2


def test_unknown_value_is_not_guessed() -> None:
    from skerry.node.cli.output import _plain

    with pytest.raises(TypeError, match="no JSON form"):
        _plain(None)
