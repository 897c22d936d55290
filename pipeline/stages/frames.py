"""Tasks and results as bytes, for the socket pair between the node and its compute process.

A frame's body: the length of its head as 4 bytes big-endian, the head as JSON, and the byte fields
one after the other, whose names and lengths the head gives. What comes before the body on a stream
is up to the stream. Torch is not needed here: the node process writes tasks and reads results.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter

from skerry.pipeline.stages.tasks import Result, Task

MAX_HEAD_BYTES = 2**20
_LENGTH_BYTES = 4
_BUFFERS = "buffers"

M = TypeVar("M")

_TASK: TypeAdapter[Task] = TypeAdapter(Annotated[Task, Field(discriminator="kind")])
_RESULT: TypeAdapter[Result] = TypeAdapter(Annotated[Result, Field(discriminator="kind")])


def encode(message: Task | Result) -> bytes:
    """Return the body of a frame."""
    fields = dataclasses.asdict(message)
    buffers = {name: value for name, value in fields.items() if isinstance(value, bytes)}
    head: dict[str, object] = {k: v for k, v in fields.items() if k not in buffers}
    head[_BUFFERS] = {name: len(value) for name, value in buffers.items()}
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join((len(text).to_bytes(_LENGTH_BYTES, "big"), text, *buffers.values()))


def decode_task(body: bytes) -> Task:
    """Read a task. Raises: ValueError, and no other error, on what ``encode`` never writes."""
    return _decoded(body, _TASK.validate_python)


def decode_result(body: bytes) -> Result:
    """Read a result. Raises: ValueError, and no other error, on what ``encode`` never writes."""
    return _decoded(body, _RESULT.validate_python)


def _decoded(body: bytes, validate: Callable[[object], M]) -> M:
    end = _LENGTH_BYTES + int.from_bytes(body[:_LENGTH_BYTES], "big")
    if end > min(len(body), MAX_HEAD_BYTES):
        raise ValueError(f"head until byte {end} of {len(body)}, limit {MAX_HEAD_BYTES}")
    try:
        head: Any = json.loads(body[_LENGTH_BYTES:end])
    except RecursionError:
        raise ValueError("the head is nested too deeply") from None
    if not isinstance(head, dict) or not isinstance(lengths := head.pop(_BUFFERS, None), dict):
        raise ValueError("the head is not that of a frame")
    for name, length in lengths.items():
        if type(length) is not int or not 0 <= length <= len(body) - end or name in head:
            raise ValueError(f"{name}: {length} bytes, {len(body) - end} are left")
        head[name] = body[end : end + length]
        end += length
    if end != len(body):
        raise ValueError(f"{len(body) - end} bytes too many")
    return validate(head)
