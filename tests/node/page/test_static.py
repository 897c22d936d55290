"""The static page keeps to its policy, and its types to the models, without a browser."""

import re
import typing
from html.parser import HTMLParser
from pathlib import Path

import pytest

from skerry.node.page import models
from skerry.node.page import round as round_models
from skerry.node.page.data import Data

STATIC = Path(__file__).parents[3] / "node" / "page" / "static"
MODULES = sorted((STATIC / "js").glob("*.js"))
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function")
TYPEDEF = re.compile(r"@typedef \{object\} (\w+)\n(.*?)\*/", re.DOTALL)
PROPERTY = re.compile(r"@property \{(.+)\} (\w+)")
INLINE_TYPEDEF = re.compile(r"@typedef \{\{(.+?)\}\} (\w+)")


class Tags(HTMLParser):
    """Every element of a document with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def tags() -> list[tuple[str, dict[str, str | None]]]:
    return Tags((STATIC / "index.html").read_text()).found


def models_of_the_api() -> dict[str, type[Data]]:
    """Return the models of data that the page reads; HealthAnswer and Gap it does not."""
    found = {
        name: value
        for name, value in (vars(models) | vars(round_models)).items()
        if isinstance(value, type) and issubclass(value, Data) and value is not Data
    }
    return {name: it for name, it in found.items() if name not in ("HealthAnswer", "Gap")}


def typedefs() -> dict[str, dict[str, str]]:
    """Return the types of answers.js: name, then type by property."""
    text = (STATIC / "js" / "answers.js").read_text()
    found = {
        name: {key: kind for kind, key in PROPERTY.findall(body)}
        for name, body in TYPEDEF.findall(text)
    }
    for body, name in INLINE_TYPEDEF.findall(text):
        found[name] = dict(part.split(": ") for part in body.split(", "))
    return found


def may_be_null(annotation: object) -> bool:
    return type(None) in typing.get_args(annotation)


def test_types_of_the_page_are_those_of_the_models() -> None:
    known = typedefs()
    for name, model in models_of_the_api().items():
        assert set(known[name]) == set(model.model_fields), name
        for key, field in model.model_fields.items():
            assert may_be_null(field.annotation) == ("null" in known[name][key]), f"{name}.{key}"


def test_literals_of_the_page_are_those_of_the_models() -> None:
    text = (STATIC / "js" / "answers.js").read_text()
    for name, literal in (
        ("PeerState", models.PeerState),
        ("Link", models.Link),
        ("Severity", models.Severity),
    ):
        (body,) = re.findall(rf"@typedef \{{(.+)\}} {name} ", text)
        assert set(re.findall(r'"(\w+)"', body)) == set(typing.get_args(literal)), name


def test_no_inline_code_and_nothing_from_elsewhere(
    tags: list[tuple[str, dict[str, str | None]]],
) -> None:
    for tag, attributes in tags:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag
        for name in ("src", "href"):
            target = attributes.get(name)
            if target and not target.startswith("#"):
                assert (STATIC / target.removeprefix("static/")).is_file(), target
        assert tag != "script" or attributes.get("src")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_make_no_markup_and_load_only_each_other(path: Path) -> None:
    text = path.read_text()
    assert MARKUP.search(text) is None
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []
    for target in re.findall(r'from "(.+?)"', text):
        assert (path.parent / target).is_file(), target


def test_style_loads_nothing() -> None:
    assert re.search(r"url\(|@import|@font-face", (STATIC / "style.css").read_text()) is None


def test_every_id_that_a_module_asks_for_is_there_once(
    tags: list[tuple[str, dict[str, str | None]]],
) -> None:
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    asked = {name for path in MODULES for name in re.findall(r'byId\("(.+?)"\)', path.read_text())}
    assert asked <= set(ids)
    labels = [
        word
        for _, attributes in tags
        for name in ("aria-labelledby", "aria-describedby")
        for word in (attributes.get(name) or "").split()
    ]
    assert set(labels) <= set(ids)


def test_modules_are_small() -> None:
    assert {path.name for path in MODULES if len(path.read_text().splitlines()) > 500} == set()


def test_vendored_library_has_its_licence() -> None:
    assert "Permission is hereby granted" in (STATIC / "vendor" / "uplot" / "LICENSE").read_text()
