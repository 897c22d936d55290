"""Options that several commands share, as dataclasses that become options field by field."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

import typer

Command = Callable[..., None]


def add_commands(app: typer.Typer, panel: str, commands: Iterable[Command]) -> None:
    """Add commands, spread, to ``app``, below the heading ``panel`` of its help."""
    for command in commands:
        app.command(rich_help_panel=panel)(spread(command))


def spread(command: Command) -> Command:
    """Return the command with each dataclass among its parameters replaced by the fields.

    The fields' annotations say which options they are, just as a parameter's own would; their
    defaults must be plain values. Called with them, the command is handed the dataclass.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {
        name: kind for name, kind in hints.items() if is_dataclass(kind) and isinstance(kind, type)
    }

    @wraps(command)
    def call(**given: object) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    taken = list(_parameters(command, hints))
    call.__signature__ = Signature(taken)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in taken}
    return call


def _parameters(command: Command, hints: dict[str, Any]) -> Iterator[Parameter]:
    """Yield what the command line is to take, in the command's own order."""
    for parameter in signature(command).parameters.values():
        kind = hints[parameter.name]
        if not is_dataclass(kind):
            yield parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=kind)
            continue
        inner = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            yield Parameter(
                field.name,
                Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=inner[field.name],
            )
