"""The generated code in proto/ is what the schemas say."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def generated(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    return {path.name: path.read_text() for path in paths}


@pytest.mark.skipif(find_spec("grpc_tools") is None, reason="grpcio-tools is not installed")
def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    schemas = sorted(path.name for path in (ROOT / "proto").glob("*.proto"))
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "skerry/proto=proto", *outputs]
    command += [f"proto/{name}" for name in schemas]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    fresh = generated(tmp_path / "skerry" / "proto")
    assert len(fresh) == len(SUFFIXES) * len(schemas)
    committed = generated(ROOT / "proto")
    stale = sorted(name for name in fresh | committed if fresh.get(name) != committed.get(name))
    assert not stale, f"regenerate (see CONTRIBUTING.md): {', '.join(stale)}"
