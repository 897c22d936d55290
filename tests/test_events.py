"""docs/events.md names every event that the code writes, with every field, and no others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| `([a-z-]+)` \|[^|]*\|([^|]*)\|$", re.MULTILINE)
TOLD = ROOT / "node" / "run" / "notable.py"
"""Makes lines as (name, details) for the one call of ``write`` that has neither in its text."""

Events = dict[str, set[str]]


def documented(text: str) -> Events:
    return {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in ROW.findall(text)}


def names_in(node: ast.expr) -> list[str]:
    """Return the strings that an expression may be: one, or one of two."""
    if isinstance(node, ast.IfExp):
        return [*names_in(node.body), *names_in(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def written(tree: ast.AST) -> Iterator[tuple[list[str], set[str]]]:
    """Yield names and fields of each call of a journal's ``write``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value).rsplit(".", 1)[-1].lstrip("_")
            if (owner, node.func.attr) == ("journal", "write"):
                yield names_in(node.args[0]), {key.arg or "**" for key in node.keywords}


def told(tree: ast.AST) -> Iterator[tuple[list[str], set[str]]]:
    """Yield names and fields of each pair of a name and its details."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    def fields_of(node: ast.AST) -> set[str]:
        """Return the keys of a dict, also of those that called functions return within it."""
        found: set[str] = set()
        for part in ast.walk(node):
            if isinstance(part, ast.Dict):
                found |= {key.value for key in part.keys if isinstance(key, ast.Constant)}
            elif isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
                function = functions.get(part.func.id)
                for returned in ast.walk(function) if function else ():
                    if isinstance(returned, ast.Return) and returned.value:
                        found |= fields_of(returned.value)
        return found

    for node in ast.walk(tree):
        pair = node.value if isinstance(node, ast.Yield | ast.Return) else None
        if isinstance(pair, ast.Tuple) and len(pair.elts) == 2 and names_in(pair.elts[0]):
            yield names_in(pair.elts[0]), fields_of(pair.elts[1])


def events_of_the_code() -> Events:
    found: Events = {}
    for path in sorted((ROOT / "node").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines = [*written(tree), *(told(tree) if path == TOLD else ())]
        for names, fields in lines:
            assert names or fields == {"**"}, f"{path}: an event whose name cannot be read"
            for name in names:
                found.setdefault(name, set()).update(fields)
    return found


def test_page_is_what_the_code_writes() -> None:
    page = documented((ROOT / "docs" / "events.md").read_text(encoding="utf-8"))
    assert page == events_of_the_code()


def test_planted_differences_are_found() -> None:
    source = 'self._journal.write("note" if x else "warning", text=1)\njournal.write("a", b=2, **c)'
    assert list(written(ast.parse(source))) == [
        (["note", "warning"], {"text"}),
        (["a"], {"b", "**"}),
    ]
    source = 'def f():\n    return {"x": 1}\ndef g():\n    yield "e", {"y": [f()], **f()}\n'
    assert list(told(ast.parse(source))) == [(["e"], {"x", "y"})]
    row = "| `e` | when | `x` it; `y` |\n| not a row |\n"
    assert documented(row) == {"e": {"x", "y"}}
