"""The Dockerfile, read: what it copies exists and is not ignored, what it runs is ours.

No image is built here; that needs a container engine.
"""

import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from skerry.node.cli.main import app
from skerry.node.config import load_config

ROOT = Path(__file__).parents[1]
LINES = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def copied() -> list[str]:
    return [
        source
        for line in instructions("COPY")
        if not line.startswith("--from=")
        for source in line.split()[:-1]
    ]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == set(copied())
    assert [name for name in copied() if not (ROOT / name).exists()] == []


def test_every_folder_of_the_wheel_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["setuptools"]["packages"]
    assert {package.split(".")[1] for package in packages} <= set(copied())
    extras = re.findall(r"/src\[([a-z0-9,]+)\]", "\n".join(instructions("RUN")))
    assert set(extras[0].split(",")) <= set(project["project"]["optional-dependencies"])
    torch = next(d for d in project["project"]["dependencies"] if d.startswith("torch"))
    assert any(f'"{torch}"' in line for line in instructions("RUN"))


def test_commands_are_those_of_the_package() -> None:
    [entry], [default] = (
        map(json.loads, instructions("ENTRYPOINT")),
        map(json.loads, instructions("CMD")),
    )
    [health] = [json.loads(line.split(" CMD ")[1]) for line in instructions("HEALTHCHECK")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert entry[0] == health[0] == next(iter(project["project"]["scripts"]))
    known = get_command(app).commands  # type: ignore[attr-defined]
    assert {default[0], health[1]} <= set(known)


def test_settings_are_known_and_the_port_is_exposed(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = dict(pair.split("=", 1) for line in instructions("ENV") for pair in line.split())
    for name in [name for name in pairs if name.startswith("SKERRY_")]:
        monkeypatch.setenv(name, pairs[name])
    config = load_config(Path("/nowhere/config.toml"))
    assert instructions("EXPOSE") == [str(config.listen.port)]
    [volume] = instructions("VOLUME")
    assert Path(pairs["SKERRY_HOME"]).parent == Path(volume)


def test_it_does_not_run_as_root_and_holds_no_secret() -> None:
    last = max(i for i, line in enumerate(LINES) if line.startswith("FROM "))
    users = [line for line in LINES[last:] if line.startswith("USER ")]
    assert users
    assert users[-1] != "USER root"
    assert not re.search(r"(?i)token=|password|secret|identity\.pem", "\n".join(LINES))
