"""Imports go one way: proto <- protocol; pipeline <- protocol, compression; ... <- node."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT: dict[str, set[str]] = {
    "proto": set(),
    "protocol": {"proto"},
    "compression": set(),
    "pipeline": {"protocol", "compression"},
    "recovery": {"protocol", "compression", "pipeline"},
    "node": {"proto", "protocol", "compression", "pipeline", "recovery"},
}
NO_TENSORS = {"proto", "protocol"}
WIRE_READER = "protocol/codec.py"
READERS = {"peer_pb2": WIRE_READER, "ring_pb2": "protocol/rings/codec.py"}


def imported_modules(source: str) -> set[str]:
    """Every module named in an import, wherever it stands (lazy and TYPE_CHECKING ones too)."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def violations(path: str, source: str) -> list[str]:
    """What the imports of the module at ``path`` (relative to the root) break."""
    folder = path.split("/")[0]
    found = []
    for name in sorted(imported_modules(source)):
        top, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if not top:
            found.append(f"{path}: relative import {name}")
        elif top == "skerry" and target in MAY_IMPORT.keys() - MAY_IMPORT[folder] - {folder}:
            found.append(f"{path}: {folder} must not import {target}")
        elif top in {"torch", "numpy"} and folder in NO_TENSORS:
            found.append(f"{path}: {folder} must not import {top}")
        elif top in MAY_IMPORT:
            found.append(f"{path}: import skerry.{name}, not {name}")
        found += [
            f"{path}: only {reader} reads the wire's messages"
            for schema, reader in READERS.items()
            if name.startswith(f"skerry.proto.{schema}.") and path != reader
        ]
    return found


def modules() -> list[Path]:
    """Every module of the six folders that a person wrote."""
    found = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if not path.stem.endswith(("_pb2", "_pb2_grpc"))]


def test_imports_go_one_way() -> None:
    found: list[str] = []
    for path in modules():
        found += violations(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    assert modules()
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("protocol/x.py", "import torch"),
        ("protocol/x.py", "def f():\n    from numpy import array"),
        ("protocol/rounds/x.py", "from skerry.pipeline.model import Decoder"),
        ("compression/x.py", "from skerry.protocol.ids import PeerId"),
        ("compression/x.py", "from skerry import protocol"),
        ("pipeline/x.py", "from skerry.proto import peer_pb2"),
        ("recovery/x.py", "if TYPE_CHECKING:\n    import skerry.node.daemon"),
        ("node/x.py", "from .config import NodeConfig"),
        ("node/x.py", "from protocol.ids import PeerId"),
        ("node/x.py", "from skerry.proto.peer_pb2 import Envelope"),
        ("protocol/codec.py", "from skerry.proto.ring_pb2 import Frame"),
    ],
)
def test_planted_violation_is_found(path: str, source: str) -> None:
    assert len(violations(path, source)) >= 1


def test_allowed_imports_pass() -> None:
    source = (
        "import torch\nfrom skerry.protocol.ids import PeerId\nfrom skerry.compression import x"
    )
    assert violations("pipeline/x.py", source) == []
    assert violations(WIRE_READER, "from skerry.proto.peer_pb2 import Envelope") == []


def test_folders_are_namespaces() -> None:
    """An __init__.py would let ./compression hide the standard library's module of that name."""
    assert [
        str(path) for folder in MAY_IMPORT for path in (ROOT / folder).rglob("__init__.py")
    ] == []
