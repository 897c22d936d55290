"""Machine-readable output: protobuf messages as JSON with the schema's own names."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import typer
from google.protobuf.message import Message

from skerry.node.cli.options import Format
from skerry.protocol.errors import SkerryError


def message_to_dict(message: Message) -> dict[str, Any]:
    """Return every field by its name in the schema, whether set or not.

    Unlike protobuf's own JSON, 64-bit integers are numbers. An absent message and a number
    that is not finite become null; map entries are sorted.
    """
    found = {}
    for name in message.DESCRIPTOR.fields_by_name:
        value = getattr(message, name)
        absent = isinstance(value, Message) and not message.HasField(name)
        found[name] = None if absent else _plain(value)
    return found


def print_json(data: object) -> None:
    """Print one JSON document on one line."""
    typer.echo(json.dumps(data, allow_nan=False, ensure_ascii=False))


def print_result(data: dict[str, Any], output: Format) -> None:
    """Print names and values, one a line or as one JSON object."""
    if output is Format.JSON:
        print_json(data)
        return
    width = max(len(name) for name in data)
    for name, value in data.items():
        typer.echo(f"{name.replace('_', ' '):<{width}}  {_shown(value)}")


def print_error(error: SkerryError) -> None:
    """Print what happened and what to do about it, one line each, on stderr."""
    for line in error_lines(error):
        typer.echo(line, err=True)


def error_lines(error: SkerryError) -> Iterator[str]:
    """Yield the two lines that people and ``background`` read."""
    detail = " ".join(error.detail.split())
    yield f"error {error.code}: {''.join(c for c in detail if c.isprintable())}"
    yield f"fix: {error.fix}"


def _shown(value: object) -> str:
    match value:
        case list():
            return ", ".join(map(str, value))
        case bool():
            return "yes" if value else "no"
        case None:
            return "-"
        case _:
            return str(value)


def _plain(value: object) -> object:
    """Return a field's value as JSON has it."""
    match value:
        case Message():
            return message_to_dict(value)
        case float():
            return value if math.isfinite(value) else None
        case str() | int():
            return value
        case Mapping():
            return {key: value[key] for key in sorted(value)}
        case Iterable():
            return [_plain(item) for item in value]
        case _:
            raise TypeError(f"no JSON form for {type(value)}")
