"""Dataclasses of options: the command line takes their fields, the command the dataclass."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from skerry.node.cli.spreading import add_commands


@dataclass(frozen=True, slots=True)
class Colour:
    name: Annotated[str, typer.Option("--colour", help="Which one.")] = "red"
    depth: Annotated[int | None, typer.Option("--depth")] = None


@pytest.fixture
def told() -> list[tuple[str, Colour, bool]]:
    return []


@pytest.fixture
def invoke(told):
    def paint(
        *,
        what: Annotated[str, typer.Argument()],
        colour: Colour,
        gloss: Annotated[bool, typer.Option("--gloss")] = False,
    ) -> None:
        """Paint something.

        With care.
        """
        told.append((what, colour, gloss))

    def wash() -> None:
        """Wash."""

    app = typer.Typer()
    add_commands(app, "Home", (paint, wash))
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_fields_are_options_with_their_defaults(invoke, told) -> None:
    assert invoke("paint", "door").exit_code == 0
    assert invoke("paint", "--colour", "blue", "gate", "--depth", "3", "--gloss").exit_code == 0
    assert told == [("door", Colour(), False), ("gate", Colour("blue", 3), True)]


def test_wrong_values_are_usage_errors(invoke, told) -> None:
    assert invoke("paint", "door", "--depth", "deep").exit_code == 2
    assert told == []


def test_help_holds_the_commands_own_words_and_the_fields(invoke) -> None:
    text = invoke("paint", "--help").output
    assert "Paint something." in text and "With care." in text
    assert "--colour" in text and "Which one." in text
    assert "Home" in invoke("--help").output
