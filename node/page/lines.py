"""Lines of the event log as the status page reads them.

The log is the only source of the page's history. A line that cannot be read, or that says
nothing about rounds or failures, is shown in the log and otherwise passed over.
"""

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from skerry.node.cli.wording import printable
from skerry.node.page.models import LogEntry

_MAX_TEXT = 500
"""Characters of a line's details that the page keeps."""
_MAX_NAME = 40


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    time: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Unix seconds."""


class Part(BaseModel):
    """One contribution, as announced."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    peer: str
    text_tokens: Annotated[int, Field(ge=0)]
    loss: float
    bytes: Annotated[int, Field(ge=0)]


class Started(_Line):
    """The daemon started."""

    event: Literal["started"]


class Stopped(_Line):
    """The daemon ended in good order."""

    event: Literal["stopped"]


class Entered(_Line):
    """The daemon takes part in a run from now on."""

    event: Literal["entered"]
    run: str
    name: str = ""


class Left(_Line):
    """The daemon takes part in the run no more."""

    event: Literal["left"]


class Paused(_Line):
    """The user wants no training here, or wants it again."""

    event: Literal["paused", "resumed"]


class Failed(_Line):
    """Something of this node broke."""

    event: Literal["failed", "compute-failed"]
    text: str = ""
    error: str = ""


class PeerTurned(_Line):
    """A peer came, fell silent, was given up or said goodbye."""

    event: Literal["peer-up", "peer-down", "peer-dead", "peer-left"]
    peer: str
    evidence: tuple[str, ...] = ()
    """What speaks against its being there, in words, oldest first."""


class ComputeTurned(_Line):
    """The compute process ended, or is up."""

    event: Literal["compute-lost", "compute-ready"]


class Began(_Line):
    """A round began here."""

    event: Literal["began"]
    round: int
    parent: str
    leader: str | None
    roster: tuple[str, ...]
    sent: dict[str, int]
    """Bytes by kind since the daemon started."""
    received: dict[str, int]


class Ended(_Line):
    """The last round is done."""

    event: Literal["ended"]
    sent: dict[str, int]
    received: dict[str, int]


class Phased(_Line):
    """The phase changed."""

    event: Literal["phase"]
    phase: str
    round: int


class ViewChanged(_Line):
    """A leader was passed over."""

    event: Literal["view"]
    round: int
    view: int
    leader: str | None
    passed_over: str | None


class Announced(Part, _Line):
    """A contribution was announced."""

    event: Literal["announced"]
    round: int


class Checked(_Line):
    """A contribution is here and was found sound, or not: then with the reason."""

    event: Literal["checked"]
    round: int
    peer: str
    reason: str


class Committed(_Line):
    """A round's commit came."""

    event: Literal["committed"]
    round: int
    view: int
    commit: str
    parent: str
    leader: str
    included: tuple[Part, ...]
    late: tuple[str, ...]
    text_tokens: int
    total_text_tokens: int


class Applied(_Line):
    """The outer update is done."""

    event: Literal["applied"]
    round: int
    digest: str


class Validated(_Line):
    """The validation loss was measured."""

    event: Literal["validated"]
    round: int
    loss: float


class Downloaded(_Line):
    """A state came from other peers."""

    event: Literal["state-downloaded"]
    bytes: int


class Healed(_Line):
    """Shards that a ring has lost come back to this peer, or train again."""

    event: Literal["healing", "healed"]
    text: str
    seconds: float = 0.0


class Planned(_Line):
    """From this round on another plan is in force."""

    event: Literal["planned"]
    round: int
    rings: tuple[tuple[str, ...], ...] = ()
    spares: tuple[str, ...] = ()


class Slow(_Line):
    """A member of a ring is slower than the plan counts on; another plan is made."""

    event: Literal["slow"]
    round: int
    peer: str
    times: float
    """How many times as long as planned it takes, relative to the others."""


class Diverged(_Line):
    """Own parameters were not the agreed ones."""

    event: Literal["diverged"]
    round: int
    mine: str
    agreed: str


class Ordered(_Line):
    """From this round on the owner's order about a peer holds."""

    event: Literal["removed", "readmitted"]
    round: int
    peer: str
    reason: str = ""


class AlphaSet(_Line):
    """From this round on alpha is another one."""

    event: Literal["outer-lr"]
    round: int
    outer_lr: float | None


class Refused(_Line):
    """Something of a peer was not accepted."""

    event: Literal["refused"]
    peer: str
    reason: str


class Warned(_Line):
    """Something the user should know."""

    event: Literal["warning"]
    text: str


Line = (
    Started
    | Stopped
    | Entered
    | Left
    | Paused
    | Failed
    | PeerTurned
    | ComputeTurned
    | Began
    | Ended
    | Phased
    | ViewChanged
    | Announced
    | Checked
    | Committed
    | Applied
    | Validated
    | Downloaded
    | Healed
    | Planned
    | Slow
    | Diverged
    | Ordered
    | AlphaSet
    | Refused
    | Warned
)
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="event")])


def read_line(text: str) -> Line | None:
    """Return a line that bears on rounds or failures; None for any other."""
    try:
        return _LINE.validate_json(text)
    except ValidationError:
        return None


def committed_line(details: dict[str, Any]) -> Committed:
    """Return a commit that is known from the chain, without a time of its own."""
    return Committed.model_validate({"time": 0.0, "event": "committed", **details})


def log_entry(number: int, text: str) -> LogEntry:
    """Return a line for the page's log; one that was cut by a crash is shown as it is."""
    try:
        record = json.loads(text)
        time, event = float(record.pop("time")), str(record.pop("event"))
        details = " ".join(f"{key}={_words(value)}" for key, value in record.items())
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        time, event, details = 0.0, "unreadable", text
    time = max(0.0, time) if math.isfinite(time) else 0.0
    name, details = printable(event)[:_MAX_NAME], printable(details)[:_MAX_TEXT]
    return LogEntry(id=number, time=time, event=name, text=details)


def of_run(lines: Sequence[str], run_id: str) -> list[bool]:
    """Say for each line of a log whether it belongs to one run, or to what came before it.

    The log of a home goes on over all runs; "entered" says which one follows.
    """
    belongs = [False] * len(lines)
    inside, anywhere, since = False, False, 0
    for number, text in enumerate(lines):
        line = read_line(text)
        if isinstance(line, Started):
            inside = anywhere = False
        elif isinstance(line, Entered):
            inside, anywhere = line.run == run_id, True
            belongs[since:number] = [belongs[i] or inside for i in range(since, number)]
        belongs[number] = inside
        if anywhere:  # what another run's daemon did is not before this one
            since = number + 1
        if isinstance(line, Left):
            inside = anywhere = False
    return belongs


def _words(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
