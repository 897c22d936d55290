"""The built wheel holds every module, and pyproject.toml names every folder that has one."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("proto", "protocol", "compression", "pipeline", "recovery", "node")
PROJECT_FILES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")


def listed_packages() -> set[str]:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    return set(tool["setuptools"]["packages"])


def modules() -> set[str]:
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return {f"skerry/{path.relative_to(ROOT).as_posix()}" for path in found}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in a wheel built from a copy, so that the checkout gets no build folder."""
    copy = tmp_path_factory.mktemp("source")
    for name in PROJECT_FILES:
        shutil.copy(ROOT / name, copy / name)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--no-index", "--wheel-dir", str(target), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = target.glob("skerry-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_every_module(wheel_names: set[str]) -> None:
    in_wheel = {name for name in wheel_names if name.endswith(".py")}
    assert in_wheel == modules()


def test_wheel_holds_schemas_stubs_and_licence(wheel_names: set[str]) -> None:
    schemas = [*(ROOT / "proto").glob("*.proto"), *(ROOT / "proto").glob("*.pyi")]
    assert {f"skerry/proto/{path.name}" for path in schemas} <= wheel_names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel_names)


def test_wheel_holds_the_status_page(wheel_names: set[str]) -> None:
    static = ROOT / "node" / "page" / "static"
    files = {path.relative_to(ROOT) for path in static.rglob("*") if path.is_file()}
    assert {f"skerry/{path.as_posix()}" for path in files} <= wheel_names


def test_wheel_holds_nothing_else(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"skerry"}


def test_pyproject_lists_each_folder_with_modules() -> None:
    folders = {module.rsplit("/", 1)[0].replace("/", ".") for module in modules()}
    assert folders == listed_packages()


def test_type_checkers_see_every_folder() -> None:
    links = {path.name: path.resolve() for path in (ROOT / ".imports" / "skerry").iterdir()}
    assert links == {folder: (ROOT / folder).resolve() for folder in FOLDERS}


def test_no_module_has_a_name_of_the_top_level_folders_outside_them() -> None:
    """Python files beside pyproject.toml would be importable in a checkout but not in the wheel."""
    assert [path.name for path in ROOT.glob("*.py")] == []
