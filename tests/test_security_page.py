"""docs/security.md names a test for every defence, and each of them is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (?!attack|---)([^|]+) \|([^|]+)\|([^|]+)\|$", re.MULTILINE)
NAME = re.compile(r"`(tests/[\w/]+\.py)((?:::\w+)*)`")


def rows(text: str) -> dict[str, list[tuple[str, str]]]:
    return {attack: NAME.findall(tests) for attack, _, tests in ROW.findall(text)}


def exists(path: str, name: str) -> bool:
    """Say whether a file holds a class or function of that name."""
    file = ROOT / path
    if not file.is_file():
        return False
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    return not name or set(name.strip(":").split("::")) <= found


def test_each_defence_has_tests_and_they_exist() -> None:
    table = rows((ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    assert len(table) >= 25
    assert [attack for attack, tests in table.items() if not tests] == []
    missing = [p + n for tests in table.values() for p, n in tests if not exists(p, n)]
    assert missing == []


def test_a_planted_name_is_missed() -> None:
    text = "| attack | defence | test |\n|---|---|---|\n| a | b | `tests/conftest.py::nobody` |\n"
    assert rows(text) == {"a": [("tests/conftest.py", "::nobody")]}
    assert not exists("tests/conftest.py", "::nobody") and not exists("tests/none.py", "")
