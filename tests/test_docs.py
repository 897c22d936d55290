"""The documentation says what the code does: error codes, exit codes, commands, the run file."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from skerry.node.cli.main import app
from skerry.node.config import NodeConfig
from skerry.protocol.error_catalog import CATALOG
from skerry.protocol.errors import FAMILIES
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import RunFile, Section, parse_run_file

ROOT = Path(__file__).parents[1]
ERROR_ROW = re.compile(r"^\| (SK-[A-Z]+-\d{3}) \| (.+) \| (.+) \|$", re.MULTILINE)
SETTING_ROW = re.compile(
    r"^\| `([a-z_.]+)` \| `(SKERRY_\w+)` \|[^|]*\| `?([^`|]*?)`? \|", re.MULTILINE
)
SHELL_BLOCK = re.compile(r"^ *```(?:ba)?sh\b[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^ *|&& |\| |\$\(|docker exec skerry )(?:\w+=\S+ )?(skerry [^#&|`)]+)")
PAGES = ["README.md", "CONTRIBUTING.md"] + [
    page.relative_to(ROOT).as_posix() for page in sorted((ROOT / "docs").rglob("*.md"))
]
EXIT_ROW = re.compile(r"^\| (\d+) \| `([A-Z]+(?:` `[A-Z]+)*)`", re.MULTILINE)


def test_error_page_is_as_generated() -> None:
    generated = runpy.run_path(str(ROOT / "docs" / "generate_errors.py"))["page"]()
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == generated


def test_error_page_holds_every_code_and_each_familys_exit_code() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = {code: (cause, fix) for code, cause, fix in ERROR_ROW.findall(text)}
    assert rows == {code: (entry.cause, entry.fix) for code, entry in CATALOG.items()}
    documented = {
        name: int(code) for code, names in EXIT_ROW.findall(text) for name in names.split("` `")
    }
    assert documented == {name: family.exit_code for name, family in FAMILIES.items()}


def test_example_run_file_is_valid_and_names_every_key() -> None:
    text = (ROOT / "docs" / "run.example.toml").read_text(encoding="utf-8")
    parse_run_file(text, PeerId("12D3KooWExample"))
    assert keys_of(tomllib.loads(text)) == known_keys(RunFile)


def test_example_run_file_shows_the_defaults() -> None:
    data = tomllib.loads((ROOT / "docs" / "run.example.toml").read_text(encoding="utf-8"))
    assert RunFile.model_validate(data) == RunFile(name="example", rounds=200)


def test_configuration_page_holds_the_example() -> None:
    example = (ROOT / "docs" / "run.example.toml").read_text(encoding="utf-8")
    assert example in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def keys_of(data: dict[str, object], prefix: str = "") -> set[str]:
    """Dotted names of all values in a TOML document."""
    found: set[str] = set()
    for key, value in data.items():
        nested = isinstance(value, dict)
        found |= keys_of(value, f"{prefix}{key}.") if nested else {prefix + key}
    return found


def known_keys(section: type[Section], prefix: str = "") -> set[str]:
    """Dotted names of all values a section takes."""
    found: set[str] = set()
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            found |= known_keys(inner, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    missing = [link for link in targets if not (ROOT / page).parent.joinpath(link).exists()]
    assert missing == []


def test_configuration_page_lists_every_setting_with_its_default() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = {key: (variable, default) for key, variable, default in SETTING_ROW.findall(text)}
    expected = {}
    for section, values in NodeConfig().model_dump(mode="json").items():
        for key, value in values.items():
            shown = "1s" if value == 1.0 and isinstance(value, float) else str(value or 0)
            shown = str(value).lower() if isinstance(value, bool) else shown
            shown = "none" if value == [] else shown
            expected[f"{section}.{key}"] = (f"SKERRY_{section}__{key}".upper(), shown)
    assert documented == expected


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_documentation_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [line for block in SHELL_BLOCK.findall(text) for line in block.splitlines()]
    lines += re.findall(r"`(skerry [^`]+)`", text)
    commands = [part for line in lines for part in COMMAND.findall(line)]
    assert [text for command in commands for text in unknown_parts(command)] == []
    assert page != "README.md" or len(commands) >= 8


def test_planted_command_is_found_unknown() -> None:
    assert unknown_parts("skerry dance") == ["skerry dance: no command 'dance'"]
    assert unknown_parts("skerry demo --sing") == ["skerry demo --sing: no option '--sing'"]
    assert unknown_parts("skerry token burn X") == ["skerry token burn X: no command 'burn'"]
    assert unknown_parts("skerry token inspect TOKEN --format json") == []


def unknown_parts(command: str) -> list[str]:
    """Name the sub-commands and options of a command line that do not exist."""
    place = get_command(app)
    found = []
    for word in command.split()[1:]:
        if word.startswith("-"):
            given = [[*each.opts, *each.secondary_opts] for each in place.params]
            options = {name for names in given for name in names}
            if word not in options | {"-h", "--help"}:
                found.append(f"{command}: no option {word!r}")
        elif isinstance(place, TyperGroup):
            if word not in place.commands:
                return [f"{command}: no command {word!r}"]
            place = place.commands[word]
    return found
